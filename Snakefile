"""Fine-tune with torchtune, evaluate every epoch with inspect-ai: experiment_summary.yaml to results.

snakemake --profile profiles/local --config experiment_dir=PATH
"""


include: "rules/common.smk"


workdir: str(experiment.folder)


report: "report/workflow.rst"


wildcard_constraints:
    run=rf"(?!(cache|results|logs)/){NAME_PATTERN}",
    epoch=r"epoch_\d+|given",
    cell=rf"{NAME_PATTERN}_(epoch\d+|base)",
    data_set=NAME_PATTERN,
    check=NAME_PATTERN,


localrules:
    all,
    check_model,
    verify_checkpoint,
    prebuild_cache,
    collect_results,


rule all:
    input:
        plan.finals(),
        trainings_behind_epochs,
        "results/evals.csv",
        "results/summary.md",
        "results/comparisons.csv",
        "results/provenance.json",
        pages_for_report(),


include: "rules/check.smk"
include: "rules/finetune.smk"
include: "rules/epochs.smk"
include: "rules/verify.smk"
include: "rules/cache.smk"
include: "rules/evaluate.smk"
include: "rules/results.smk"


show_plan()


onstart:
    watch_for_garbage()
    interrupt_local_jobs_at_hangup()
    claim_experiment()
    keep_to_budget()
    write_job_scripts()
    try_job_scripts()
    move_what_is_redone()
    take_what_is_offered()
    begin_action_logs()
    settle_earlier_jobs()


onsuccess:
    conclude()


onerror:
    collect_what_is_done()
