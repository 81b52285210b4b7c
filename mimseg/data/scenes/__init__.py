"""Draws labeled scenes."""
