"""Knows the folders of common data sets."""
