"""The generator of sample images."""

from __future__ import annotations

import subprocess
import sys

import numpy as np
import pytest

from pyimgano_openclip import samples
from pyimgano_openclip.samples import (
    DEFECTS,
    FAMILIES,
    HELD_OUT_DEFECTS,
    HELD_OUT_FAMILIES,
    OBJECTS,
    SURFACES,
    defects_of,
    make_pair,
    make_sample,
)

SIZE = (72, 112)
EVERY_COMBINATION = [(family, defect) for family in FAMILIES for defect in defects_of(family)]


@pytest.mark.parametrize("family", FAMILIES)
def test_every_family_gives_a_normal_image_of_the_size_asked_for(family: str) -> None:
    sample = make_sample(family, seed=1, size=SIZE)

    assert sample.image.shape == (*SIZE, 3)
    assert sample.image.dtype == np.uint8
    assert sample.mask.shape == SIZE
    assert not sample.mask.any()
    assert (sample.family, sample.defect) == (family, None)
    assert sample.image.std() > 1.5  # something is to be seen


@pytest.mark.parametrize(("family", "defect"), EVERY_COMBINATION)
def test_every_defect_shows_and_only_inside_its_mask(family: str, defect: str) -> None:
    clean, damaged = make_pair(family, seed=3, defect=defect, size=SIZE)

    change = np.abs(clean.image.astype(int) - damaged.image).max(axis=2)
    assert 0.001 < damaged.mask.mean() < 0.5
    assert change[damaged.mask].max() > 25  # grey levels
    assert change[~damaged.mask].max() <= 10
    assert damaged.defect == defect
    assert not clean.mask.any()


def test_the_same_arguments_give_the_same_picture() -> None:
    first = make_sample("screw", seed=5, product=2, defect="bend")
    again = make_sample("screw", seed=5, product=2, defect="bend")

    np.testing.assert_array_equal(first.image, again.image)
    np.testing.assert_array_equal(first.mask, again.mask)
    assert first == again
    assert first != make_sample("screw", seed=6, product=2, defect="bend")
    assert first != "screw"


def test_a_picture_is_the_same_in_another_process() -> None:
    code = (
        "from pyimgano_openclip.samples import make_sample;"
        "print(make_sample('gear', seed=7, defect='dent').image.astype(int).sum())"
    )
    other = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)

    assert int(other.stdout) == make_sample("gear", seed=7, defect="dent").image.astype(int).sum()


@pytest.mark.parametrize("family", FAMILIES)
def test_instances_differ_less_than_products(family: str) -> None:
    def colour(seed: int, product: int) -> np.ndarray:
        return make_sample(family, seed=seed, product=product).image.mean(axis=(0, 1))

    instances = np.std([colour(seed, 0) for seed in range(4)], axis=0).mean()
    products = np.std([colour(0, product) for product in range(8)], axis=0).mean()
    assert instances > 0
    assert instances < products


def test_a_pair_shows_one_instance_and_the_sample_is_its_second_half() -> None:
    clean, damaged = make_pair("tile", seed=4, defect="hole", size=SIZE)

    np.testing.assert_array_equal(clean.image, make_sample("tile", seed=4, size=SIZE).image)
    np.testing.assert_array_equal(
        damaged.image, make_sample("tile", seed=4, size=SIZE, defect="hole").image
    )


def test_defects_grow_with_the_picture() -> None:
    small = make_sample("paper", seed=2, defect="stain", size=(64, 64)).mask.mean()
    large = make_sample("paper", seed=2, defect="stain", size=(256, 256)).mask.mean()

    assert large == pytest.approx(small, rel=0.5)


def test_families_and_defects_are_named_once_and_some_are_held_out() -> None:
    assert len(set(FAMILIES)) == len(FAMILIES) == len(SURFACES) + len(OBJECTS)
    assert len(set(DEFECTS)) == len(DEFECTS)
    assert set(HELD_OUT_FAMILIES) < set(FAMILIES)
    assert set(HELD_OUT_DEFECTS) < set(DEFECTS)
    assert set(HELD_OUT_FAMILIES) & set(SURFACES)
    assert set(HELD_OUT_FAMILIES) & set(OBJECTS)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"family": "unicorn"}, "'unicorn' is not a family"),
        ({"defect": "rust"}, "'rust' is not a defect of 'leather'"),
        ({"defect": "missing part"}, "'missing part' is not a defect of 'leather'"),
        ({"size": (8, 96)}, "at least 16"),
        ({"size": 96}, r"size=96; it must be \(height, width\)"),
        ({"seed": -1}, "neither may be negative"),
        ({"defect": "hole", "defect_size": 0}, "defect_size is 0; it must be at least 1"),
        (
            {"family": "key", "size": (240, 320), "defect": "print error", "defect_size": 1},
            "defect_size is 1, but no print error of that size can be seen on this key",
        ),
    ],
)
def test_wrong_arguments_are_named(arguments: dict[str, object], message: str) -> None:
    asked = {"family": "leather", "seed": 0, **arguments}

    with pytest.raises(ValueError, match=message):
        make_sample(**asked)  # type: ignore[arg-type]


def test_the_generator_needs_neither_torch_nor_open_clip() -> None:
    code = "import sys, pyimgano_openclip.samples; print({'torch', 'open_clip'} & set(sys.modules))"
    found = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)

    assert found.stdout.strip() == "set()"


def test_the_package_does_not_load_the_generator() -> None:
    code = "import sys, pyimgano_openclip; print('pyimgano_openclip.samples' in sys.modules)"
    found = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)

    assert found.stdout.strip() == "False"


def test_public_names_are_pinned() -> None:
    assert sorted(samples.__all__) == sorted(
        [
            "DEFECTS",
            "FAMILIES",
            "HELD_OUT_DEFECTS",
            "HELD_OUT_FAMILIES",
            "OBJECTS",
            "SURFACES",
            "Sample",
            "defects_of",
            "make_pair",
            "make_sample",
        ]
    )


@pytest.mark.parametrize("defect", ["hole", "cut", "thread"])
@pytest.mark.parametrize("side", [16, 32])
def test_defects_of_an_absolute_size_lie_anywhere(defect, side):
    """Outside the mask both pictures are equal, and marks are not always near the centre."""
    far = 0
    for seed in range(6):
        good, bad = make_pair("tile", seed=seed, size=(200, 280), defect=defect, defect_size=side)
        rows, cols = np.nonzero(bad.mask)
        extent = max(np.ptp(rows), np.ptp(cols)) + 1
        assert side / 1.5 < extent < side * 1.5
        changed = (good.image != bad.image).any(axis=2)
        assert not changed[: max(rows.min() - side, 0)].any()
        far += abs(rows.mean() - 100) > 50 or abs(cols.mean() - 140) > 70
    assert far


@pytest.mark.parametrize("defect", ["scratch", "dent", "missing part"])
@pytest.mark.parametrize("family", ["screw", "key"])
def test_small_defects_are_seen_on_things_that_fill_little_of_the_picture(family, defect):
    for seed in range(3):
        asked = {"seed": seed, "size": (240, 320), "defect": defect, "defect_size": 6}
        good, bad = make_pair(family, **asked)
        assert bad.mask.any()
        changed = np.abs(good.image.astype(int) - bad.image).max(axis=2)
        assert changed[bad.mask].min() > 0
