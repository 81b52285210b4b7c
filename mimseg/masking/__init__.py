"""Masks for a whole batch, made on the device, reproducible from a seed."""
