# Prebuilds the cache of a data set, so that evaluations starting at once do not race for it.
#
# needs: nothing that is made here
# makes: cache/{data_set}.json, and the cache itself in a folder named by the data's content
# read by: run_evaluation


rule prebuild_cache:
    input:
        check_scripts_and_need("cache/{data_set}.json"),
    output:
        "cache/{data_set}.json",
    log:
        "logs/prebuild_cache/{data_set}.log",
    params:
        job=lambda wildcards: jobs.cache(wildcards.data_set),
        reason=reason("cache/{data_set}.json"),
    message:
        "Prebuild the data-set cache {wildcards.data_set} ({params.reason})"
    script:
        "../scripts/prebuild_cache.py"
