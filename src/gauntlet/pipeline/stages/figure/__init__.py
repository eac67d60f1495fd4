"""Stage `figure`: the figures of an experiment."""
