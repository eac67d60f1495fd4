"""Stage `aggregate`: all rows of an experiment in one table, and what follows from them."""
