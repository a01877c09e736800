"""The tiny CLIP inside the package: whole, loadable, and better than chance."""

from __future__ import annotations

import io
import json
import shutil
import zipfile
from pathlib import Path

import numpy as np
import pytest

from pyimgano_openclip import VisionOpenCLIPPatchKNN, VisionOpenCLIPPromptScore, bundled
from pyimgano_openclip.samples import HELD_OUT_FAMILIES, OBJECTS, defects_of, make_sample

from helpers.processes import run_python

SURFACES = [family for family in HELD_OUT_FAMILIES if family not in OBJECTS]
THINGS = [family for family in HELD_OUT_FAMILIES if family in OBJECTS]
PRODUCT = 700  # no product of the published figures


def test_the_files_in_the_package_are_whole():
    folder = bundled.weights_dir()

    assert (folder / "open_clip_model.safetensors").is_file()
    assert (folder / "MODEL_CARD.md").is_file()


@pytest.fixture
def copy(tmp_path, monkeypatch):
    """A copy of the files that may be damaged, in the place of the package's own."""
    folder = Path(bundled.__file__).parent
    shutil.copytree(folder, tmp_path / "bundled")
    monkeypatch.setattr(bundled, "__file__", str(tmp_path / "bundled" / "__init__.py"))
    return tmp_path / "bundled"


