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
    group:
        company("certify")
    conda:
        "../envs/gauntlet.yaml"
    threads: 1
    resources:
        **asks("certify", rule="certify"),
        slot=1,
    params:
        configs=CONFIGS,
    shell:
        "gauntlet certify {params.configs} --experiment {wildcards.experiment} --variant {wildcards.variant} --seed {wildcards.seed} --certificate {wildcards.certificate} --threads {threads} > {log} 2>&1"
