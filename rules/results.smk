# Collects the results of all evaluations.
#
# needs: the records of trainings and evaluations
# makes: results/evals.csv, results/summary.md, results/provenance.json, results/comparisons.csv; results/report.html and
#        results/figures/, which are never declared: results without a page are results
# read by: the user, also by way of `snakemake --report`; report/ has the captions


rule collect_results:
    input:
        check_scripts_and_need("results/summary.md"),
    output:
        report(
            "results/evals.csv",
            caption="../report/evals.rst",
            category="Results",
            labels={"what": "all evaluations"},
        ),
        report(
            "results/summary.md",
            caption="../report/summary.rst",
            category="Results",
            labels={"what": "summary"},
        ),
        report(
            "results/comparisons.csv",
            caption="../report/comparisons.rst",
            category="Results",
            labels={"what": "comparisons"},
        ),
        report(
            "results/provenance.json",
            caption="../report/provenance.rst",
            category="Results",
            labels={"what": "provenance"},
        ),
    log:
        "logs/collect_results/results.log",
    params:
        # A function, for in a plain text braces would be wildcards.
        folder=lambda wildcards: str(experiment.folder),
    message:
        "Collect the results"
    script:
        "../scripts/collect_results.py"
