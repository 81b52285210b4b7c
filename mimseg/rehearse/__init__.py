"""Makes any config small."""
