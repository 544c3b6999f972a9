# Verifies that a checkpoint is whole: every tensor there, of the right shape, finite, not all zero.
#
# needs: {run}/finetune.json, where the run was trained again
# makes: {run}/checkpoints/{epoch}.json (its manifest), {run}/checkpoints/{epoch}/ (the adapter, as peft loads it)
# read by: run_evaluation


rule verify_checkpoint:
    input:
        check_scripts_and_need("{run}/checkpoints/{epoch}.json"),
    output:
        "{run}/checkpoints/{epoch}.json",
    log:
        "logs/verify_checkpoint/{run}/{epoch}.log",
    params:
        job=lambda wildcards: jobs.verification(wildcards.run, wildcards.epoch),
        reason=reason("{run}/checkpoints/{epoch}.json"),
    message:
        "Verify checkpoint {wildcards.run}/{wildcards.epoch} ({params.reason})"
    script:
        "../scripts/verify_checkpoint.py"
