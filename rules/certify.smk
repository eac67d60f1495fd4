# Compute one certificate of one model.
rule certify:
    input:
        reads("certify"),
    output:
        samples=update(
            "results/{experiment}/certificates/variant={variant}/seed={seed}/certificate={certificate}/samples.parquet"
        ),
    log:
        "logs/{experiment}/certify.{variant}.{seed}.{certificate}.log",
    benchmark:
        "logs/{experiment}/certify.{variant}.{seed}.{certificate}.tsv"
    conda:
        "../envs/gauntlet.yaml"
    threads: 1
    resources:
        mem_mb=lambda wildcards, attempt: 4000 * attempt,
        runtime=lambda wildcards, attempt: 240 * attempt,
    params:
        configs=CONFIGS,
    shell:
        "gauntlet certify {params.configs} --experiment {wildcards.experiment} --variant {wildcards.variant} --seed {wildcards.seed} --certificate {wildcards.certificate} --threads {threads} > {log} 2>&1"
