"""Stage `table`: the tables of a paper."""
