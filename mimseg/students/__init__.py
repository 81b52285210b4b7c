"""Holds the backbones that are pretrained and carried into dense prediction."""
