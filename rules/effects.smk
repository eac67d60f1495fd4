# Write the tables of the effects of factors, for experiments with grids. Configuration: `axes`, titles.
rule effects:
    input:
        cell_inputs("effects"),
    output:
        latex=update("results/{experiment}/tables/effects.tex"),
        markdown=update("results/{experiment}/tables/effects.md"),
        csv=update("results/{experiment}/tables/effects.csv"),
    log:
        "logs/{experiment}/effects.log",
    benchmark:
        "logs/{experiment}/effects.tsv"
    group:
        job_group("effects")
    conda:
        "../envs/gauntlet.yaml"
    threads: 1
    resources:
        **job_resources("effects", rule="effects"),
    params:
        configs=config_files,
    shell:
        "gauntlet effects --experiment {wildcards.experiment} -- {params.configs:q} > {log:q} 2>&1"
