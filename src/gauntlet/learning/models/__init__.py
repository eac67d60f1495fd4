"""Networks of normalization, body and head: architectures, their parts, and stored weights."""
