"""TIFF files of kinds that Pillow reads but does not write."""

import struct

import numpy as np

SHORT, LONG = 3, 4


def tiff(data: bytes, size: tuple[int, int], **tags) -> bytes:
    """An uncompressed little-endian TIFF file of one strip.

    Args:
        data: The pixels as they are in the file.
        size: (height, width) in pixels.
        tags: ``bits`` and ``formats``, one number per sample, and ``photometric``.
    """
    bits, formats = tags.get("bits", (16,)), tags.get("formats", (1,))
    entries = [
        (256, SHORT, (size[1],)),
        (257, SHORT, (size[0],)),
        (258, SHORT, bits),
        (259, SHORT, (1,)),
        (262, SHORT, (tags.get("photometric", 1),)),
        (273, LONG, (8,)),  # the pixels follow the header
        (277, SHORT, (len(bits),)),
        (278, SHORT, (size[0],)),
        (279, LONG, (len(data),)),
        (339, SHORT, formats),
    ]
    directory = 8 + len(data) + len(data) % 2
    more = directory + 2 + 12 * len(entries) + 4
    table, behind = struct.pack("<H", len(entries)), b""
    for tag, kind, values in entries:
        packed = struct.pack(f"<{len(values)}{'H' if kind == SHORT else 'I'}", *values)
        if len(packed) > 4:
            packed, behind = struct.pack("<I", more + len(behind)), behind + packed
        table += struct.pack("<HHI", tag, kind, len(values)) + packed.ljust(4, b"\0")
    header = struct.pack("<2sHI", b"II", 42, directory)
    return header + data + b"\0" * (len(data) % 2) + table + bytes(4) + behind


def packed(values: np.ndarray, bits: int) -> bytes:
    """Rows of numbers of so many bits each, without gaps but at the end of a row."""
    ones = (values[..., None].astype(np.int64) >> np.arange(bits - 1, -1, -1)) & 1
    return np.packbits(ones.reshape(len(values), -1).astype(np.uint8), axis=1).tobytes()
