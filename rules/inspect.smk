# Compute arrays of one model for figures. Configuration: `training.negatives` and what they are made with.
rule inspect:
    input:
        cell_inputs("inspect"),
    output:
        arrays=update(
            "results/{experiment}/inspections/variant={variant}/seed={seed}/inspection.parquet"
        ),
    log:
        "logs/{experiment}/inspect.{variant}.{seed}.log",
    benchmark:
        "logs/{experiment}/inspect.{variant}.{seed}.tsv"
    group:
        job_group("inspect")
    conda:
        "../envs/gauntlet.yaml"
    threads: 1
    resources:
        **job_resources("inspect", rule="inspect"),
    params:
        configs=config_files,
    shell:
        "gauntlet inspect --experiment {wildcards.experiment} --variant {wildcards.variant} --seed {wildcards.seed} --threads {threads} -- {params.configs:q} > {log:q} 2>&1"
