"""Turns the student into a dense backbone."""
