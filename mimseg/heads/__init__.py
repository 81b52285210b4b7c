"""Turns the student's tokens into predictions at chosen positions."""
