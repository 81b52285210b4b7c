"""Heads: from the student's tokens to predictions at chosen positions."""
