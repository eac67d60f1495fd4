# Probe one model for gradient masking. Configuration: `diagnostics`, `samples`, the budgets of `attacks`.
rule diagnose:
    input:
        cell_inputs("diagnose"),
    output:
        probes=update(
            "results/{experiment}/diagnostics/variant={variant}/seed={seed}/probes.parquet"
        ),
    log:
        "logs/{experiment}/diagnose.{variant}.{seed}.log",
    benchmark:
        "logs/{experiment}/diagnose.{variant}.{seed}.tsv"
    group:
        job_group("diagnose")
    conda:
        "../envs/gauntlet.yaml"
    threads: 1
    resources:
        **job_resources("diagnose", rule="diagnose"),
    params:
        configs=config_files,
    shell:
        "gauntlet diagnose --experiment {wildcards.experiment} --variant {wildcards.variant} --seed {wildcards.seed} --threads {threads} -- {params.configs:q} > {log:q} 2>&1"
