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
    conda:
        "../envs/gauntlet.yaml"
    threads: 1
    resources:
        mem_mb=lambda wildcards, attempt: 2000 * attempt,
        runtime=lambda wildcards, attempt: 30 * attempt,
    params:
        configs=CONFIGS,
    shell:
        "gauntlet report {params.configs} --experiment {wildcards.experiment} > {log} 2>&1"
