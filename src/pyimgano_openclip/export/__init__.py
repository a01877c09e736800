"""Writes a detector to one ONNX file that gives the same scores, maps and labels without torch."""
