"""Reads images, writes COCO files, draws scenes and checks data."""
