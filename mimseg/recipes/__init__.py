"""Finds the shipped configs and describes the methods among them."""
