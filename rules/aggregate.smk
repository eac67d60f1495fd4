# Combine the cells of one experiment, check them against each other, and summarize. Configuration: `attacks`, `axes`, titles,
# `headline`.
rule aggregate:
    input:
        cell_inputs("aggregate"),
    output:
        summary=update("results/{experiment}/summary.parquet"),
        evaluations=update("results/{experiment}/evaluations.parquet"),
        certificates=update("results/{experiment}/certificates.parquet"),
        certified=update("results/{experiment}/certified.parquet"),
        comparisons=update("results/{experiment}/comparisons.parquet"),
        attacks=update("results/{experiment}/attacks.parquet"),
        diagnostics=update("results/{experiment}/diagnostics.parquet"),
        choices=update("results/{experiment}/choices.parquet"),
        variants=update("results/{experiment}/variants.parquet"),
        effects=update("results/{experiment}/effects.parquet"),
        origins=update("results/{experiment}/origins.parquet"),
        csv=update("results/{experiment}/table.csv"),
        markdown=update("results/{experiment}/table.md"),
    log:
        "logs/{experiment}/aggregate.log",
    benchmark:
        "logs/{experiment}/aggregate.tsv"
    conda:
        "../envs/gauntlet.yaml"
    threads: 1
    resources:
        **job_resources("aggregate", rule="aggregate"),
    params:
        configs=config_files,
    shell:
        "gauntlet aggregate --experiment {wildcards.experiment} -- {params.configs:q} > {log:q} 2>&1"
