# ruff: noqa: E402 - torch is asked for before it is imported
"""Every kind of detector that can be exported: its network gives its scores, patches and maps.

The network is run by torch, which takes a second; the files of some are proved when they are
written, see ``test_exported.py``.
"""

import numpy as np
import pytest

torch = pytest.importorskip("torch")
pytest.importorskip("open_clip")

from pyimgano_openclip.export.onnx_file import _facts
from pyimgano_openclip.export.parts import build_network
from pyimgano_openclip.export.proof import _as_new
from pyimgano_openclip.export.refusals import check_exportable
from pyimgano_openclip.images.areas import resized
from pyimgano_openclip.images.reading import read_frame
from pyimgano_openclip.images.roi import within
from pyimgano_openclip.maps.scores import anomaly_map

from helpers.detectors import on_bundled
from helpers.exported import DEFECTS, leather

pytestmark = pytest.mark.slow

SIZE = (60, 96)
WINDOWS = {"force_image_size": 48, "smallest_defect": 7.5}  # six or more on a canvas


def mask():
    """Two parts, of which one is smaller than a patch."""
    found = np.zeros(SIZE, np.uint8)
    found[12:48, 20:70] = found[2, 2] = 255
    return found


def references():
    return leather(2, SIZE, first=50)


CASES = {
    "patchknn, mask": lambda: ("patchknn", {"roi": mask(), "jitter": 0}),
    "patchknn, shares": lambda: ("patchknn", {"roi": (0.1, 0.2, 0.7, 0.9), "jitter": 0}),
    "patchknn, windows": lambda: ("patchknn", {**WINDOWS, "jitter": 0}),
    "patchknn, windows, squashed, mask": lambda: (
        "patchknn",
        {**WINDOWS, "jitter": 0, "resize": "squash", "roi": mask()},
    ),
    "prompts, mask": lambda: (
        "promptscore",
        {"roi": mask(), "references": references(), "defects": DEFECTS},
    ),
    "prompts, mask, difference": lambda: ("promptscore", {"roi": mask(), "mode": "diff"}),
    "prompts, WinCLIP's windows": lambda: ("promptscore", {"windows": (2, 3)}),
    "prompts, windows": lambda: (
        "promptscore",
        {**WINDOWS, "windows": (2,), "references": references(), "defects": DEFECTS},
    ),
    "WinCLIP": lambda: ("promptscore", {"recipe": "winclip"}),
    "WinCLIP+": lambda: ("promptscore", {"recipe": "winclip", "references": references()}),
    "CLIP Surgery": lambda: ("promptscore", {"recipe": "clip-surgery"}),
    "mutual, mask": lambda: ("mutual", {"roi": mask()}),
    "mutual, a sample": lambda: ("mutual", {"max_comparisons": 3}),
    "mutual, windows": lambda: ("mutual", WINDOWS),
    "MuSc": lambda: ("mutual", {"recipe": "musc"}),
}


def inputs(detector, images):
    """What the network takes of images: they are resized as the file says."""
    facts = _facts(detector)
    second = facts.second_canvas
    frames = [
        read_frame(within(image, facts.area), facts.canvas, facts.resize_filter, whole=second)
        for image in images
    ]
    given = [np.stack([frame.pixels for frame in frames])]
    if second:
        given.append(np.stack([frame.whole for frame in frames]))
    return [torch.from_numpy(pixels) for pixels in given]


@pytest.mark.parametrize("case", CASES)
def test_the_network_is_the_detector(case):
    kind, settings = CASES[case]()
    detector = on_bundled(kind, **settings).fit(leather(6, SIZE))
    images = [*leather(2, SIZE, first=80), *leather(2, SIZE, first=90, defect="hole")]
    check_exportable(detector)
    with torch.inference_mode():
        score, _, patches, maps, *more = build_network(detector)(*inputs(detector, images))
    scoring, facts = detector._freeze([]), _facts(detector)
    inside = None
    if facts.area is not None:
        inside = resized(facts.area.over(SIZE), facts.canvas)
    for number, own in enumerate(_as_new(scoring, images)):
        if own.unlike is None:  # else it is raised
            assert float(score[number]) == pytest.approx(own.image, abs=2e-6)
        np.testing.assert_allclose(patches[number], own.patches, atol=2e-6)
        smoothing = detector.map_smoothing
        expected = anomaly_map(own.patches, facts.canvas, smoothing=smoothing, inside=inside)
        np.testing.assert_allclose(maps[number], expected, atol=5e-6)
    assert len(more) == bool(facts.limits) + bool(facts.defects)
    assert ("windows" in case) == (facts.second_canvas is not None) or "WinCLIP" in case
