"""Compares initializations on downstream tasks, and reports the comparison."""
