# Checks a model with its prompts and data on this machine, before a GPU is asked for.
#
# needs: nothing that is made here
# makes: cache/checks/{check}.json, named by all that its outcome depends on
# read by: run_finetune, run_evaluation


rule check_model:
    input:
        check_scripts_and_need("cache/checks/{check}.json"),
    output:
        "cache/checks/{check}.json",
    log:
        "logs/check_model/{check}.log",
    params:
        job=lambda wildcards: jobs.check(wildcards.check),
        what=lambda wildcards: plan.model_checks.by_name[wildcards.check].what,
    message:
        "Check model {params.job[model]}: {params.what}; log: {log}"
    script:
        "../scripts/check_model.py"
