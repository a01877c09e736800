"""The command `threshold`, and labels that follow it."""

import json
from functools import partial

import pytest

from pyimgano_openclip import load_detector
from pyimgano_openclip.cli import main
from pyimgano_openclip.cli.promised import promise_line
from pyimgano_openclip.detector.saving import PEAKS
from pyimgano_openclip.files.checkpoint import read_checkpoint, write_checkpoint

from helpers.detectors import BOTH, EACH, TEXT, mutual, patchknn, promptscore
from helpers.embedders import ColourEmbedder, red_images, with_green
from helpers.runs import leather


@pytest.fixture
def saved(tmp_path):
    fitted = patchknn(embedder=ColourEmbedder(rows=4, cols=6), contamination=0.1)
    return fitted.fit(red_images(20, 30, 45)).save_checkpoint(tmp_path / "d.safetensors")


def spotted(count):
    """Images with a green patch, more or less of it."""
    spots = enumerate(red_images(count, 40, 60))
    return [with_green(image, number % 3 * 10, 20, side=3 + number % 7) for number, image in spots]


def asked(capsys, *arguments):
    assert main(["threshold", *map(str, arguments), "--json"]) == 0
    return json.loads(capsys.readouterr().out)


def loaded(path):
    return load_detector(path, embedder=ColourEmbedder(rows=4, cols=6))


def test_it_is_shown_and_stored_and_loaded(saved, capsys):
    before, content = loaded(saved), saved.read_bytes()
    assert asked(capsys, saved)["threshold"] == before.threshold_
    assert saved.read_bytes() == content
    facts = asked(capsys, saved, 0.25)
    assert (facts["threshold"], facts["before"]) == (0.25, before.threshold_)
    assert facts["training_images_above"] == 0
    assert loaded(saved).threshold_ == 0.25
    image = red_images(1, 30, 45, first=99)
    assert loaded(saved).decision_function(image) == before.decision_function(image)
    assert main(["threshold", str(saved)]) == 0
    told = (
        f"threshold 0.25\nas chosen; by the training images it would be {before.threshold_:.4g}\n"
    )
    assert f"{told}above it: 0 of the 20 images that" in capsys.readouterr().out


def test_a_threshold_that_no_patches_exceed_is_refused(saved, tmp_path, capsys):
    content = saved.read_bytes()
    assert main(["threshold", str(saved), "2.5"]) == 2
    assert "SCORE=2.5; it must be a number in (-inf, 2.0]" in capsys.readouterr().err
    exported = {
        "format": "pyimgano-openclip report", "folder": ".", "detector": saved.name,
        "threshold": 2.5, "images": [],
    }  # fmt: skip
    file = tmp_path / "marks.json"
    file.write_text(json.dumps(exported))
    assert main(["threshold", str(saved), "--from-report", str(file)]) == 1
    assert "marks.json: threshold=2.5; it must be" in capsys.readouterr().err
    assert saved.read_bytes() == content


def test_a_contamination_gives_the_threshold_that_fit_would_have_given(saved, capsys):
    other = patchknn(embedder=ColourEmbedder(rows=4, cols=6), contamination=0.3)
    other.fit(red_images(20, 30, 45))
    asked(capsys, saved, "--contamination", 0.3)
    assert loaded(saved).threshold_ == other.threshold_
    assert loaded(saved).contamination == 0.3


