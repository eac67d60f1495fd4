"""The model as attacks see it, and the parts that attacks share."""
