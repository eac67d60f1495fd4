"""Inspection of trained models: activation functions, filters, and images that maximize units and classes."""
