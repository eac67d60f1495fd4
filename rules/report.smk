# Write the page of one experiment. Configuration: all of it.
rule page:
    input:
        cell_inputs("report"),
    output:
        page=update("results/{experiment}/report.html"),
    log:
        "logs/{experiment}/report.log",
    benchmark:
        "logs/{experiment}/report.tsv"
    group:
        job_group("report")
    conda:
        "../envs/gauntlet.yaml"
    threads: 1
    resources:
        **job_resources("report", rule="page"),
    params:
        configs=config_files,
    shell:
        "gauntlet report --experiment {wildcards.experiment} -- {params.configs:q} > {log:q} 2>&1"
