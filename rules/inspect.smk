# Show what the parts of one model compute, as arrays for figures.
rule inspect:
    input:
        reads("inspect"),
    output:
        arrays=update(
            "results/{experiment}/inspections/variant={variant}/seed={seed}/inspection.parquet"
        ),
    log:
        "logs/{experiment}/inspect.{variant}.{seed}.log",
    benchmark:
        "logs/{experiment}/inspect.{variant}.{seed}.tsv"
    group:
        company("inspect")
    conda:
        "../envs/gauntlet.yaml"
    threads: 1
    resources:
        **asks("inspect", rule="inspect"),
        slot=1,
    params:
        configs=CONFIGS,
    shell:
        "gauntlet inspect {params.configs} --experiment {wildcards.experiment} --variant {wildcards.variant} --seed {wildcards.seed} --threads {threads} > {log} 2>&1"
