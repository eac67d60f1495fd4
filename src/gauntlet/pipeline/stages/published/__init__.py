"""Stage `published`: published numbers next to the measured ones."""
