"""What an exported file says of itself: the metadata of the ONNX file, as strings by name."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from dataclasses import asdict, dataclass, fields
from functools import cached_property
from typing import Any, cast

from ..arrays import Size
from ..bank.limits import Limits
from ..files.checkpoint import short
from ..images.areas import Area
from ..images.items import ORDERS, ChannelOrder
from ..images.roi import KEYS, roi_of
from ..maps.spread import SMOOTHING

FORMAT = 1  # version of these facts
LARGEST = 2**20  # pixels of a side, patches of a side
MAY_BE_0 = ("whole_height", "whole_width")
MAY_LACK = ("channel_order",)  # as files of earlier versions do
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
        limits: Within which an image is like the training images, as JSON; see
            :class:`~..bank.limits.Limits`. Empty without training images.
        defects: Names of defects, one a line.
        whole_height: Height in pixels of the second canvas, on which the network takes each image
            as well; 0 if it takes images on one canvas only.
        whole_width: Its width; 0 likewise.
        map_smoothing: Standard deviation of the Gaussian of maps in patches; 0 for none.
        roi: Where to look, as JSON: run lengths of a mask as in COCO, or boxes and polygons; see
            :func:`~..images.roi.roi_of`. Empty for everywhere.
        roi_sizes: (height, width) of the images for which the network looks there, as JSON; empty
            for all.
        channel_order: Channel order of arrays that the detector takes; the network takes RGB.
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
    limits: str = ""
    defects: str = ""
    whole_height: int = 0
    whole_width: int = 0
    map_smoothing: float = SMOOTHING
    roi: str = ""
    roi_sizes: str = ""
    channel_order: ChannelOrder = "rgb"

    @property
    def canvas(self) -> Size:
        """(height, width) in pixels of the images that the network takes."""
        return self.canvas_height, self.canvas_width

    @property
    def second_canvas(self) -> Size | None:
        """(height, width) of the second canvas; None if there is only one."""
        return (self.whole_height, self.whole_width) if self.whole_height else None

    @cached_property
    def area(self) -> Area | None:
        """Where to look; None for everywhere.

        Raises:
            ValueError: If that is damaged.
        """
        if not self.roi:
            return None
        given = _json("roi", self.roi)
        if not isinstance(given, list) and not (isinstance(given, dict) and {*given} == {*KEYS}):
            raise ValueError(f"its metadata 'roi' is {short(given)}, which is no region")
        return cast(Area, roi_of(given))

    @cached_property
    def sizes(self) -> frozenset[Size]:
        """(height, width) of the images for which the network looks there; empty for all.

        Raises:
            ValueError: If they are damaged.
        """
        if not self.roi_sizes:
            return frozenset()
        try:
            return frozenset(
                (int(rows), int(cols)) for rows, cols in _json("roi_sizes", self.roi_sizes)
            )
        except (TypeError, ValueError) as error:
            given = short(self.roi_sizes)
            raise ValueError(
                f"its metadata 'roi_sizes' is {given}, which is no list of sizes"
            ) from error

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
                if field.name in MAY_LACK:
                    continue
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
        if facts.channel_order not in ORDERS:
            raise ValueError(f"it has the unknown channel order {facts.channel_order!r}")
        facts.whole, facts.area, facts.sizes  # noqa: B018 - raise if they are damaged
        return facts


def _read(name: str, kind: str, text: str) -> str | int | float:
    """One entry by the type of its field."""
    if kind in ("str", "ChannelOrder"):
        return text
    try:
        number = int(text) if kind == "int" else float(text)
    except ValueError as error:
        raise ValueError(f"its metadata {name!r} is {text!r}, not a number") from error
    least = name not in MAY_BE_0
    if not math.isfinite(number) or (kind == "int" and not least <= number <= LARGEST):
        raise ValueError(f"its metadata {name!r} is {text!r}, which is out of range")
    return number


def _json(name: str, text: str) -> Any:
    try:
        return json.loads(text)
    except ValueError as error:
        raise ValueError(f"its metadata {name!r} is {short(text)}, which is no JSON") from error
