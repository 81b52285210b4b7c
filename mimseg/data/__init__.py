"""Reads images, draws scenes and checks data."""
