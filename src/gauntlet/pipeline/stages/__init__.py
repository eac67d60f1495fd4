"""The stages, a folder each: its declaration, and the function that does its work."""
