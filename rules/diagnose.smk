# Probe one model for gradient masking.
rule diagnose:
    input:
        reads("diagnose"),
    output:
        probes=update(
            "results/{experiment}/diagnostics/variant={variant}/seed={seed}/probes.parquet"
        ),
    log:
        "logs/{experiment}/diagnose.{variant}.{seed}.log",
    benchmark:
        "logs/{experiment}/diagnose.{variant}.{seed}.tsv"
    group:
        company("diagnose")
    conda:
        "../envs/gauntlet.yaml"
    threads: 1
    resources:
        **asks("diagnose", rule="diagnose"),
        slot=1,
    params:
        configs=CONFIGS,
    shell:
        "gauntlet diagnose {params.configs} --experiment {wildcards.experiment} --variant {wildcards.variant} --seed {wildcards.seed} --threads {threads} > {log} 2>&1"
