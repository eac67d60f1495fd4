"""Networks: a normalisation, a body and a head; how they are built, and their weights on disk."""
