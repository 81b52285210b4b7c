"""Compares predictions with targets: one value per position, in float32."""
