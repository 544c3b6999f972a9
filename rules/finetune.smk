# Fine-tunes a run with torchtune.
#
# needs: {run}/finetune.slurm (its job script, which reads {run}/finetune.yaml)
# makes: {run}/finetune.json, and checkpoints in {run}/artifacts/ (a link), which are never declared:
#        Snakemake removes declared outputs before a job
# read by: verify_checkpoint, collect_results


rule run_finetune:
    input:
        check_scripts_and_need("{run}/finetune.json"),
    output:
        "{run}/finetune.json",
    log:
        "logs/run_finetune/{run}.log",
    threads: CPUS
    resources:
        # Jobs at a time on this machine's GPU, which profiles/local limits.
        gpu_jobs=1,
        # Seconds between submissions.
        stagger=5,
    params:
        script=python("run_finetune.py"),
        job=script_job("{run}/finetune.json", jobs.finetune, "run"),
    message:
        "Fine-tune {wildcards.run} ({params.job.reason}); log: {log}"
    shell:
        "{params.script} --job {params.job:q} --id {params.job.number} --log {log:q}"
