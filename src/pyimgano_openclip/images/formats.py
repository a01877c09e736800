"""The file formats that are read."""

from __future__ import annotations

from PIL import Image

# Pillow supports forty more; one of them, EPS, runs Ghostscript on the file.
FORMATS = ("AVIF", "BMP", "GIF", "JPEG", "JPEG2000", "PNG", "PPM", "TIFF", "WEBP")


def readable_formats() -> list[str]:
    """Those of FORMATS that this build of Pillow can read."""
    Image.init()
    return [name for name in FORMATS if name in Image.OPEN]


def file_suffixes() -> set[str]:
    """Return the suffixes of all supported file formats in lower case, such as ``".png"``."""
    known = readable_formats()
    return {suffix for suffix, name in Image.registered_extensions().items() if name in known}
