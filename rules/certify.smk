# Compute one certificate of one model. Configuration: the certificate, `samples`.
rule certify:
    input:
        cell_inputs("certify"),
    output:
        samples=update(
            "results/{experiment}/certificates/variant={variant}/seed={seed}/certificate={certificate}/samples.parquet"
        ),
    log:
        "logs/{experiment}/certify.{variant}.{seed}.{certificate}.log",
    benchmark:
        "logs/{experiment}/certify.{variant}.{seed}.{certificate}.tsv"
    group:
        job_group("certify")
    conda:
        "../envs/gauntlet.yaml"
    threads: 1
    resources:
        **job_resources("certify", rule="certify"),
    params:
        configs=config_files,
    shell:
        "gauntlet certify --experiment {wildcards.experiment} --variant {wildcards.variant} --seed {wildcards.seed} --certificate {wildcards.certificate} --threads {threads} -- {params.configs:q} > {log:q} 2>&1"
