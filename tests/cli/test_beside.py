"""Masks in the folder of the images that `evaluate` is given."""

import json
import re
import shutil
from argparse import Namespace

import numpy as np
import pytest
from PIL import Image

from pyimgano_openclip.cli import main
from pyimgano_openclip.cli.fit import learnt_from
from pyimgano_openclip.cli.images import search_images
from pyimgano_openclip.cli.truth import read_truth

from helpers.detectors import on_bundled
from helpers.embedders import red_image


def photo(path, seed):
    Image.fromarray(red_image(30, 45, seed=seed)).save(path)


def mask(path, rows):
    """White in so many rows of 30; a few pixels are grey, as at edges of drawn masks."""
    pixels = np.zeros((30, 45), np.uint8)
    pixels[:rows] = 255
    pixels[rows, :5] = range(100, 105)
    Image.fromarray(pixels).save(path)


@pytest.fixture
def mixed(tmp_path):
    """Folders with a mask beside each photograph: a pair is normal, two are anomalous."""
    for kind, seeds in {"good": (1,), "bad": (2, 3)}.items():
        (tmp_path / kind).mkdir()
        for seed in seeds:
            photo(tmp_path / kind / f"{seed}.jpg", seed)
            mask(tmp_path / kind / f"{seed}.png", seed)
    return tmp_path


def truth_of(folder, masks=None):
    return read_truth(
        Namespace(images=[folder / "good", folder / "bad"], masks=masks, from_report=None)
    )


def seen(truth):
    return [image.name for image in truth.images], truth.labels.tolist()


PHOTOS = (["good/1.jpg", "bad/2.jpg", "bad/3.jpg"], [0, 1, 1])


@pytest.mark.parametrize("called", ["{}.png", "{}.PNG", "{}.bmp", "{}_mask.png"])
@pytest.mark.parametrize("given", ["none", "same", "separate"])
def test_masks_beside_images_are_masks_only(called, given, mixed):
    for path in list(mixed.glob("*/*.png")):
        path.rename(path.with_name(called.format(path.stem)))
    masks = {"none": None, "same": mixed / "bad", "separate": mixed / "masks"}[given]
    if given == "separate":
        masks.mkdir()
        for path in mixed.glob("bad/*"):
            if path.suffix != ".jpg":
                shutil.copy(path, masks)
    found = truth_of(mixed, masks)
    assert seen(found) == PHOTOS
    names = [path.relative_to(mixed).as_posix() for path in found.beside]
    assert names == [
        f"{kind}/{called.format(n)}" for kind, n in (("bad", 2), ("bad", 3), ("good", 1))
    ]
    if masks:
        assert found.masks[0] is None
        assert [int(one.any(axis=1).sum()) for one in found.masks[1:]] == [3, 4]


def test_photographs_may_be_png_and_masks_have_another_suffix(mixed):
    for path in mixed.glob("*/*.png"):
        mask(path.with_suffix(".bmp"), int(path.stem))
        photo(path, int(path.stem))
        path.with_suffix(".jpg").unlink()
    found = truth_of(mixed, mixed / "bad")
    assert seen(found)[0] == ["good/1.png", "bad/2.png", "bad/3.png"]
    assert [int(one.any(axis=1).sum()) for one in found.masks[1:]] == [3, 4]


@pytest.mark.parametrize("both", ["photographs", "black"])
def test_it_stops_where_it_cannot_be_told_which_is_the_mask(both, mixed):
    if both == "black":
        Image.new("L", (45, 30)).save(mixed / "bad/3.jpg")
    else:
        photo(mixed / "bad/3.png", 9)
    pair = re.escape(f"which its mask: {mixed / 'bad/3.jpg'} and 3.png. Expected")
    with pytest.raises(ValueError, match=f"{pair}.*; rename one of two photographs, or put masks"):
        truth_of(mixed)


def test_a_copy_of_a_photograph_is_no_mask(mixed):
    for path in mixed.glob("*/*.png"):
        path.unlink()
    copies = shutil.copytree(mixed / "bad", mixed / "masks")
    with pytest.raises(ValueError, match=r"There is no mask of 2\.jpg"):
        truth_of(mixed, copies)
    mask(copies / "2_mask.png", 5)
    mask(copies / "3_mask.png", 6)
    found = truth_of(mixed, copies)
    assert [int(one.any(axis=1).sum()) for one in found.masks[1:]] == [6, 7]


@pytest.mark.slow
def test_masks_that_are_not_scored_are_told(mixed, capsys):
    images = [red_image(30, 45, seed=seed) for seed in range(3)]
    file = on_bundled("patchknn").fit(images).save_checkpoint(mixed / "d.safetensors")
    command = ["evaluate", str(mixed / "good"), str(mixed / "bad"), "--detector", str(file)]
    assert main([*command, "--json"]) == 0
    beside = [str(mixed / name) for name in ("bad/2.png", "bad/3.png", "good/1.png")]
    assert json.loads(capsys.readouterr().out)["masks_beside"] == beside
    assert main(command) == 0
    assert f"3 masks beside images, not scored: {', '.join(beside)}\n" in capsys.readouterr().out


@pytest.mark.parametrize("called", ["{}.png", "{}_mask.png"])
def test_a_detector_does_not_learn_from_masks(called, mixed, capsys):
    for path in list(mixed.glob("*/*.png")):
        path.rename(path.with_name(called.format(path.stem)))
    bad, out = mixed / "bad", mixed / "d.safetensors"
    named = f"{bad / called.format(2)}, {bad / called.format(3)}"
    assert main(["fit", "--normal", str(bad), "--model", "bundled", "--out", str(out)]) == 1
    assert capsys.readouterr().err.splitlines()[-1] == (
        f"pyimgano-openclip: 2 files are like masks of images beside them ({named}); a detector "
        "learns from images. Put masks into a folder of their own, or name files one by one."
    )
    assert not out.exists()


def test_files_named_one_by_one_and_photographs_of_one_name_are_learnt_from(mixed):
    paths = sorted(mixed.glob("bad/*"))
    assert learnt_from(paths, search_images(paths).images) == paths
    photo(mixed / "bad/2.png", 4)
    mixed.joinpath("bad/3.png").unlink()
    folder = [mixed / "bad"]
    assert len(learnt_from(folder, search_images(folder).images)) == 3


@pytest.mark.slow
def test_masks_that_are_scored_are_told(mixed, capsys):
    command = ["score", str(mixed / "bad"), "--class-name", "part", "--model", "bundled"]
    assert main([*command, "--out", str(mixed / "results"), "--json"]) == 0
    masks = f"{mixed / 'bad/2.png'}, {mixed / 'bad/3.png'}"
    told = f"2 files are like masks of images beside them ({masks}) and were scored too."
    found = json.loads(capsys.readouterr().out)
    assert (found["images"], found["doubts"]) == (
        4,
        [f"{told} Put masks into a folder of their own."],
    )


def test_files_that_a_report_marks_are_all_images(mixed):
    marks = [
        {"image": f"bad/{name}", "score": 0.1, "truth": "anomalous"} for name in ("2.jpg", "2.png")
    ]
    file = mixed / "marks.json"
    exported = {"format": "pyimgano-openclip report", "detector": None, "folder": "."}
    file.write_text(json.dumps({**exported, "threshold": 0.3, "images": marks}))
    found = read_truth(Namespace(images=[], masks=None, from_report=file))
    assert ([image.path.name for image in found.images], found.beside) == (["2.jpg", "2.png"], [])
