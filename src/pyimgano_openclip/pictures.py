"""The documented place of :func:`overlay`; the code is in ``maps/pictures.py``."""

from .full_install import full_install

with full_install():
    from .maps.pictures import overlay

__all__ = ["overlay"]
