# Collects the results of all evaluations.
#
# needs: the records of trainings and evaluations
# makes: results/evals.csv, results/summary.md, results/provenance.json, results/comparisons.csv; results/report.html and
#        results/figures/, which are never declared: results without a page are results
# read by: the user


rule collect_results:
    input:
        needs("results/summary.md"),
    output:
        "results/evals.csv",
        "results/summary.md",
        "results/provenance.json",
    log:
        "logs/collect_results/results.log",
    params:
        # A function, for in a plain text braces would be wildcards.
        folder=lambda wildcards: str(experiment.folder),
    message:
        "Collect the results"
    script:
        "../scripts/collect_results.py"
