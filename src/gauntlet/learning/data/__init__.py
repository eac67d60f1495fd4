"""Images: where they come from, the stored split, and batches on the device."""
