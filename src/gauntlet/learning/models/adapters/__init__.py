"""Networks of other libraries, built without their weights for the size, channels and classes of the data."""
