"""Tests on a GPU, run by `make gpu`; skipped without one."""
