"""Tells what a threshold promises, and why it does not promise what was asked for."""

from __future__ import annotations

from typing import Any

from ..detector.promises import Promise, images_needed, percent
from .console import complain
from .words import command_words


def promise_facts(promise: Promise) -> dict[str, Any]:
    """How many new normal images are flagged, how sure that is, and what it rests on."""
    basis = "parts" if promise.parts else "images"
    return {
        "rate": promise.rate,
        "bound": promise.bound,
        "confidence": promise.confidence,
        basis: promise.count,
    }


def promise_line(promise: Promise) -> str:
    """The same in a sentence of the command line."""
    return command_words(str(promise))


def copies_lines(images: int, promise: Promise) -> list[str]:
    """That images count together, where they are copies or frames of one scene."""
    more = 0 if promise.parts else images - promise.count
    if more <= 0:
        return []
    if more == 1:
        return ["1 of these images is a copy or near copy of another, with which it counts"]
    return [f"{more} of these images are copies or near copies of others, with which they count"]


def as_chosen(computed: float | None, known: str = "training images") -> str:
    """That a threshold is not the one that would follow from the images known, if any does."""
    by = "" if computed is None else f"; by the {known} it would be {computed:.4g}"
    return f"as chosen{by}"


def tell_doubt(promise: Promise, confidence: float | None) -> None:
    """Warn if there are too few images; with a confidence the library has warned already."""
    needed = images_needed(promise.contamination, None)
    if confidence is not None or promise.count >= needed:
        return
    complain(
        f"pyimgano-openclip: warning: {promise.counted} cannot settle a threshold "
        f"that flags {percent(promise.contamination)}; fit on {needed} or more, or pass "
        "--threshold to 'score'."
    )
