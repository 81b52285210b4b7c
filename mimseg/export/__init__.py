"""Exports models to ONNX files, checked against torch."""
