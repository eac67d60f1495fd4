"""Tests of what is told of a run, and of what aggregation refuses."""
