"""Foundations that know no configuration, model or cluster: errors, files, parquet, tensors, random draws."""
