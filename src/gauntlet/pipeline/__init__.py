"""The graph of cells, staleness, paths, stages, status and the cluster."""
