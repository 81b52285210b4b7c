"""Models as ONNX files, checked against torch."""
