"""Adapters to attack libraries."""
