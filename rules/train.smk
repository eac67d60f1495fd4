# Train one variant with one seed. Configuration: `training` and the variant.
rule train:
    input:
        cell_inputs("train"),
    output:
        weights=update(
            "results/{experiment}/models/variant={variant}/seed={seed}/model.safetensors"
        ),
        manifest=update(
            "results/{experiment}/models/variant={variant}/seed={seed}/manifest.json"
        ),
        history=update(
            "results/{experiment}/models/variant={variant}/seed={seed}/history.parquet"
        ),
    log:
        "logs/{experiment}/train.{variant}.{seed}.log",
    benchmark:
        "logs/{experiment}/train.{variant}.{seed}.tsv"
    group:
        job_group("train")
    conda:
        "../envs/gauntlet.yaml"
    threads: lambda wildcards: GRAPH.processes(cell_of("train", wildcards))
    resources:
        **job_resources("train", rule="train"),
    params:
        configs=config_files,
    shell:
        "gauntlet train --experiment {wildcards.experiment} --variant {wildcards.variant} --seed {wildcards.seed} --threads {threads} -- {params.configs:q} > {log:q} 2>&1"
