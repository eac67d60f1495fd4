# Write the table of published numbers next to the measured ones. Configuration: `published`, titles.
rule published:
    input:
        cell_inputs("published"),
    output:
        rows=update("results/{experiment}/published.parquet"),
        latex=update("results/{experiment}/tables/published.tex"),
        markdown=update("results/{experiment}/tables/published.md"),
        csv=update("results/{experiment}/tables/published.csv"),
    log:
        "logs/{experiment}/published.log",
    benchmark:
        "logs/{experiment}/published.tsv"
    group:
        job_group("published")
    conda:
        "../envs/gauntlet.yaml"
    threads: 1
    resources:
        **job_resources("published", rule="published"),
    params:
        configs=config_files,
    shell:
        "gauntlet published --experiment {wildcards.experiment} -- {params.configs:q} > {log:q} 2>&1"
