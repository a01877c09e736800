"""What an exported file says of itself: the metadata of the ONNX file, as strings by name."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import asdict, dataclass, fields
from functools import cached_property
from typing import Any

from ..arrays import Size
from ..bank.limits import Limits

FORMAT = 1  # version of these facts
LARGEST = 2**20  # pixels of a side, patches of a side
SIGNS = ("pyimgano_openclip_format", "canvas_height")  # names that every exported file has


@dataclass(frozen=True)
class ExportedFacts:
    """The facts of an exported detector; each is one entry of the file's metadata.

    Attributes:
        pyimgano_openclip_format: Version of these entries.
        package_version: Version of the package that wrote the file.
        detector: Class of the detector.
        model_name: Name of its model.
        model_fingerprint: Digest of the image tower.
        detector_digest: Digest of all that its scores depend on; that of its checkpoint.
        canvas_height: Height in pixels of the images that the network takes.
        canvas_width: Their width.
        patch_height: Height in pixels of a patch on the canvas.
        patch_width: Its width.
        resize_filter: Filter by which images are resized to the canvas: ``"bicubic"`` or
            ``"bilinear"``.
        threshold: Image score above which the label is 1.
        region_threshold: Map value above which a pixel may be hot.
        span: Width of the range of image scores, by which images are raised that are unlike the
            training images as a whole.
        lowest_value: Map value that means nothing anomalous at all; NaN for the map's lowest.
        limits: Within which an image is like the training images, as JSON; see
            :class:`~..bank.limits.Limits`. Empty without training images.
        defects: Names of defects, one a line.
    """

    pyimgano_openclip_format: int
    package_version: str
    detector: str
    model_name: str
    model_fingerprint: str
    detector_digest: str
    canvas_height: int
    canvas_width: int
    patch_height: int
    patch_width: int
    resize_filter: str
    threshold: float
    region_threshold: float
    span: float
    lowest_value: float = 0.0
    limits: str = ""
    defects: str = ""

    @property
    def canvas(self) -> Size:
        """(height, width) in pixels of the images that the network takes."""
        return self.canvas_height, self.canvas_width

    @cached_property
    def whole(self) -> Limits | None:
        """Within which an image is like the training images; None without any.

        Raises:
            ValueError: If they are damaged.
        """
        return Limits.of_json(self.limits) if self.limits else None

    @property
    def defect_names(self) -> list[str]:
        """Names of defects, in the order of the network's output."""
        return self.defects.split("\n") if self.defects else []

    def as_metadata(self) -> dict[str, str]:
        """The entries of the file; numbers are written so that they read back equal."""
        return {name: str(value) for name, value in asdict(self).items()}

    @classmethod
    def of_metadata(cls, found: Mapping[str, str]) -> ExportedFacts:
        """Read the entries of a file, trusting none.

        Raises:
            ValueError: If it was not written by this package, an entry is missing or impossible, or
                the format is a later one.
        """
        if any(name not in found for name in SIGNS):
            raise ValueError("it was not written by pyimgano-openclip export")
        values: dict[str, Any] = {}
        for field in fields(cls):
            if field.name not in found:
                raise ValueError(f"it has no metadata {field.name!r}")
            values[field.name] = _read(field.name, str(field.type), found[field.name])
        facts = cls(**values)
        if facts.pyimgano_openclip_format > FORMAT:
            raise ValueError(
                f"it has format {facts.pyimgano_openclip_format}; this package reads formats up to "
                f"{FORMAT}, update pyimgano-openclip"
            )
        if facts.resize_filter not in ("bicubic", "bilinear"):
            raise ValueError(f"it has the unknown resize filter {facts.resize_filter!r}")
        facts.whole  # noqa: B018 - raises if they are damaged
        return facts


def _read(name: str, kind: str, text: str) -> str | int | float:
    """One entry by the type of its field."""
    if kind == "str":
        return text
    try:
        number = int(text) if kind == "int" else float(text)
    except ValueError as error:
        raise ValueError(f"its metadata {name!r} is {text!r}, not a number") from error
    finite = math.isfinite(number) or name == "lowest_value"
    if not finite or (kind == "int" and not 1 <= number <= LARGEST):
        raise ValueError(f"its metadata {name!r} is {text!r}, which is out of range")
    return number
