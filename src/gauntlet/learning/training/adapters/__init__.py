"""Adapters to optimizers of libraries."""
