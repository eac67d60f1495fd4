"""Data sources, one a file: each reads images from where they are and returns them as `RawData`."""
