"""Writes a detector to one ONNX file: its scores, maps and labels in float32, without torch."""
