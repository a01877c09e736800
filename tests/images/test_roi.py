"""Regions of interest: what can be passed, which pixels and patches are inside, what is refused."""

import json

import cv2
import numpy as np
import pytest
from PIL import Image

from pyimgano_openclip.images.areas import patches_inside, patches_of_view
from pyimgano_openclip.images.roi import MaskFolder, area_of, digest, in_words, roi_of
from pyimgano_openclip.images.unreadable import UnreadableError
from pyimgano_openclip.images.views import View, seen

SIZE = (40, 60)  # height, width
SHAPES = {
    "a box in pixels": (6, 4, 30, 20),
    "a box in shares": (0.1, 0.1, 0.5, 0.5),
    "a polygon in pixels": [(6, 4), (30, 4), (30, 20), (6, 20)],
    "a polygon in shares": [(0.1, 0.1), (0.5, 0.1), (0.5, 0.5), (0.1, 0.5)],
    "two boxes": [(6, 4, 20, 20), (18, 4, 30, 20)],
    "boxes from JSON": json.loads("[[0.1, 0.1, 0.5, 0.5]]"),
}


def rectangle(size=SIZE, top=4, bottom=20, left=6, right=30):
    mask = np.zeros(size, dtype=bool)
    mask[top:bottom, left:right] = True
    return mask


@pytest.mark.parametrize("given", SHAPES.values(), ids=SHAPES)
def test_boxes_and_polygons_cover_the_pixels_between_their_sides(given):
    np.testing.assert_array_equal(roi_of(given).over(SIZE), rectangle())


@pytest.mark.parametrize(
    "pixels",
    [
        rectangle(),
        rectangle().astype(np.uint8),
        rectangle() * np.uint8(255),
        rectangle().astype(np.float32),
        np.where(rectangle(), 240, 30).astype(np.uint8),  # with the noise of a JPEG file
        np.repeat(rectangle()[..., None] * np.uint8(128), 3, axis=2),
        np.dstack([rectangle() * np.uint8(9)] * 3 + [np.full(SIZE, 255, np.uint8)]),
        np.dstack([np.full((*SIZE, 3), 200, np.uint8), rectangle() * np.uint8(255)]),
        np.dstack([np.full(SIZE, 200, np.uint8), rectangle() * np.uint8(180)]),
    ],
    ids=lambda pixels: f"{pixels.dtype}-{pixels.shape}-{pixels.max()}",
)
def test_a_mask_is_inside_where_it_is_bright(pixels, tmp_path):
    np.testing.assert_array_equal(roi_of(pixels).over(SIZE), rectangle())
    if pixels.dtype == np.uint8:
        Image.fromarray(pixels).save(tmp_path / "mask.png")
        assert roi_of(tmp_path / "mask.png") == roi_of(str(tmp_path / "mask.png")) == roi_of(pixels)


@pytest.mark.parametrize("kind", ["uint16", "int32", "float32"])
def test_a_mask_file_is_read_at_its_own_depth(kind, tmp_path):
    for lit in (1, 3, 300):
        path = tmp_path / f"{lit}.tif"
        Image.fromarray((rectangle() * lit).astype(kind)).save(path)
        np.testing.assert_array_equal(roi_of(path).over(SIZE), rectangle())


def test_boxes_and_polygons_may_be_arrays():
    boxes = [[6, 4, 20, 20], [18, 4, 30, 20]]
    assert roi_of(np.array(boxes)) == roi_of(boxes) == roi_of([np.array(box) for box in boxes])
    assert roi_of(np.array(boxes[0])) == roi_of(boxes[0])
    polygon = [(0.1, 0.1), (0.5, 0.1), (0.5, 0.5), (0.1, 0.5)]
    assert roi_of(np.array(polygon)) == roi_of(polygon)


def test_shares_may_miss_the_border_by_rounding_only():
    box = (-1e-9, 0.1, 0.5, 1 + 1e-9)
    assert roi_of(box) == roi_of((0.0, 0.1, 0.5, 1.0))
    for beyond in ((0.1, 0.1, 0.9, 1.001), (0.0, 0.0, 1.5, 1.0), [(0.1, 0.1), (1.2, 0.1), (1, 1)]):
        with pytest.raises(ValueError, match=r"is in shares of the sides.*1\.\d+ is no share"):
            roi_of(beyond)
    assert str(roi_of((0.5, 0.5, 20.5, 1.5))) == "[0.5, 0.5, 20.5, 1.5] in pixels"


