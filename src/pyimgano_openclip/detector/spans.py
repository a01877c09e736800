"""Tells the largest scores that patches can give, above which no threshold makes sense.

An image that is unlike the training images as a whole is raised above them, so that a threshold
among the raised scores would let it pass.
"""

from __future__ import annotations

import math
import sys
from collections.abc import Mapping
from typing import Any

from ..checks import check_number
from .saving import OVERVIEW

DISTANCE = 2.0  # the largest cosine distance
DIFFERENCE = 2.0  # the largest difference of cosines
SHARE = 1.0  # the largest probability
PROMPTS = "VisionOpenCLIPPromptScore"


def check_threshold(name: str, value: Any, largest: float) -> float:
    """Return a threshold of image scores as a float.

    Args:
        name: Of the argument.
        value: The threshold.
        largest: The largest score that patches can give; infinite if it is not known.

    Raises:
        ValueError: If it is no finite number, or above the largest score.
    """
    return check_number(name, value, above=-math.inf, most=min(largest, sys.float_info.max))


def of_mode(mode: str) -> float:
    """The largest score by prompts."""
    return DIFFERENCE if mode == "diff" else SHARE


def of_saved(header: Mapping[str, Any]) -> float:
    """That of the detector in a checkpoint, by its header; infinite if only its arrays tell."""
    settings, state = header["settings"], header["state"]
    if header["detector"] == PROMPTS:
        surgery = settings.get("recipe") == "clip-surgery"
        return of_mode("diff" if surgery else settings.get("mode", ""))
    return math.inf if OVERVIEW in state else DISTANCE


def regions_apart(detector: str) -> bool:
    """Whether the threshold of regions is set apart from that of images, by a detector's class."""
    return detector == PROMPTS


def of_exported(detector: str, span: float) -> float:
    """That of an exported detector, by the name of its class and the width of its range."""
    return min(span, DIFFERENCE) if detector == PROMPTS else span
