"""The command `evaluate`."""

import json
import re
import shutil
from argparse import Namespace

import numpy as np
import pytest
from PIL import Image
from sklearn.metrics import average_precision_score, f1_score, roc_auc_score

from pyimgano_openclip import load_detector
from pyimgano_openclip.cli import evaluate, main
from pyimgano_openclip.cli.identities import identity_in
from pyimgano_openclip.cli.measures import Share, image_measures, pixel_measures
from pyimgano_openclip.cli.truth import read_truth
from pyimgano_openclip.files.checkpoint import read_checkpoint
from pyimgano_openclip.maps.regions import hot_pixels
from pyimgano_openclip.maps.scores import anomaly_map
from pyimgano_openclip.samples import make_sample

from helpers import runs
from helpers.detectors import on_bundled
from helpers.embedders import red_image

SIZE = (96, 128)


def interrupt(*_, **__):
    """Stand in for what a user interrupts."""
    raise KeyboardInterrupt


@pytest.fixture(scope="module")
def leather(tmp_path_factory):
    """A product as in MVTec AD, and two detectors fitted on it."""
    root = tmp_path_factory.mktemp("leather")
    kinds = {"train/good": (range(8), None), "test/good": (range(20, 26), None)}
    kinds |= {f"test/{name}": (range(30, 33), name) for name in ("hole", "stain")}
    for kind, (seeds, defect) in kinds.items():
        (root / kind).mkdir(parents=True)
        for seed in seeds:
            sample = make_sample("leather", seed=seed, size=SIZE, defect=defect)
            Image.fromarray(sample.image).save(root / kind / f"{seed}.png")
            if defect is not None:
                masks = root / "ground_truth" / defect
                masks.mkdir(parents=True, exist_ok=True)
                Image.fromarray(sample.mask.astype(np.uint8) * 255).save(masks / f"{seed}_mask.png")
    for name, more in (("few", []), ("words", ["--class-name", "leather"])):
        command = ["fit", "--normal", str(root / "train"), "--model", "bundled", *more]
        assert main([*command, "--out", str(root / f"{name}.safetensors")]) == 0
    return root


@pytest.mark.slow
def test_a_folder_as_in_mvtec_ad_is_measured_and_two_detectors_stand_side_by_side(
    leather, tmp_path, capsys
):
    both = ["--detector", f"{leather}/few.safetensors", "--compare", f"{leather}/words.safetensors"]
    command = ["evaluate", str(leather), *both, "--out", str(tmp_path / "out")]
    assert main([*command, "--json"]) == 0
    facts = json.loads(capsys.readouterr().out)
    assert (facts["images"], facts["anomalous"]) == (12, 6)
    few = facts["detectors"]["few"]
    detector = load_detector(leather / "few.safetensors")
    images = [*sorted(leather.glob("test/good/*")), *sorted(leather.glob("test/[hs]*/*"))]
    scores, truth = detector.decision_function(images), np.repeat([0, 1], 6)
    assert few["auroc"] == pytest.approx(roc_auc_score(truth, scores))
    assert few["average_precision"] == pytest.approx(average_precision_score(truth, scores))
    assert few["recall"]["images"] == (scores[6:] > detector.threshold_).sum()
    assert few["false_alarms"]["images"] == (scores[:6] > detector.threshold_).sum()
    assert few["map_size"] == list(SIZE)
    assert 0 < few["aupro_0.05"] < few["aupro_0.3"] < 1
    defective = [image for image in images if image.parent.name != "good"]
    maps = list(detector.iter_anomaly_maps(images))
    regions = np.array([hot_pixels(found, detector.region_threshold()) for found in maps])
    masks = [np.zeros(SIZE)] * 6 + [
        np.asarray(Image.open(leather / f"ground_truth/{image.parent.name}/{image.stem}_mask.png"))
        for image in defective
    ]
    assert few["segmentation_f1"] == pytest.approx(f1_score(np.ravel(masks) > 0, regions.ravel()))
    page = (tmp_path / "out/report.html").read_text("utf-8")
    assert page.count("<polyline") == 4
    assert main([*command, "--overwrite"]) == 0
    printed = capsys.readouterr().out
    assert "AUPRO up to 0.05" in printed
    assert "95 % interval" in printed


