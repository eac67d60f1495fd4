"""Data: sources, preparation and storage of splits, batches on the device."""
