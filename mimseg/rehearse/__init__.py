"""Makes any config small, and tries it on its own data."""
