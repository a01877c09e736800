"""What a TIFF file declares about its samples, which Pillow heeds for 8 bits only."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from PIL import Image

BITS, PHOTOMETRIC, SAMPLES, SAMPLE_FORMAT = 258, 262, 277, 339  # tags
WHITE_IS_ZERO = 0  # of PHOTOMETRIC
UNSIGNED, SIGNED, FLOAT = 1, 2, 3  # of SAMPLE_FORMAT
FORMAT_NAMES = {SIGNED: "signed", FLOAT: "float", 4: "undefined", 5: "complex", 6: "complex float"}
SIXTEEN_BITS = 2**16 - 1


@dataclass(frozen=True)
class Declared:
    """How grey values deeper than 8 bits, or signed ones, are to be read.

    Attributes:
        white: The value of white, if black is 0. Integers of 32 bits hold 16-bit values.
        inverted: Whether white is 0 instead, and Pillow leaves it so.
        bytes_signed: Whether 8-bit values are signed, which Pillow takes for unsigned ones.
    """

    white: int = SIXTEEN_BITS
    inverted: bool = False
    bytes_signed: bool = False


def declared_by(image: Image.Image) -> Declared:
    """What the file of an image declares; 16 bits unless it is a TIFF file."""
    tags = getattr(image, "tag_v2", None)
    if tags is None:
        return Declared()
    bits, sample_format = tags.get(BITS, (1,))[0], tags.get(SAMPLE_FORMAT, (UNSIGNED,))[0]
    signed = sample_format == SIGNED and bits <= 16
    return Declared(
        white=2 ** (bits - signed) - 1 if 8 <= bits <= 16 else SIXTEEN_BITS,
        inverted=tags.get(PHOTOMETRIC) == WHITE_IS_ZERO and image.mode != "L",
        bytes_signed=signed and image.mode == "L",
    )


def kind_of(tags: Any) -> str:
    """Describe samples by their tags, such as ``"3 x 12-bit"`` or ``"64-bit float"``."""
    bits = tags.get(BITS, (1,))
    samples, sample_format = tags.get(SAMPLES, len(bits)), tags.get(SAMPLE_FORMAT, (UNSIGNED,))[0]
    counted = f"{samples} x " if samples > 1 else ""
    named = FORMAT_NAMES.get(sample_format, "")
    white = ", white is zero" if tags.get(PHOTOMETRIC) == WHITE_IS_ZERO else ""
    return f"{counted}{bits[0]}-bit {named}".rstrip() + white