def test_a_mask_of_black_and_nothing_is_empty(tmp_path):
    drawn = np.dstack([np.zeros((*SIZE, 3), np.uint8), rectangle() * np.uint8(255)])
    Image.fromarray(drawn).save(tmp_path / "mask.png")
    for given in (drawn, tmp_path / "mask.png"):
        with pytest.raises(ValueError, match="is empty: none of its 40 x 60 pixels is lit"):
            roi_of(given)


def test_a_stored_region_is_told_in_words(tmp_path):
    assert in_words(None) == "None"
    assert in_words(roi_of(rectangle()).stored()) == "mask of 40 x 60 pixels, 16 % inside"
    assert in_words(roi_of((6, 4, 30, 20)).stored()) == "[6, 4, 30, 20] in pixels"
    assert in_words(roi_of(tmp_path).stored()) == f"masks in {tmp_path}"
    assert in_words({"folder": "elsewhere"}) == "masks in elsewhere"


def test_a_mask_serves_images_of_its_proportions():
    half = roi_of(rectangle(top=8, bottom=32, left=12, right=48))
    np.testing.assert_array_equal(
        half.over((80, 120)), rectangle((80, 120), top=16, bottom=64, left=24, right=96)
    )
    assert half.over((39, 59)).shape == (39, 59)
    with pytest.raises(ValueError, match="the image has 60 x 40 pixels, the mask 40 x 60"):
        half.over((60, 40))


def test_an_image_too_small_for_the_mask_is_an_error_with_both_sizes():
    mask = np.zeros((100, 100), bool)
    mask[1, 1] = True
    assert roi_of(mask).over((100, 100)).sum() == 1
    with pytest.raises(ValueError, match=r"none of its 10 x 10 pixels is inside .* mask of 100"):
        roi_of(mask).over((10, 10))


def test_what_is_stored_is_the_same_region_again():
    generator = np.random.default_rng(0)
    for given in [*SHAPES.values(), rectangle(), ~rectangle(), generator.random(SIZE) < 0.5]:
        roi = roi_of(given)
        again = roi_of(json.loads(json.dumps(roi.stored())))
        assert again == roi
        assert digest(again) == digest(roi)
    assert roi_of(rectangle()).stored()["counts"][:3] == [6 * 40 + 4, 16, 24]


@pytest.mark.parametrize(
    ("wrong", "message"),
    [
        (np.zeros(SIZE), r"array of shape \(40, 60\) is empty: none of its 40 x 60 pixels"),
        (np.zeros(7), r"shape \(7,\)"),
        ((30, 4, 6, 20), r"roi=\(30, 4, 6, 20\) is no box"),
        ([(6, 4), (30, 4)], "no polygon"),
        ([], r"roi=\[\] is no box"),
        (" ", r"roi=' ' is empty"),
        ([0, 0, 1, 1], r"\[0, 0, 1, 1\] is at most one pixel; .* such as 1.0"),
        ([(0, 0), (1, 0), (1, 1)], "is at most one pixel"),
        ([5, 5, 6, 6], r"\[5, 5, 6, 6\] is at most one pixel"),
        ([[10, 10, 40, 30], [0, 0, 1, 1]], r"\[0, 0, 1, 1\] is at most one pixel"),
        (np.array([[0, 0, 1, 1]]), "is at most one pixel"),
        ([(0.1, 0.1, 0.5, 0.5), (10, 10, 40, 30)], r"\[0.1, 0.1, 0.5, 0.5\] is in shares"),
        (np.full(SIZE, np.nan), r"array of shape \(40, 60\) has pixels that are no numbers"),
        (np.ones((1, *SIZE)), r"shape \(1, 40, 60\)"),
        ((0, 0, float("nan"), 1), "no box"),
        (7, "roi=7; expected a mask"),
        ("missing.png", "no mask and no folder of masks .*missing.png"),
        ({"folder": "missing"}, "no folder of masks .*missing"),
        ({"size": [4, 4], "counts": [3, 4]}, "counts whose sum it is"),
        ({"size": [10**9, 10**9], "counts": [0, 10**18]}, "counts whose sum it is"),
        ({"size": [4, 4], "counts": "x"}, "must be a list"),
    ],
)
def test_what_is_no_region_is_refused(wrong, message):
    with pytest.raises(ValueError, match=message):
        roi_of(wrong)


def test_a_shape_beyond_the_image_is_an_error_with_both_sizes():
    with pytest.raises(ValueError, match=r"\[6, 4, 70, 20\] reaches beyond it.* 40 x 60 pixels"):
        roi_of((6, 4, 70, 20)).over(SIZE)


def test_a_shape_without_a_pixel_is_an_error_though_others_have_some():
    roi = roi_of([(6, 4, 30, 20), [(10, 10), (20, 10), (20, 10)]])
    with pytest.raises(ValueError, match=r"40 x 60 pixels is inside of the roi.s \[\[10, 10\]"):
        roi.over(SIZE)


