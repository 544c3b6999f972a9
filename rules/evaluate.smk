# Evaluates a model on a task with inspect-ai.
#
# needs: {run}/eval/{cell}.slurm (its job script), the checkpoint's manifest, the data set's cache
# makes: {run}/eval/logs/{cell}.eval, and {run}/eval/{cell}.json, written last
# read by: collect_results


rule run_evaluation:
    input:
        check_scripts_and_need("{run}/eval/{cell}.json"),
    output:
        eval_log="{run}/eval/logs/{cell}.eval",
        record="{run}/eval/{cell}.json",
    log:
        "logs/run_evaluation/{run}/{cell}.log",
    # Before trainings that wait for a place in the queue: results show early.
    priority: 1
    threads: CPUS
    resources:
        # Jobs at a time on this machine's GPU, which profiles/local limits.
        gpu_jobs=1,
        # Seconds between submissions.
        stagger=1,
    params:
        script=python("run_evaluation.py"),
        job=script_job("{run}/eval/{cell}.json", jobs.evaluation, "run", "cell"),
        # The most evaluations that the executor may submit as one job.
        together=settings.evaluations_per_job,
    message:
        "Evaluate {params.job.subject} ({params.job.reason}); log: {log}"
    shell:
        "{params.script} --job {params.job:q} --id {params.job.number} --log {log:q}"
