"""Measures a training step beside the stock models."""
