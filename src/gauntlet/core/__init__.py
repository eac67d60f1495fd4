"""Foundations without configuration, model or cluster: errors, files, parquet, tensors, random draws, norm balls."""
