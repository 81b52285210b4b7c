"""Writes docs/methods.md from small runs."""
