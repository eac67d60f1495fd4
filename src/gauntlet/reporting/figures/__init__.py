"""Figures: one per module, each a function from result tables to a matplotlib figure, without model or data set."""
