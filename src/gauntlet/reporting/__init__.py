"""Statistics, aggregation, figures, tables and the page: from results to a paper, without torch."""
