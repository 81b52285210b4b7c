"""Makes masks for a whole batch, on the device, reproducible from a seed."""
