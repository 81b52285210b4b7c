"""Checks data before training."""
