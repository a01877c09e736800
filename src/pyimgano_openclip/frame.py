"""The documented place of :func:`read_pixels`; the code is in ``images/reading.py``."""

from .images.reading import read_pixels

__all__ = ["read_pixels"]
