"""Stage `inspect`: arrays that the parts of trained networks compute, for figures."""
