"""Runs the slots together: the algorithm, its objectives, its teachers."""
