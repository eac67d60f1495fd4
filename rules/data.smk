# Fetch, split and store one data set. Configuration: `dataset`.
rule prepare:
    input:
        cell_inputs("prepare"),
    output:
        train=update("data/{dataset}/train.safetensors"),
        validation=update("data/{dataset}/validation.safetensors"),
        test=update("data/{dataset}/test.safetensors"),
        manifest=update("data/{dataset}/manifest.json"),
    log:
        "logs/data/prepare.{dataset}.log",
    benchmark:
        "logs/data/prepare.{dataset}.tsv"
    conda:
        "../envs/gauntlet.yaml"
    threads: 4
    resources:
        **job_resources("prepare", rule="prepare"),
    params:
        configs=config_files,
    shell:
        "gauntlet prepare --dataset {wildcards.dataset} -- {params.configs:q} > {log:q} 2>&1"