@pytest.mark.slow
def test_two_folders_need_no_place_for_results_and_a_missing_mask_is_named(
    leather, tmp_path, capsys
):
    folders = [str(leather / "test/good"), str(leather / "test/hole")]
    command = ["evaluate", *folders, "--detector", str(leather / "few.safetensors")]
    before = sorted(leather.rglob("*"))
    assert main([*command, "--masks", str(leather / "ground_truth/hole"), "--json"]) == 0
    (measured,) = json.loads(capsys.readouterr().out)["detectors"].values()
    assert measured["segmentation_f1"] > 0
    assert sorted(leather.rglob("*")) == before
    masks = shutil.copytree(leather / "ground_truth/hole", tmp_path / "masks")
    (masks / "31_mask.png").unlink()
    assert main([*command, "--masks", str(masks)]) == 1
    assert "no mask of 31.png" in capsys.readouterr().err
    assert main(["evaluate", *folders[:1], *command[3:]]) == 2
    assert main(["evaluate", folders[0], *command[1:2], *command[3:]]) == 1
    assert "Both normal and anomalous" in capsys.readouterr().err


@pytest.mark.slow
def test_pixels_outside_of_the_roi_do_not_count_and_it_is_said_which(leather, tmp_path, capsys):
    saved = tmp_path / "roi.safetensors"
    fit = ["fit", "--normal", str(leather / "train"), "--model", "bundled", "--out", str(saved)]
    assert main([*fit, "--roi", "[0, 0, 128, 48]"]) == 0
    masks = tmp_path / "masks"
    masks.mkdir()
    for image in leather.glob("test/hole/*"):  # a quarter of what is anomalous is inside
        mask = np.zeros(SIZE, np.uint8)
        mask[32:, 20:40] = 255
        Image.fromarray(mask).save(masks / image.name)
    folders = [str(leather / "test/good"), str(leather / "test/hole"), "--masks", str(masks)]
    out = ["--out", str(tmp_path / "out")]
    command = ["evaluate", *folders, "--detector", str(saved)]
    both = [*command, "--compare", f"{leather}/few.safetensors"]
    capsys.readouterr()
    assert main([*both, *out, "--json"]) == 0
    printed = capsys.readouterr().out
    found = json.loads(printed)["detectors"]
    assert (found["roi"]["looked_at"], found["roi"]["anomalous_outside"]) == (0.5, 0.75)
    assert not {"looked_at", "anomalous_outside"} & set(found["few"])
    detector = load_detector(saved)
    images = [*sorted(leather.glob("test/good/*")), *sorted(leather.glob("test/hole/*"))]
    maps = np.array(list(detector.iter_anomaly_maps(images)))[:, :48]
    truth = np.zeros_like(maps, bool)
    truth[6:, 32:, 20:40] = True
    assert found["roi"]["pixel_auroc"] == pytest.approx(roc_auc_score(truth.ravel(), maps.ravel()))
    assert main(both) == 0
    printed = capsys.readouterr().out
    assert "Anomalous pixels outside of the roi      75.0 %\n" in printed
    assert "pixel metrics: each detector by the pixels that it looks at" in printed
    for mask in masks.iterdir():
        Image.fromarray(np.zeros(SIZE, np.uint8)).save(mask)
    assert main([*command, "--json"]) == 0
    facts = json.loads(capsys.readouterr().out, parse_constant=pytest.fail)  # no NaN
    assert facts["empty_masks"] == [str(mask) for mask in sorted(masks.iterdir())]
    assert "pixel_auroc" not in facts["detectors"]["roi"]
    assert main([*command, "--overwrite"]) == 0
    printed = capsys.readouterr().out
    assert "nan" not in printed
    assert "pixel metrics need normal and anomalous pixels inside of the roi" in printed
    assert f"no pixel is anomalous in {masks / '30.png'}, " in printed


