"""Runs named, resumable steps."""
