"""Turns a teacher's tokens into targets, without learned parameters."""