def truth_of(tmp_path, mask):
    """The truth of a normal image and of an anomalous one of 20 x 30 with this mask."""
    for grey, kind in enumerate(("good", "bad"), start=1):
        (tmp_path / kind).mkdir()
        Image.fromarray(np.full((20, 30), grey, np.uint8)).save(tmp_path / kind / f"{kind}.png")
    (tmp_path / "bad/masks").mkdir()  # it is no folder of images
    mask.save(tmp_path / "bad/masks/bad.png")
    places = [tmp_path / "good", tmp_path / "bad"]
    return read_truth(Namespace(images=places, masks=tmp_path / "bad/masks", from_report=None))


@pytest.mark.parametrize("shape", [(30, 20), (10, 30), (21, 28)])
def test_a_mask_of_other_proportions_than_its_image_is_refused(shape, tmp_path):
    rows, cols = shape
    with pytest.raises(
        ValueError,
        match=rf"masks.bad.png is no mask of .*20 x 30 pixels, but it has {rows} x {cols}",
    ):
        truth_of(tmp_path, Image.fromarray(np.full(shape, 255, np.uint8)))


@pytest.mark.parametrize("mode", ["L", "1", "LA", "RGBA", "I;16", "large"])
def test_a_mask_is_anomalous_where_it_is_neither_black_nor_transparent(mode, tmp_path):
    inside = np.zeros((20, 30), bool)
    inside[:5, :7] = True
    grey = inside.astype(np.uint8) * 255
    mask = {
        "L": Image.fromarray(grey),
        "1": Image.fromarray(inside),
        "LA": Image.fromarray(np.dstack([np.full_like(grey, 255), grey])),
        "RGBA": Image.fromarray(np.dstack([np.full((20, 30, 3), 255, np.uint8), grey])),
        "I;16": Image.fromarray(inside.astype(np.uint16)),  # of 65535
        "large": Image.fromarray(grey).resize((60, 40), Image.Resampling.NEAREST),
    }[mode]
    found = truth_of(tmp_path, mask)
    assert found.labels.tolist() == [0, 1]
    assert found.masks[0] is None
    step = 2 if mode == "large" else 1
    np.testing.assert_array_equal(found.masks[1][::step, ::step], inside)
    assert found.empty == []


def test_an_image_is_not_its_own_mask_and_an_empty_mask_is_told(tmp_path):
    found = truth_of(tmp_path, Image.new("L", (30, 20)))
    assert [mask.name for mask in found.empty] == ["bad.png"]
    options = Namespace(
        images=[tmp_path / "good", tmp_path / "bad"], masks=tmp_path / "bad", from_report=None
    )
    with pytest.raises(ValueError, match="There is no mask of"):
        read_truth(options)


def test_a_copy_of_a_normal_image_is_not_taken_as_anomalous(tmp_path):
    good, bad = runs.leather(tmp_path / "good", 2), tmp_path / "bad"
    bad.mkdir()
    shutil.copy(good / "001.png", bad / "copy.png")
    options = Namespace(images=[good, bad], masks=None, from_report=None)
    both = re.escape(f"Both normal and anomalous: {good / '001.png'} = {bad / 'copy.png'}.")
    with pytest.raises(ValueError, match=both):
        read_truth(options)


def test_unreadable_images_count_as_flagged_and_not_in_the_ranking():
    scores, truth = np.array([0.1, 0.2, np.nan, 0.3, 0.9, np.nan]), np.array([0, 0, 0, 1, 1, 1])
    found = image_measures(scores, truth, 0.5)
    assert (found["auroc"], found["f1_max"]) == (1.0, 1.0)
    assert (found["recall"]["images"], found["false_alarms"]["images"]) == (2, 1)
    assert (found["recall"]["unreadable"], found["false_alarms"]["unreadable"]) == (1, 1)


