"""Seeded damage to files: what disks, networks, cut cables and attackers do to bytes."""

import random
import struct
import zlib

HEADER = 96  # bytes; every format says there what to expect, so half of the damage goes there
EXTREMES = (0, 1, 2, 0x7F, 0x80, 0xFF, 0x7FFF, 0x8000, 0xFFFF, 0x7FFFFFFF, 0x80000000, 0xFFFFFFFF)
PNG = b"\x89PNG\r\n\x1a\n"


def mutated(data: bytes, others: list[bytes], seed: int) -> bytes:
    """The data with one to four changes, the same ones for the same seed.

    Args:
        data: A sound file.
        others: Files to take pieces of.
        seed: Of the choice.
    """
    chance = random.Random(seed)
    for _ in range(chance.choice((1, 1, 1, 2, 4))):
        data = chance.choice(CHANGES)(data, others, chance)
    return with_checksums(data) if data.startswith(PNG) and chance.random() < 0.8 else data


def _place(data: bytes, chance: random.Random) -> int:
    end = min(HEADER, len(data)) if chance.random() < 0.5 else len(data)
    return chance.randrange(end) if end else 0


def _flip(data: bytes, others: list[bytes], chance: random.Random) -> bytes:
    changed = bytearray(data)
    for _ in range(chance.choice((1, 1, 3, 20))):
        if changed:
            changed[_place(data, chance)] ^= 1 << chance.randrange(8)
    return bytes(changed)


def _number(data: bytes, others: list[bytes], chance: random.Random) -> bytes:
    """An extreme number in place of one, two or four bytes."""
    place, code = _place(data, chance), chance.choice(("B", "<H", ">H", "<I", ">I"))
    width = struct.calcsize(code)
    number = struct.pack(code, chance.choice(EXTREMES) % 256**width)
    return data[:place] + number + data[place + width :]


def _cut(data: bytes, others: list[bytes], chance: random.Random) -> bytes:
    return data[: _place(data, chance)]


def _without(data: bytes, others: list[bytes], chance: random.Random) -> bytes:
    place = _place(data, chance)
    return data[:place] + data[place + chance.choice((1, 4, 30, 300)) :]


def _twice(data: bytes, others: list[bytes], chance: random.Random) -> bytes:
    place, length = _place(data, chance), chance.choice((1, 4, 30, 300))
    return data[: place + length] + data[place:]


def _noise(data: bytes, others: list[bytes], chance: random.Random) -> bytes:
    place, length = _place(data, chance), chance.choice((1, 4, 30))
    return data[:place] + chance.randbytes(length) + data[place + length :]


def _splice(data: bytes, others: list[bytes], chance: random.Random) -> bytes:
    other = chance.choice(others)
    return data[: _place(data, chance)] + other[_place(other, chance) :]


CHANGES = (_flip, _flip, _number, _number, _cut, _without, _twice, _noise, _splice)


def with_checksums(data: bytes) -> bytes:
    """A PNG file whose chunks have the checksums of their content, so that damage gets past."""
    fixed, place = bytearray(data), len(PNG)
    while place + 12 <= len(data):
        length = int.from_bytes(data[place : place + 4], "big")
        end = place + 8 + length
        if end + 4 > len(data):
            break
        fixed[end : end + 4] = zlib.crc32(data[place + 4 : end]).to_bytes(4, "big")
        place = end + 4
    return bytes(fixed)
