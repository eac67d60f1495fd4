# Draw one figure in every format. Configuration: `variants`, titles.
rule figure:
    input:
        cell_inputs("figure"),
    output:
        pdf=update("results/{experiment}/figures/{name}.pdf"),
        svg=update("results/{experiment}/figures/{name}.svg"),
        png=update("results/{experiment}/figures/{name}.png"),
    log:
        "logs/{experiment}/figure.{name}.log",
    benchmark:
        "logs/{experiment}/figure.{name}.tsv"
    group:
        job_group("figure")
    conda:
        "../envs/gauntlet.yaml"
    threads: 1
    resources:
        **job_resources("figure", rule="figure"),
    params:
        configs=config_files,
    shell:
        "gauntlet figures --experiment {wildcards.experiment} --name {wildcards.name} -- {params.configs:q} > {log:q} 2>&1"
