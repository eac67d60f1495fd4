"""Stage `prepare`: stored data sets."""
