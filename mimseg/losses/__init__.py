"""Losses: one value a position, in float32."""
