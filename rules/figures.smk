# Draw one figure in every format.
rule figure:
    input:
        reads("figure"),
    output:
        pdf=update("results/{experiment}/figures/{figure}.pdf"),
        svg=update("results/{experiment}/figures/{figure}.svg"),
        png=update("results/{experiment}/figures/{figure}.png"),
    log:
        "logs/{experiment}/figure.{figure}.log",
    benchmark:
        "logs/{experiment}/figure.{figure}.tsv"
    group:
        company("figure")
    conda:
        "../envs/gauntlet.yaml"
    threads: 1
    resources:
        **asks("figure", rule="figure"),
        slot=1,
    params:
        configs=CONFIGS,
    shell:
        "gauntlet figures {params.configs} --experiment {wildcards.experiment} --name {wildcards.figure} > {log} 2>&1"