@pytest.mark.parametrize("good", [0.1, 0.3])
def test_the_threshold_of_the_best_f1_flags_the_images_that_give_it(good):
    scores, truth = np.array([good, good, 0.3, 0.9]), np.array([0, 0, 1, 1])
    at = image_measures(scores, truth, 0.5)["f1_max_at"]
    found = image_measures(scores, truth, at)
    assert found["recall"]["images"] == 2
    assert found["f1_max"] == 2 * 2 / (2 * 2 + found["false_alarms"]["images"])


def test_with_images_of_one_kind_is_told_what_they_tell():
    found = image_measures(np.array([0.1, 0.2, 0.9]), np.array([0, 0, 0]), 0.5)
    assert found["false_alarms"]["images"] == 1
    assert set(found) == {"threshold", "false_alarms"}


@pytest.mark.slow
def test_the_marks_of_a_report_are_measured_also_if_all_are_normal(leather, tmp_path, capsys):
    marked = [{"image": f"{n}.png", "score": 0.1, "truth": "normal"} for n in range(20, 26)]
    exported = {
        "format": "pyimgano-openclip report", "detector": None, "folder": "good",
        "threshold": 0.3, "images": [*marked, {"image": "x.png", "score": 1.0, "truth": None}],
    }  # fmt: skip
    file = leather / "test/marks.json"  # the folder is relative to it
    file.write_text(json.dumps(exported))
    command = ["evaluate", "--detector", str(leather / "few.safetensors"), "--from-report"]
    assert main([*command, str(file), "--out", str(tmp_path / "out")]) == 0
    printed = capsys.readouterr().out
    assert "6 normal images, 0 anomalous" in printed
    assert "of 6; 95 % interval" in printed
    assert "need normal and anomalous images" in printed
    exported["folder"] = "/moved"
    file.write_text(json.dumps(exported))
    assert main([*command, str(file)]) == 1
    message = capsys.readouterr().err
    assert ": /moved/20.png, " in message
    assert f"marked in {file}, but not there" in message
    assert "in place of '/moved' at \"folder\"" in message


def test_an_interval_is_that_of_clopper_and_pearson():
    assert Share(0, 30).interval == pytest.approx((0, 0.1157), abs=1e-4)  # their table
    assert Share(8, 10).interval == pytest.approx((0.4439, 0.9748), abs=1e-4)


def test_pixels_that_are_not_looked_at_count_in_no_measure():
    """As if the images were cut to the region."""
    rng = np.random.default_rng(0)
    maps = rng.random((4, 60, 80)).astype(np.float32)
    masks = [rng.random((60, 80)) < 0.2 if number % 2 else None for number in range(4)]
    for one, mask in zip(maps, masks, strict=True):
        one[() if mask is None else mask] += 0.3
    region = (slice(None), slice(10, 40), slice(0, 50))
    looked = np.full_like(maps, np.nan)
    looked[region] = maps[region]
    found = pixel_measures(lambda _size: looked, masks, 0.5)
    cut = [None if mask is None else mask[region[1:]] for mask in masks]
    expected = pixel_measures(lambda _size: maps[region], cut, 0.5)
    missed = 1 - sum(mask.sum() for mask in cut[1::2]) / sum(mask.sum() for mask in masks[1::2])
    assert found.pop("anomalous_outside") == pytest.approx(missed)
    assert found.pop("looked_at") == 30 * 50 / (60 * 80)
    assert found.pop("map_size") == (60, 80)
    assert expected.pop("map_size") == (30, 50)
    assert found == pytest.approx(expected, rel=1e-2)
    assert found["pixel_auroc"] == expected["pixel_auroc"] > 0.6
    assert 0 < found["aupro_0.05"] < found["aupro_0.3"] < 1


@pytest.mark.parametrize("everywhere", [False, True])
def test_measures_that_need_pixels_of_both_kinds_are_left_out_without(everywhere):
    masks = [np.full((6, 8), everywhere), np.full((6, 8), everywhere)]
    found = pixel_measures(lambda size: np.random.default_rng(0).random((2, *size)), masks, 0.5)
    assert found == {"map_size": (6, 8)}