def test_patches_count_of_which_half_is_inside():
    """Patches of 10 x 10 pixels: 4 and 5 columns of the first and the last are inside."""
    found = patches_inside(roi_of((16, 10, 45, 30)), (4, 6), SIZE)
    expected = np.zeros((4, 6), bool)
    expected[1:3, 2:5] = True
    np.testing.assert_array_equal(found, expected)


def test_parts_smaller_than_a_patch_keep_the_patches_that_they_touch():
    found = patches_inside(roi_of([(0, 0, 30, 20), (48, 38, 52, 40)]), (4, 6), SIZE)
    assert np.argwhere(found).tolist() == [*np.argwhere(np.ones((2, 3))).tolist(), [3, 4], [3, 5]]
    line = patches_inside(roi_of((0, 22, 60, 24)), (4, 6), SIZE)
    assert np.argwhere(line).tolist() == [[2, col] for col in range(6)]


def test_a_grid_finer_than_the_pixels_is_covered():
    assert patches_inside(roi_of((0, 0, 2, 2)), (12, 12), (4, 4)).sum() == 36


def shares_by_opencv(pixels, grid):
    for axis, cells in enumerate(grid):  # OpenCV weights by area only where it shrinks
        pixels = pixels.repeat(-(-cells // pixels.shape[axis]), axis=axis)
    return cv2.resize(pixels.astype(np.float32), grid[::-1], interpolation=cv2.INTER_AREA)


@pytest.mark.parametrize("share", [0.01, 0.2, 0.5, 0.9])
@pytest.mark.parametrize("grid", [(4, 6), (7, 5), (31, 60), (90, 11)])
def test_patches_are_those_of_opencv(grid, share):
    rng = np.random.default_rng(0)
    coarse = np.kron(rng.random((8, 12)) < share, np.ones((5, 5), bool))
    for mask in (rng.random(SIZE) < share, coarse):
        count, parts = cv2.connectedComponents(mask.astype(np.uint8))
        expected = shares_by_opencv(mask, grid) >= 0.5 - 1e-5
        rows, cols = (
            (2 * np.arange(side) + 1) * cells // (2 * side)
            for side, cells in zip(SIZE, grid, strict=True)
        )
        seen = np.unique(parts[expected[rows][:, cols]])
        for part in set(range(1, count)) - set(seen.tolist()):
            expected |= shares_by_opencv(parts == part, grid) > 0
        np.testing.assert_array_equal(patches_inside(roi_of(mask), grid, SIZE), expected)


@pytest.mark.parametrize("view", [View(90), View(180), View(0, 0.1, 0), View(0, 0, -0.25)])
def test_the_region_moves_with_what_it_shows(view):
    size = (40, 40)
    mask = rectangle(size, 10, 30, 10, 25)
    picture = np.repeat(mask[..., None] * np.uint8(255), 3, axis=2)
    shown = seen(picture, view)[..., 0].reshape(8, 5, 8, 5).mean(axis=(1, 3)) / 255
    found = patches_of_view(roi_of(mask), (8, 8), size, view)
    clear = abs(shown - 0.5) > 0.15  # the picture is interpolated
    np.testing.assert_array_equal(found[clear], (shown >= 0.5)[clear])


def test_each_image_has_the_mask_of_its_name(tmp_path):
    masks = tmp_path / "masks"
    for number, name in enumerate(["a.png", "good/a.png", "b_mask.bmp", "good/c.png", "c.png"]):
        (masks / name).parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(rectangle(bottom=21 + number)).save(masks / name)
    roi = roi_of(masks)
    assert roi == MaskFolder(masks)
    for image, bottom in {
        "x/a.jpg": 21,
        tmp_path / "good" / "a.jpg": 22,
        "b.png": 23,
        "good/b.png": 23,
        "bad/c.png": 25,
    }.items():
        np.testing.assert_array_equal(area_of(roi, image).over(SIZE), rectangle(bottom=bottom))
    with pytest.raises(UnreadableError, match=r"x/d\.jpg: there is no mask of it in .*d_mask\.png"):
        area_of(roi, "x/d.jpg")
    with pytest.raises(UnreadableError, match=r"array of shape \(4, 4, 3\).*has none"):
        area_of(roi, np.zeros((4, 4, 3), np.uint8))
    with pytest.raises(UnreadableError, match=r"there is no mask of it"):
        area_of(MaskFolder(masks / "good"), masks / "good" / "c.png")
    Image.fromarray(rectangle()).save(masks / "b.png")
    with pytest.raises(UnreadableError, match=r"several masks.*b\.png and b_mask\.bmp"):
        area_of(roi, "b.png")