@pytest.mark.parametrize("name", ["open_clip_model.safetensors", "open_clip_config.json"])
def test_a_damaged_file_is_named(copy, name):
    content = bytearray((copy / name).read_bytes())
    content[len(content) // 2] ^= 1
    (copy / name).write_bytes(content)

    with pytest.raises(ValueError, match=f"{name} of the bundled model is damaged"):
        bundled.weights_dir()


def test_a_missing_file_is_named(copy):
    (copy / "open_clip_model.safetensors").unlink()

    with pytest.raises(ValueError, match="safetensors of the bundled model is missing"):
        bundled.weights_dir()


def test_a_package_in_an_archive_says_that_it_has_to_be_unpacked(tmp_path):
    top = Path(bundled.__file__).parents[2]
    archive = shutil.make_archive(str(tmp_path / "packed"), "zip", top, "pyimgano_openclip")
    code = f"""
import sys
sys.path.insert(0, {archive!r})
from pyimgano_openclip.bundled import weights_dir
try:
    weights_dir()
except ValueError as error:
    print(error)"""
    told = run_python(code).stdout
    assert told.startswith(str(Path(archive) / "pyimgano_openclip/bundled"))
    assert "Unpack the archive" in told


def test_it_takes_at_most_four_megabytes_of_a_wheel():
    packed = io.BytesIO()
    with zipfile.ZipFile(packed, "w", zipfile.ZIP_DEFLATED) as wheel:
        for path in bundled.weights_dir().iterdir():
            if path.is_file():
                wheel.write(path)

    assert len(packed.getvalue()) < 4_000_000


@pytest.fixture(scope="module")
def random_weights(tmp_path_factory):
    """A folder like the bundled one, with the weights that open_clip starts with."""
    open_clip = pytest.importorskip("open_clip")
    import torch
    from safetensors.torch import save_file

    folder = tmp_path_factory.mktemp("random")
    shutil.copy(bundled.weights_dir() / "open_clip_config.json", folder)
    config = json.loads((folder / "open_clip_config.json").read_text())["model_cfg"]
    with torch.random.fork_rng():
        torch.manual_seed(0)
        save_file(open_clip.CLIP(**config).state_dict(), folder / "open_clip_model.safetensors")
    return f"local-dir:{folder}"


def auroc(labels, scores):
    """Share of pairs in the right order, ties counting half."""
    _, ranks, counts = np.unique(scores, return_inverse=True, return_counts=True)
    middle = np.cumsum(counts) - (counts - 1) / 2
    positive = np.asarray(labels, bool)
    n, m = positive.sum(), (~positive).sum()
    return (middle[ranks][positive].sum() - n * (n + 1) / 2) / (n * m)


def pictures(family):
    defects = defects_of(family)
    samples = [make_sample(family, seed=300 + s, product=PRODUCT) for s in range(len(defects))]
    return samples + [
        make_sample(family, seed=s, product=PRODUCT, defect=d) for s, d in enumerate(defects)
    ]


def as_it_is(found):
    return found


def transposed(found):
    return found.transpose(0, 2, 1)


def shuffled(found):
    """The patches of each map in another order."""
    n, height, width = found.shape
    patches = found.reshape(n, height // 8, 8, width // 8, 8).transpose(0, 1, 3, 2, 4)
    order = np.random.default_rng(0).permutation(patches.shape[1] * patches.shape[2])
    mixed = patches.reshape(n, -1, 8, 8)[:, order].reshape(patches.shape)
    return mixed.transpose(0, 1, 3, 2, 4).reshape(found.shape)


def quality(detector, samples, change=as_it_is):
    """AUROC of the images and of the pixels."""
    images = [sample.image for sample in samples]
    masks = np.stack([sample.mask for sample in samples])
    found = change(np.asarray(detector.predict_anomaly_map(images)))
    scores = detector.decision_function(images)
    return np.array([auroc(masks.any(axis=(1, 2)), scores), auroc(masks.ravel(), found.ravel())])


def zero_shot(name, families, change=as_it_is, **options):
    detector = VisionOpenCLIPPromptScore(openclip_model_name=name, device="cpu", **options)
    found = [
        quality(detector.set_class_name(family), pictures(family), change) for family in families
    ]
    return np.mean(found, axis=0)


def few_shot(name, families, change=as_it_is):
    found = []
    for family in families:
        detector = VisionOpenCLIPPatchKNN(openclip_model_name=name, device="cpu")
        detector.fit([make_sample(family, seed=900 + s, product=PRODUCT).image for s in range(4)])
        found.append(quality(detector, pictures(family), change))
    return np.mean(found, axis=0)


@pytest.mark.slow
def test_zero_shot_it_finds_defects_on_surfaces_it_never_saw(random_weights):
    image, pixel = zero_shot("bundled", SURFACES) - zero_shot(random_weights, SURFACES)

    assert image > 0.2
    assert pixel > 0.2


@pytest.mark.slow
def test_zero_shot_it_locates_defects_on_objects_it_never_saw(random_weights):
    _, pixel = zero_shot("bundled", THINGS) - zero_shot(random_weights, THINGS)

    assert pixel > 0.15


@pytest.mark.slow
def test_few_shot_it_locates_defects_better_than_random_weights(random_weights):
    # With two dozen images of each product, the AUROC of images alone varies by more than 0.1.
    families = [*SURFACES, *THINGS]
    _, pixel = few_shot("bundled", families) - few_shot(random_weights, families)

    assert pixel > 0.02


@pytest.mark.slow
def test_swapped_prompts_turn_the_scores_over():
    from pyimgano_openclip.prompts.wording import ANOMALOUS_STATES, NORMAL_STATES

    image, pixel = zero_shot(
        "bundled", SURFACES, normal_states=ANOMALOUS_STATES, anomalous_states=NORMAL_STATES
    )
    assert image < 0.3
    assert pixel < 0.3


@pytest.mark.slow
@pytest.mark.parametrize("change", [transposed, shuffled])
@pytest.mark.parametrize("path", [zero_shot, few_shot])
def test_patches_in_the_wrong_place_are_noticed(path, change):
    """What the margins above would lose to such a mistake is more than the margins are."""
    _, right = path("bundled", SURFACES[:2])
    _, wrong = path("bundled", SURFACES[:2], change)

    assert wrong < right - 0.2


@pytest.mark.slow
def test_a_class_name_of_no_training_image_works_too():
    detector = VisionOpenCLIPPromptScore(openclip_model_name="bundled", class_name="zorblax")
    found = [quality(detector, pictures(family)) for family in SURFACES[:2]]

    assert np.mean(found, axis=0)[1] > 0.8
