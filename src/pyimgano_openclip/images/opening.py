"""Opens image files in the same way whatever others have set in Pillow."""

from __future__ import annotations

from collections.abc import Sequence
from io import BytesIO
from typing import Any

from PIL import Image, ImageFile, TiffImagePlugin

from ..process_wide import ProcessWide
from .declared import kind_of

PIXEL_LIMIT = 2 * 89_478_485  # twice Pillow's own, which warns from there on and refuses from here
SUBFILE_TYPE = 254  # tag of TIFF
NOT_A_PAGE = 0b101  # bits of it: a smaller version of another page, a mask
FOREIGN = {  # what files start with that are often taken for images of another format
    b"%PDF": "a PDF document",
    b"<svg": "an SVG drawing",
    b"<?xml": "an XML document",
    b"<!DOC": "a web page",
    b"<html": "a web page",
    b"8BPS": "a Photoshop document",
    b"\xff\x0a": "a JPEG XL file",
    b"\x00\x00\x00\x0cJXL ": "a JPEG XL file",
    b"version https://git-lfs": "a pointer of Git LFS instead of the file itself",
}
HEIF = (b"heic", b"heix", b"heim", b"heis", b"hevc", b"mif1", b"msf1")


def _set_truncated(loaded: bool) -> None:
    ImageFile.LOAD_TRUNCATED_IMAGES = loaded


def whole_files() -> ProcessWide:
    """Refuse incomplete files inside, although a library may have told Pillow to accept them.

    Pillow has one switch for all threads and keeps no record of what it overlooked. So whoever
    decodes elsewhere meanwhile is refused incomplete files, too; never the other way round.
    """
    return _WHOLE


_WHOLE = ProcessWide(lambda: ImageFile.LOAD_TRUNCATED_IMAGES, _set_truncated, neutral=False)


_most_pixels: int | None = None  # None: Pillow's limit
_pillows_limit = Image.MAX_IMAGE_PIXELS


def set_most_pixels(count: int | None) -> None:
    """Set how many pixels an image may have to be decoded, for the whole process.

    A small file can unpack to an image that fills the memory, so Pillow refuses images of more than
    178,956,970 pixels and warns of half as many. Raise that for files that you trust, such as those
    of line-scan cameras. Pillow's ``MAX_IMAGE_PIXELS``, which its decoders obey, is set along with
    it.

    Args:
        count: Largest height times width that is read; None for Pillow's limit as it was.

    Raises:
        ValueError: If it is not a positive integer.
    """
    global _most_pixels, _pillows_limit
    if count is not None and (type(count) is not int or count < 1):
        raise ValueError(f"count is {count!r}; expected a positive number of pixels, or None.")
    if _most_pixels is None:
        _pillows_limit = Image.MAX_IMAGE_PIXELS
    _most_pixels = count
    Image.MAX_IMAGE_PIXELS = _pillows_limit if count is None else count


def most_pixels() -> int:
    """How many pixels an image may have; twice ``PIL.Image.MAX_IMAGE_PIXELS`` unless it was set."""
    if _most_pixels is not None:
        return _most_pixels
    return PIXEL_LIMIT if Image.MAX_IMAGE_PIXELS is None else 2 * Image.MAX_IMAGE_PIXELS


def checked_size(image: Image.Image) -> Image.Image:
    """The image, which is not decoded yet, if it is not too large, even if Pillow's limit is off.

    Raises:
        PIL.Image.DecompressionBombError: If it announces more pixels than :func:`most_pixels`.
    """
    pixels = image.width * image.height
    if pixels > most_pixels():
        image.close()
        raise Image.DecompressionBombError(f"Image size ({pixels} pixels) exceeds limit.")
    return image


def count_pages(image: Any) -> int:
    """Number of pages or frames of an opened file; previews, masks and gain maps do not count."""
    try:
        number: int = getattr(image, "n_frames", 1)
        if number > 1 and image.format in ("TIFF", "MPO"):
            number = 1 + sum(_is_page(image, place) for place in range(1, number))
            image.seek(0)
    except Exception:  # noqa: BLE001 - a damaged page behind the first is none that is missed
        image.seek(0)
        return 1
    return number


def _is_page(image: Any, place: int) -> bool:
    first = image.size
    image.seek(place)
    if image.format == "TIFF":
        return not image.tag_v2.get(SUBFILE_TYPE, 0) & NOT_A_PAGE
    kind = image.mpinfo[0xB002][place]["Attribute"]["MPType"]
    same = image.size == first
    image.seek(0)
    return same and "Thumbnail" not in kind


def why_refused(content: bytes, formats: Sequence[str]) -> str:
    """Say what a file is that Pillow does not open.

    Args:
        content: All of the file.
        formats: Pillow's names of the formats that are read.
    """
    if not content:
        return "the file is empty"
    claimed = next((name for name in formats if _accepts(name, content[:16])), None)
    if claimed == "TIFF" and (kind := _kind_of_tiff(content)):
        return f"a TIFF of a kind that Pillow cannot read ({kind})"
    if claimed is not None:
        return f"a damaged {claimed} file"
    known = ", ".join(formats)
    start = content.lstrip()
    for beginning, name in FOREIGN.items():
        if start.startswith(beginning) or content.startswith(beginning):
            return f"{name}, not one of {known}"
    if content[4:8] == b"ftyp" and content[8:12] in HEIF:
        return f"a HEIF file, not one of {known}"
    if not content.strip(b"\0"):
        return "the file holds nothing but zeros"
    return f"not one of {known}"


def _accepts(name: str, prefix: bytes) -> bool:
    accept = Image.OPEN[name][1]
    return accept is not None and accept(prefix) is True


def _kind_of_tiff(content: bytes) -> str | None:
    """Describe the first page of a TIFF file; None if not even its tags can be read."""
    stream = BytesIO(content)
    try:
        header = stream.read(8)
        if header[2:3] == b"\x2b" or header[3:4] == b"\x2b":  # BigTIFF
            header += stream.read(8)
        tags = TiffImagePlugin.ImageFileDirectory_v2(header)
        stream.seek(tags.next)
        tags.load(stream)
        return kind_of(tags) if tags.get(256) and tags.get(257) else None
    except Exception:  # noqa: BLE001 - what Pillow raises on damaged tags is not documented
        return None
