# Write the tables of a paper. Configuration: `variants`, titles, `headline`.
rule table:
    input:
        cell_inputs("table"),
    output:
        latex=update("results/{experiment}/tables/table.tex"),
        macros=update("results/{experiment}/tables/macros.tex"),
        markdown=update("results/{experiment}/tables/table.md"),
        csv=update("results/{experiment}/tables/table.csv"),
    log:
        "logs/{experiment}/table.log",
    benchmark:
        "logs/{experiment}/table.tsv"
    group:
        job_group("table")
    conda:
        "../envs/gauntlet.yaml"
    threads: 1
    resources:
        **job_resources("table", rule="table"),
    params:
        configs=config_files,
    shell:
        "gauntlet tables --experiment {wildcards.experiment} -- {params.configs:q} > {log:q} 2>&1"
