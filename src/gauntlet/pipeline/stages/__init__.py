"""The stages: each reads files, calls the part of the package that does the work, and publishes what it made."""
