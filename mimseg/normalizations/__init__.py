"""Normalizations: from a teacher's tokens to targets, without learned parameters."""
