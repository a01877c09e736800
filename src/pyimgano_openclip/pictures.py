"""The documented place of :func:`overlay`; the code is in ``maps/pictures.py``."""

from .maps.pictures import overlay

__all__ = ["overlay"]
