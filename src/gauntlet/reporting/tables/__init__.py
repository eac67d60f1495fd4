"""Tables of a paper in LaTeX, Markdown and CSV, with a LaTeX macro for every number, from result files alone."""
