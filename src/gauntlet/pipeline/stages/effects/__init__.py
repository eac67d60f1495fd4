"""Stage `effects`: the tables of the effects of factors."""
