"""Scores images with an exported detector: NumPy, Pillow and onnxruntime, no torch, no pyimgano.

What the file's input and outputs mean, for other languages too, is in the README beside this file.
"""

from .detector import OnnxDetector

__all__ = ["OnnxDetector"]
