# Run one attack on one model, or gather what its shards have finished. Configuration: the attack, `samples`, `examples`.
rule evaluate:
    input:
        cell_inputs("evaluate", shards=True),
    output:
        samples=update(
            "results/{experiment}/evaluations/variant={variant}/seed={seed}/attack={attack}/samples.parquet"
        ),
        examples=update(
            "results/{experiment}/evaluations/variant={variant}/seed={seed}/attack={attack}/examples.safetensors"
        ),
    log:
        "logs/{experiment}/evaluate.{variant}.{seed}.{attack}.log",
    benchmark:
        "logs/{experiment}/evaluate.{variant}.{seed}.{attack}.tsv"
    group:
        job_group("evaluate")
    conda:
        "../envs/gauntlet.yaml"
    threads: 1
    resources:
        **job_resources("evaluate", rule="evaluate"),
    params:
        configs=config_files,
    shell:
        "gauntlet evaluate --experiment {wildcards.experiment} --variant {wildcards.variant} --seed {wildcards.seed} --attack {wildcards.attack} --threads {threads} -- {params.configs:q} > {log:q} 2>&1"


# Run one attack on a share of the samples. Finished parts are kept next to the marks, by their recipe.
rule shard:
    input:
        cell_inputs("evaluate"),
    output:
        mark=temp(
            touch(
                "results/{experiment}/evaluations/variant={variant}/seed={seed}/attack={attack}/.shard-{shard}-of-{shards}"
            )
        ),
    log:
        "logs/{experiment}/evaluate.{variant}.{seed}.{attack}.{shard}-of-{shards}.log",
    benchmark:
        "logs/{experiment}/evaluate.{variant}.{seed}.{attack}.{shard}-of-{shards}.tsv"
    wildcard_constraints:
        shard=r"\d+",
        shards=r"\d+",
    group:
        job_group("evaluate")
    conda:
        "../envs/gauntlet.yaml"
    threads: 1
    resources:
        **job_resources("evaluate", rule="shard"),
    params:
        configs=config_files,
    shell:
        "gauntlet evaluate --experiment {wildcards.experiment} --variant {wildcards.variant} --seed {wildcards.seed} --attack {wildcards.attack} --shard {wildcards.shard}/{wildcards.shards} --threads {threads} -- {params.configs:q} > {log:q} 2>&1"