def test_a_map_that_is_its_mask_is_perfect_whatever_sizes_the_images_have():
    masks = [np.zeros((60, 80), bool), None, np.zeros((120, 160), bool)]
    masks[0][:30], masks[2][60:, :80] = True, True
    patches = [np.zeros((30, 40), np.float32) for _ in masks]
    patches[0][:15], patches[2][15:, :20] = 1, 1
    found = pixel_measures(lambda size: [anomaly_map(one, size) for one in patches], masks, 0.5)
    assert found["map_size"] == (90, 120)
    assert found["pixel_auroc"] > 0.999
    assert found["aupro_0.3"] > 0.99
    assert found["segmentation_f1"] > 0.97


@pytest.mark.slow
@pytest.mark.parametrize(
    ("kind", "more"),
    [
        ("promptscore", {}),
        ("promptscore", {"use_as_references": True}),
        ("mutual", {}),
    ],
)
def test_what_a_detector_learnt_from_is_known_from_its_file(kind, more, tmp_path):
    folder = runs.leather(tmp_path / "good", 6)
    paths = sorted(folder.iterdir())
    learnt = on_bundled(kind).fit(paths[:5], **more)
    detector = load_detector(learnt.save_checkpoint(tmp_path / "d.safetensors"))
    known = [identity_in(detector, path) in detector.identities_ for path in paths]
    assert known == [True] * 5 + [False]


@pytest.mark.slow
@pytest.mark.parametrize("recipe", [None, "winclip"])
def test_references_and_images_of_fit_are_known_from_a_file(recipe, tmp_path):
    paths = sorted(runs.leather(tmp_path / "good", 8).iterdir())
    learnt = on_bundled("promptscore", recipe=recipe, references=paths[:2]).fit(paths[2:5])
    assert len(learnt.identities_) == 5
    learnt.fit(paths[3:7])
    detector = load_detector(learnt.save_checkpoint(tmp_path / "d.safetensors"))
    known = [identity_in(detector, path) in detector.identities_ for path in paths]
    assert known == [True, True, False, True, True, True, True, False]


@pytest.mark.slow
def test_images_of_a_pool_are_counted_without_calling_them_normal(tmp_path, capsys):
    good, bad = runs.leather(tmp_path / "good", 4), runs.leather(tmp_path / "bad", 2, first=50)
    pool = on_bundled("mutual").fit([*sorted(good.iterdir())[:3], bad / "000.png"])
    file = pool.save_checkpoint(tmp_path / "d.safetensors")
    command = ["evaluate", str(good), str(bad), "--detector", str(file), "--device", "cpu"]
    assert main([*command, "--json"]) == 0
    (measured,) = json.loads(capsys.readouterr().out)["detectors"].values()
    assert measured["in_pool"] == {"normal": 3, "anomalous": 1}
    assert main([*command, "--out", str(tmp_path / "out")]) == 0
    told = "3 normal images and 1 anomalous image, compared with each other without labels"
    printed = capsys.readouterr().out
    assert f"  In the pool: {told}\n" in printed
    assert "earnt from" not in printed
    page = (tmp_path / "out/report.html").read_text("utf-8")
    assert told in page
    assert '"pool":true' in page


@pytest.mark.slow
def test_images_that_were_learnt_from_are_counted(tmp_path, capsys):
    good, bad = runs.leather(tmp_path / "good", 4), runs.leather(tmp_path / "bad", 2)
    for path in bad.iterdir():
        Image.fromarray(255 - np.asarray(Image.open(path))).save(path)
    images = [np.asarray(Image.open(path)) for path in sorted(good.iterdir())]
    fitted = on_bundled("patchknn").fit(images[:3])
    file = fitted.save_checkpoint(tmp_path / "d.safetensors")
    command = ["evaluate", str(good), str(bad), "--detector", str(file), "--device", "cpu"]
    assert main([*command, "--json"]) == 0
    (measured,) = json.loads(capsys.readouterr().out)["detectors"].values()
    assert measured["learnt_from"] == {"normal": 3, "anomalous": 0}
    fitted.threshold_ = 0.2
    chosen = [*command, "--compare", str(fitted.save_checkpoint(tmp_path / "c.safetensors"))]
    assert main(chosen) == 0
    assert "  Learnt from: 3 of the 4 normal images; use others\n" in capsys.readouterr().out
    more = [red_image(48, 64, seed=seed) for seed in range(90, 93)]
    others = on_bundled("patchknn").fit(more).save_checkpoint(tmp_path / "e.safetensors")
    command[4:5] = [str(others), "--compare", str(file), "--out", str(tmp_path / "out")]
    assert main(command) == 0
    told = "3 of the 4 normal images: their false alarms follow from contamination; use others"
    assert capsys.readouterr().out.count(f"  Learnt from: {told}\n") == 1
    page = (tmp_path / "out/report.html").read_text("utf-8")
    assert told in page
    for saved in (file, others):  # by which `threshold --from-report` knows it again
        assert f'"digest":"{read_checkpoint(saved).scoring_digest}"' in page


