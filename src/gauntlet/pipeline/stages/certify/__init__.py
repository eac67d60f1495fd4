"""Stage `certify`: certificates of trained networks."""
