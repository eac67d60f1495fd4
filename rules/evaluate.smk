# Run one attack on one model.
rule evaluate:
    input:
        reads("evaluate"),
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
    conda:
        "../envs/gauntlet.yaml"
    threads: 1
    resources:
        mem_mb=lambda wildcards, attempt: 4000 * attempt,
        runtime=lambda wildcards, attempt: 240 * attempt,
    params:
        configs=CONFIGS,
    shell:
        "gauntlet evaluate {params.configs} --experiment {wildcards.experiment} --variant {wildcards.variant} --seed {wildcards.seed} --attack {wildcards.attack} --threads {threads} > {log} 2>&1"
