"""Data sources, one per file: each reads images and returns them as `RawData`."""
