"""Measures features without training anything: token diversity."""

from mimseg.analysis.token_diversity import token_diversity

__all__ = ["token_diversity"]