def test_a_contamination_gives_both_thresholds_by_prompts_that_fit_would_have_given(
    tmp_path, capsys
):
    build, images = partial(promptscore, embedder=ColourEmbedder(4, 6)), spotted(20)
    groups = [number // 2 for number in range(20)]
    file = build().fit(images, groups=groups).save_checkpoint(tmp_path / "d.safetensors")
    other = build(contamination=0.4).fit(images, groups=groups)
    facts = asked(capsys, file, "--contamination", 0.4)
    found = load_detector(file, embedder=ColourEmbedder(4, 6), **TEXT)
    assert found.label_threshold() == other.label_threshold()
    assert found.region_threshold() == other.region_threshold() == facts["region_threshold"]
    assert facts["region_threshold"] < facts["region_threshold_before"]


def test_a_file_without_the_peaks_of_its_maps_keeps_the_threshold_of_regions(tmp_path, capsys):
    file = promptscore().fit(spotted(20)).save_checkpoint(tmp_path / "d.safetensors")
    found = read_checkpoint(file)
    arrays = {name: array for name, array in found.arrays.items() if name != PEAKS}
    write_checkpoint(file, found.header, arrays)
    assert main(["threshold", str(file), "--contamination", "0.4"]) == 0
    printed, region = capsys.readouterr(), found.header["state"]["thresholds"]["region"]
    assert f"the threshold of regions stays {region:.4g}; fit again" in printed.err
    assert f"of regions: {region:.6g}\n" in printed.out
    assert load_detector(file, embedder=ColourEmbedder(), **TEXT).region_threshold() == region


@pytest.mark.filterwarnings("default::pyimgano_openclip.detector.promises.FewImagesWarning")
@pytest.mark.parametrize(
    ("confidence", "share", "warning"),
    [
        (None, "0.01", "20 images cannot settle a threshold that flags 1 %; fit on 99 or more"),
        (0.95, "0.02", "20 images cannot bound false alarms at 2 % with 95 % confidence; that "),
        (None, "0.1", ""),
    ],
)
def test_a_contamination_is_promised_and_doubted_as_by_fit(
    confidence, share, warning, tmp_path, capsys
):
    detector = patchknn(confidence=confidence, contamination=0.2).fit(red_images(20))
    file = detector.save_checkpoint(tmp_path / "d.safetensors")
    assert main(["threshold", str(file), "--contamination", share]) == 0
    printed, after = capsys.readouterr(), load_detector(file, embedder=ColourEmbedder())
    assert str(after.promise()) in printed.out
    assert warning in printed.err
    assert bool(warning) == bool(printed.err)


def test_a_threshold_is_chosen_until_another_is_computed(saved, capsys):
    assert not asked(capsys, saved)["chosen"]
    assert asked(capsys, saved, 0.25)["chosen"]
    assert loaded(saved).threshold_chosen_
    more = loaded(saved).partial_fit(red_images(3, 30, 45, first=50))
    assert more.threshold_ == 0.25
    more.save_checkpoint(saved)
    facts = asked(capsys, saved)
    assert (facts["chosen"], facts["computed"]) == (True, more.computed_threshold())
    assert not asked(capsys, saved, "--contamination", 0.1)["chosen"]
    assert loaded(saved).threshold_ == more.computed_threshold()


def test_what_tells_a_chosen_threshold_is_checked(saved, capsys):
    found = read_checkpoint(saved)
    write_checkpoint(saved, {**found.header, "threshold_chosen": "yes"}, found.arrays)
    assert main(["threshold", str(saved)]) == 1
    assert "threshold_chosen is 'yes'; expected true or false" in capsys.readouterr().err
    with pytest.raises(ValueError, match=r"threshold_chosen is 'yes'; expected true or false"):
        loaded(saved)


def test_a_contamination_gives_the_threshold_of_a_pool_that_fit_would_have_given(tmp_path, capsys):
    pool = red_images(10)
    file = mutual().fit(pool).save_checkpoint(tmp_path / "pool.safetensors")
    asked(capsys, file, "--contamination", 0.3)
    expected = mutual(contamination=0.3).fit(pool).threshold_
    assert load_detector(file, embedder=ColourEmbedder()).threshold_ == expected


@pytest.mark.parametrize("rule", ["share", "outliers"])
def test_what_would_be_the_threshold_of_a_pool_is_told_by_its_rule(rule, tmp_path, capsys):
    pool = red_images(10)
    detector = mutual(threshold_rule=rule).fit(pool)
    file = detector.save_checkpoint(tmp_path / "pool.safetensors")
    assert asked(capsys, file)["computed"] == detector.threshold_
    facts = asked(capsys, file, 0.3)
    assert (facts["chosen"], facts["computed"]) == (True, detector.threshold_)
    assert load_detector(file, embedder=ColourEmbedder()).computed_threshold() == facts["computed"]
    assert main(["threshold", str(file)]) == 0
    told = f"as chosen; by the pool it would be {detector.threshold_:.4g}\n"
    assert f"{told}above it: 0 of the 10 images of the pool" in capsys.readouterr().out


def test_a_contamination_sets_no_threshold_of_a_pool_that_takes_none(tmp_path, capsys):
    detector = mutual(threshold_rule="outliers").fit(red_images(10))
    file = detector.save_checkpoint(tmp_path / "pool.safetensors")
    content = file.read_bytes()
    assert main(["threshold", str(file), "--contamination", "0.2"]) == 1
    told = f"follows from the scores ({detector.threshold_:.6g}), not from --contamination 0.2"
    assert told in capsys.readouterr().err
    assert file.read_bytes() == content


@BOTH
@pytest.mark.filterwarnings("always::pyimgano_openclip.detector.promises.FewImagesWarning")
def test_a_confidence_has_no_effect_on_peaks_over_a_threshold(build, tmp_path, capsys):
    detector = build(embedder=ColourEmbedder(4, 6), confidence=0.9)
    detector.use_pot_thresholding(tail_fraction=0.6, min_exceedances=5)
    detector.fit(spotted(30))
    file = detector.save_checkpoint(tmp_path / "d.safetensors")
    assert main(["threshold", str(file), "--contamination", "0.05"]) == 0
    assert "--confidence 0.9 has no effect on a threshold by peaks" in capsys.readouterr().err


@EACH
def test_peaks_over_a_threshold_set_that_of_a_saved_detector_too(build, tmp_path, capsys):
    detector = build(embedder=ColourEmbedder(4, 6))
    detector.use_pot_thresholding(tail_fraction=0.6, min_exceedances=5)
    detector.fit(spotted(30))
    file = detector.save_checkpoint(tmp_path / "d.safetensors")
    texts = TEXT if build is promptscore else {}

    def loaded():
        return load_detector(file, embedder=ColourEmbedder(4, 6), **texts)

    assert detector.pot_info_["method"] == "pot"
    assert loaded().computed_threshold() == detector.threshold_
    assert not loaded().threshold_chosen_
    assert asked(capsys, file)["computed"] == detector.threshold_
    detector.contamination = 0.3
    facts = asked(capsys, file, "--contamination", 0.3)
    assert facts["threshold"] == detector.threshold_ == loaded().threshold_
    twin = build(embedder=ColourEmbedder(4, 6)).load_checkpoint(file)
    twin.contamination = 0.2
    detector.contamination = 0.2
    assert twin.threshold_ == detector.threshold_
    assert type(twin.pot_min_exceedances) is int
    by_quantiles = build(embedder=ColourEmbedder(4, 6)).fit(spotted(30))
    by_quantiles.save_checkpoint(file)
    assert detector.load_checkpoint(file).computed_threshold() == by_quantiles.threshold_
    assert not hasattr(detector, "pot_info_")


def test_damaged_numbers_of_peaks_over_a_threshold_are_refused(saved, capsys):
    found = read_checkpoint(saved)
    write_checkpoint(saved, {**found.header, "peaks_over_threshold": {}}, found.arrays)
    assert main(["threshold", str(saved)]) == 1
    assert "d.safetensors is damaged" in capsys.readouterr().err
    with pytest.raises(ValueError, match=r"d\.safetensors is damaged.*pot_tail_fraction"):
        loaded(saved)


def test_the_threshold_of_a_report_is_taken_from_its_file(saved, tmp_path, capsys):
    exported = {
        "format": "pyimgano-openclip report", "detector": saved.name, "folder": "/parts",
        "threshold": 0.125, "images": [],
    }  # fmt: skip
    file = tmp_path / "marks.json"
    file.write_text(json.dumps(exported))
    assert asked(capsys, saved, "--from-report", file)["threshold"] == 0.125
    for wrong, message in (
        ({**exported, "detector": "other.safetensors"}, "about other.safetensors, not about d"),
        ({**exported, "detector": None}, "is of no saved detector, not about d.safetensors; pass"),
        ({**exported, "threshold": None}, "its threshold is None"),
        ({}, "was not exported from a report"),
    ):
        file.write_text(json.dumps(wrong))
        assert main(["threshold", str(saved), "--from-report", str(file)]) == 1
        assert message in capsys.readouterr().err


def test_the_threshold_of_a_report_is_for_the_detector_that_scored(saved, tmp_path, capsys):
    exported = {
        "format": "pyimgano-openclip report", "detector": saved.name, "folder": "/parts",
        "digest": read_checkpoint(saved).scoring_digest, "threshold": 0.125, "images": [],
    }  # fmt: skip
    file = tmp_path / "marks.json"
    file.write_text(json.dumps(exported))
    asked(capsys, saved, 0.25)  # another threshold makes no other detector
    renamed = saved.rename(tmp_path / "renamed.safetensors")
    assert asked(capsys, renamed, "--from-report", file)["threshold"] == 0.125
    more = loaded(renamed).partial_fit(red_images(2, 30, 45, first=70))
    content = more.save_checkpoint(saved).read_bytes()
    assert main(["threshold", str(saved), "--from-report", str(file)]) == 1
    message = "is about another d.safetensors, with other scores: it has learnt since or was fitted"
    assert message in capsys.readouterr().err
    assert saved.read_bytes() == content


def test_what_cannot_be_stored_is_refused(saved, tmp_path, capsys):
    content = saved.read_bytes()
    assert main(["threshold", str(saved), "--contamination", "0.7"]) == 2
    assert "contamination" in capsys.readouterr().err
    unfitted = promptscore(embedder=ColourEmbedder()).save_checkpoint(tmp_path / "z.safetensors")
    assert main(["threshold", str(unfitted), "--contamination", "0.1"]) == 1
    assert "no training scores" in capsys.readouterr().err
    assert asked(capsys, unfitted)["threshold"] is None
    assert saved.read_bytes() == content


@pytest.mark.slow
def test_a_refused_image_is_never_let_pass(tmp_path, capsys):
    folder, saved = leather(tmp_path / "normal", 10), tmp_path / "saved.safetensors"
    fit = ["fit", "--normal", str(folder), "--out", str(saved), "--model", "bundled"]
    assert main(fit) == 0
    score = ["score", str(folder), "--detector", str(saved), "--out", str(tmp_path / "out")]
    for _ in range(2):  # afresh, and where only the labels may change
        assert main([*score, "--threshold", "3"]) == 2
        assert "--threshold=3.0; it must be a number in (-inf, 2.0]" in capsys.readouterr().err
        assert main([*score, "--threshold", "2"]) == 0


def test_thresholds_of_references_are_shown_and_follow_what_is_asked_for(tmp_path, capsys):
    images = red_images(6)
    detector = promptscore(embedder=ColourEmbedder(), references=images).read_references()
    file = detector.save_checkpoint(tmp_path / "d.safetensors")
    shown = asked(capsys, file)
    assert shown["threshold"] == shown["computed"] == detector.label_threshold()
    assert shown["region_threshold"] == detector.region_threshold()
    assert shown["by_references"]
    assert main(["threshold", str(file), "--contamination", "0.4"]) == 0
    printed = capsys.readouterr().out
    assert "from the references" in printed
    detector.contamination = 0.4
    assert promise_line(detector.promise()) in printed
    again = load_detector(file, embedder=ColourEmbedder())
    assert again.label_threshold() == detector.label_threshold() < shown["threshold"]
    assert again.region_threshold() == detector.region_threshold()
    again.contamination = 0.1
    assert again.label_threshold() == shown["threshold"]
    assert main(["threshold", str(file), "0.9"]) == 0
    assert load_detector(file, embedder=ColourEmbedder()).label_threshold() == 0.9


def test_a_file_without_thresholds_says_so(tmp_path, capsys):
    file = promptscore(embedder=ColourEmbedder()).save_checkpoint(tmp_path / "d.safetensors")
    assert asked(capsys, file)["threshold"] is None