@pytest.mark.slow
@pytest.mark.parametrize("kind", ["evaluation.json", "report.html"])
def test_an_evaluation_replaces_no_file_unasked(kind, tmp_path, capsys, monkeypatch):
    good, bad = runs.leather(tmp_path / "good", 3), runs.leather(tmp_path / "bad", 2, first=50)
    images = [red_image(48, 64, seed=seed) for seed in range(3)]
    file = on_bundled("patchknn").fit(images).save_checkpoint(tmp_path / "d.safetensors")
    out = tmp_path / "out"
    command = ["evaluate", str(good), str(bad), "--detector", str(file), "--device", "cpu"]
    command += ["--out", str(out)]
    with monkeypatch.context() as patch:
        patch.setattr(evaluate, "write_atomically", interrupt)
        assert main(command) == 130
    assert main(command) == 0  # what was interrupted goes on
    for path in out.iterdir():
        if path.is_file() and path.name != kind:
            path.unlink()
    (out / kind).write_text("precious")
    with monkeypatch.context() as patch:
        patch.setattr(evaluate, "saved_detector", interrupt)  # would load the model
        capsys.readouterr()
        assert main(command) == 1
    told = capsys.readouterr().err
    assert f"{out / kind} exists. Choose another folder with --out, or replace it with" in told
    assert (out / kind).read_text() == "precious"
    assert main([*command, "--overwrite"]) == 0
    assert (out / kind).read_text("utf-8") != "precious"


@pytest.mark.slow
def test_unreadable_images_are_told_with_reasons_and_an_exit_code(tmp_path, capsys):
    good, bad = runs.leather(tmp_path / "good", 3), tmp_path / "bad"
    bad.mkdir()
    for name in ("a.png", "b.png"):
        (bad / name).write_bytes(b"")
    images = [red_image(48, 64, seed=seed) for seed in range(3)]
    file = on_bundled("patchknn").fit(images).save_checkpoint(tmp_path / "d.safetensors")
    command = ["evaluate", str(good), str(bad), "--detector", str(file), "--device", "cpu"]
    assert main([*command, "--out", str(tmp_path / "out")]) == 3
    told = capsys.readouterr().out
    assert "unreadable, counted as flagged: bad/a.png, bad/b.png" in told
    assert "100.0 % (2 of 2, 2 unreadable; 95 % interval" in told
    assert "of 3; 95 % interval" in told
    assert "(2 of 2, 2 unreadable; 95 %" in (tmp_path / "out/report.html").read_text("utf-8")
    assert told.count("cannot be opened as an image") == 1
    assert "    2 images, such as bad/a.png and bad/b.png: cannot be opened as an image" in told
    assert main([*command, "--json"]) == 3
    (measured,) = json.loads(capsys.readouterr().out)["detectors"].values()
    assert set(measured["reasons"]) == {"bad/a.png", "bad/b.png"}
    assert (measured["recall"]["unreadable"], measured["false_alarms"]["unreadable"]) == (2, 0)


