# Write the page of one experiment.
rule page:
    input:
        reads("report"),
    output:
        page=update("results/{experiment}/report.html"),
    log:
        "logs/{experiment}/report.log",
    benchmark:
        "logs/{experiment}/report.tsv"
    group:
        company("report")
    conda:
        "../envs/gauntlet.yaml"
    threads: 1
    resources:
        **asks("report", rule="page"),
        slot=1,
    params:
        configs=CONFIGS,
    shell:
        "gauntlet report {params.configs} --experiment {wildcards.experiment} > {log} 2>&1"
