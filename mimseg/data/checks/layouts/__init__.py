"""Checks the layouts of common data sets."""
