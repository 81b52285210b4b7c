"""Serves the project itself: documentation tables, records, measurements."""
