# Waits until an epoch is trained, while its training goes on (early evaluation). Only executor slurm-attached has such
# jobs: it submits nothing for them, and looks for the whole checkpoint of the training that it follows.
#
# needs: what the training needs
# makes: .snakemake/run-experiment/epochs/{run}/{epoch}.json, a mark of this session
# read by: verify_checkpoint, of all epochs but the last


rule await_epoch:
    input:
        check_scripts_and_need(".snakemake/run-experiment/epochs/{run}/{epoch}.json"),
    output:
        ".snakemake/run-experiment/epochs/{run}/{epoch}.json",
    log:
        "logs/await_epoch/{run}/{epoch}.log",
    # After the training itself.
    priority: -1
    resources:
        # It holds no place of `--jobs`: nothing runs.
        _nodes=0,
    params:
        job=script_job("{run}/finetune.json", jobs.finetune, "run"),
    message:
        "Wait until {wildcards.epoch} of {wildcards.run} is trained"
    shell:
        "echo 'Only executor slurm-attached waits for epochs.' > {log:q}; exit 1"
