"""Exported detectors on the bundled model, with what they were fitted on."""

from dataclasses import dataclass
from pathlib import Path

import pytest

from pyimgano_openclip.samples import make_sample

from helpers.detectors import on_bundled

DEFECTS = ("hole", "cut", "stain", "scratch")


@dataclass(frozen=True)
class Pair:
    """A detector, its file, and the images that it was fitted on."""

    detector: object
    path: Path
    images: list


def leather(count, size, first=0, defect=None):
    return [
        make_sample("leather", seed=first + seed, size=size, defect=defect).image
        for seed in range(count)
    ]


def exported(kind, size, folder, **settings):
    for library in ("torch", "onnx", "onnxscript", "onnxruntime"):
        pytest.importorskip(library)
    from pyimgano_openclip import export_onnx

    images = leather(8, size)
    detector = on_bundled(kind, **settings).fit(images)
    path = folder / f"{kind}.onnx"
    export_onnx(detector, path)
    return Pair(detector, path, images)


def told_otherwise(path, copy, name, value):
    """A copy of a file whose metadata have another value, or none, of that name."""
    import onnx

    model = onnx.load(path)
    kept = {entry.key: entry.value for entry in model.metadata_props if entry.key != name}
    onnx.helper.set_model_props(model, kept if value is None else {**kept, name: value})
    onnx.save(model, copy)
    return copy
