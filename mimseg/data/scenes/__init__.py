"""Draws labelled scenes."""