@pytest.mark.slow
def test_images_that_are_flagged_whatever_the_threshold_are_told(tmp_path, capsys):
    good, bad = runs.leather(tmp_path / "good", 3), runs.leather(tmp_path / "bad", 2, first=50)
    learnt = [red_image(48, 64, seed=seed) for seed in range(60, 68)]
    file = on_bundled("patchknn").fit(learnt).save_checkpoint(tmp_path / "d.safetensors")
    for path, grey in ((good / "dead.png", 0), (bad / "dead.png", 255), (bad / "lost.png", 1)):
        Image.fromarray(np.full((48, 64, 3), grey, np.uint8)).save(path)
    command = ["evaluate", str(good), str(bad), "--detector", str(file), "--device", "cpu"]
    assert main([*command, "--json"]) == 0
    (measured,) = json.loads(capsys.readouterr().out)["detectors"].values()
    assert measured["false_alarms"]["unlike"] == {
        "good/dead.png": "unlike the training images: nearly black"
    }
    defective = measured["recall"]["unlike"]
    assert list(defective) == ["bad/dead.png", "bad/lost.png"]
    assert main(command) == 0
    told = capsys.readouterr().out
    named = ", ".join(f"{name} ({reason})" for name, reason in defective.items())
    both = f"    of these, 2 are anomalous as a whole, whatever the threshold: {named}\n"
    assert told.index("Recall") < told.index(both) < told.index("False alarms")
    assert "of these, 1 is anomalous as a whole, whatever the threshold: good/dead.png (" in told


@pytest.mark.slow
def test_copies_are_told_since_intervals_are_of_different_images(tmp_path, capsys):
    good, bad = runs.leather(tmp_path / "good", 4), runs.leather(tmp_path / "bad", 2, first=50)
    learnt = [red_image(48, 64, seed=seed) for seed in range(60, 68)]
    file = on_bundled("patchknn").fit(learnt).save_checkpoint(tmp_path / "d.safetensors")
    command = ["evaluate", str(good), str(bad), "--detector", str(file), "--device", "cpu"]
    assert main([*command, "--json"]) == 0
    assert "copies" not in json.loads(capsys.readouterr().out)
    shutil.copy(bad / "001.png", bad / "again.png")
    assert main(command) == 0
    one = "1 of 3 anomalous images is a copy of another; intervals hold for different images"
    assert f"\n{one}\n" in capsys.readouterr().out
    for path in sorted(good.iterdir())[:3]:
        for number in range(2):
            shutil.copy(path, good / f"{path.stem}-{number}.png")
    assert main([*command, "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["copies"] == {"normal": 6, "anomalous": 1}
    assert main(command) == 0
    both = "6 of 10 normal images and 1 of 3 anomalous images are copies of others; intervals hold"
    assert f"\n{both} for different images\n" in capsys.readouterr().out


@pytest.mark.slow
def test_maps_of_images_that_differ_in_size_are_told_to_be_of_one(tmp_path, capsys):
    good, bad = runs.leather(tmp_path / "good", 3), runs.leather(tmp_path / "bad", 1, first=50)
    learnt = [red_image(48, 64, seed=seed) for seed in range(60, 68)]
    file = on_bundled("patchknn").fit(learnt).save_checkpoint(tmp_path / "d.safetensors")
    mask = np.zeros((48, 64), np.uint8)
    mask[:20, :30] = 255
    (tmp_path / "masks").mkdir()
    Image.fromarray(mask).save(tmp_path / "masks/000.png")
    command = ["evaluate", str(good), str(bad), "--masks", str(tmp_path / "masks")]
    command += ["--detector", str(file), "--device", "cpu"]
    told = "  pixel metrics: all maps at 48 x 64 (height x width), since images differ in size\n"
    assert main(command) == 0
    assert told not in capsys.readouterr().out
    Image.fromarray(red_image(50, 70, seed=9)).save(good / "other.png")
    assert main(command) == 0
    assert told in capsys.readouterr().out
    assert main([*command, "--json"]) == 0
    (measured,) = json.loads(capsys.readouterr().out)["detectors"].values()
    assert (measured["image_sizes"], measured["map_size"]) == (2, [48, 64])
