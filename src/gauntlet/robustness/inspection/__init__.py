"""Inspection of trained models: activations, filters and the images that excite units and classes."""
