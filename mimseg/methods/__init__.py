"""All methods side by side: their slots made small, the table of them, and a short run of each."""
