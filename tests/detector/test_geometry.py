"""A defect is found where it is, on images of any shape, up to the borders."""

import numpy as np
import pytest

pytest.importorskip("torch")
pytest.importorskip("open_clip")

from pyimgano_openclip import VisionOpenCLIPPatchKNN, VisionOpenCLIPPromptScore
from pyimgano_openclip.samples import make_sample

pytestmark = pytest.mark.slow

SHAPES = {"1:1": (240, 240), "2:1": (480, 240), "1:2.5": (200, 500), "5:1": (900, 180)}
SIDE = 24  # pixels of the defect


def texture(shape, seed=0):
    """A smooth texture without a place that stands out."""
    generator = np.random.default_rng(seed)
    rows, cols = np.indices(shape)
    waves = np.sin(rows / 7 + seed) * np.cos(cols / 9) * 30 + 128
    noisy = waves[..., None] + generator.normal(0, 3, (*shape, 3))
    return np.clip(noisy, 0, 255).astype(np.uint8)


@pytest.fixture(scope="module", params=SHAPES)
def fitted(request):
    shape = SHAPES[request.param]
    detector = VisionOpenCLIPPatchKNN(
        openclip_model_name="ViT-S-16-alt",
        openclip_pretrained=None,
        layers=(0.25,),
        neighbourhoods=(1,),
        device="cpu",
    )
    return detector.fit([texture(shape, seed) for seed in range(3)]), shape


@pytest.mark.parametrize("down", [0.0, 0.5, 1.0])
@pytest.mark.parametrize("right", [0.0, 0.5, 1.0])
def test_a_defect_is_found_within_one_patch(fitted, down, right):
    detector, shape = fitted
    image = texture(shape, seed=9)
    top, left = (
        round(share * (side - SIDE)) for share, side in zip((down, right), shape, strict=True)
    )
    image[top : top + SIDE, left : left + SIDE] = (255, 0, 0)
    found = detector.get_anomaly_map(image)
    row, col = np.unravel_index(found.argmax(), found.shape)
    patch = [side * 16 / canvas for side, canvas in zip(shape, detector.canvas_, strict=True)]
    assert top - patch[0] <= row <= top + SIDE + patch[0]
    assert left - patch[1] <= col <= left + SIDE + patch[1]


def test_the_grid_keeps_the_proportions(fitted):
    detector, shape = fitted
    ratio = (detector.canvas_[0] / detector.canvas_[1]) / (shape[0] / shape[1])
    assert 0.85 < ratio < 1.18


@pytest.mark.parametrize("ratio", SHAPES)
def test_a_hole_moves_the_zero_shot_map_where_it_is(ratio):
    height, width = (round(0.8 * side) for side in SHAPES[ratio])
    detector = VisionOpenCLIPPromptScore(
        openclip_model_name="bundled", class_name="steel", device="cpu", precision="float32"
    )
    rows, cols = np.indices((height, width))
    for down in (0.0, 0.5, 1.0):
        for right in (0.0, 0.5, 1.0):
            clean = make_sample("steel", seed=3, product=3, size=(height, width)).image
            row = round(down * (height - SIDE)) + SIDE // 2
            col = round(right * (width - SIDE)) + SIDE // 2
            holed = clean.copy()
            holed[(rows - row) ** 2 + (cols - col) ** 2 < (SIDE // 2) ** 2] = (25, 20, 15)
            change = detector.get_anomaly_map(holed) - detector.get_anomaly_map(clean)
            found = np.unravel_index(np.abs(change).argmax(), change.shape)
            canvas = detector.canvas_
            reach = [SIDE / 2 + 8 * s / c for s, c in zip((height, width), canvas, strict=True)]
            assert abs(found[0] - row) <= reach[0], (down, right)
            assert abs(found[1] - col) <= reach[1], (down, right)
