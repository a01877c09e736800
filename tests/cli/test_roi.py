"""The option --roi: where `fit` and `score` look, and what the report shows of it."""

import numpy as np
import pytest
from PIL import Image

from pyimgano_openclip.cli import main
from pyimgano_openclip.cli.arguments.shared import roi

from helpers.detectors import patchknn
from helpers.runs import RecordingEmbedder, fitted_detector, leather, lines_of, scored

ABOVE = np.arange(30)[:, None] < np.full((1, 45), 15)  # of parts of 30 x 45; defects are below


def looking(where):
    """A detector that looks at a region only."""
    return fitted_detector(roi=where)


def test_results_show_where_was_looked(parts, tmp_path):
    done = scored(parts, tmp_path / "out", looking(ABOVE), maps="npy")
    assert {line["label"] for line in lines_of(tmp_path / "out")} == {0}
    name = "late/bad.png"
    found = np.load(tmp_path / f"out/maps/{name}.npy")
    np.testing.assert_array_equal(found, done.detector.get_anomaly_map(parts / name))
    assert (found[15:] == 0).all()
    for kind in ("overlays", "thumbnails"):
        picture = np.asarray(Image.open(tmp_path / f"out/{kind}/{name}.jpg")).astype(int)
        plain = np.asarray(Image.open(parts / name)).astype(int)
        assert picture[20:, :25].mean() < 0.6 * plain[20:, :25].mean()  # dimmed
        assert abs(picture[3:11, 3:-3] - plain[3:11, 3:-3]).mean() < 25
    assert done.settings["roi"] == "mask of 30 x 45 pixels, 50 % inside"


def test_results_of_another_region_are_not_gone_on_with(parts, tmp_path):
    scored(parts, tmp_path / "out", looking(ABOVE))
    with pytest.raises(ValueError, match="roi"):
        scored(parts, tmp_path / "out", looking(~ABOVE))
    assert scored(parts, tmp_path / "out", looking(ABOVE)).tally.kept == 6


def test_results_with_masks_by_name_depend_on_the_masks(parts, tmp_path):
    masks = tmp_path / "masks"
    masks.mkdir()
    for path in parts.rglob("*.png"):
        Image.fromarray(ABOVE).save(masks / path.name)
    fitted = patchknn(embedder=RecordingEmbedder(), roi=masks).fit(sorted(parts.glob("*.png")))
    fitted.threshold_ *= 3
    records = scored(parts, tmp_path / "out", fitted).tally.records
    assert [record["label"] for record in records] == [0] * 6
    Image.fromarray(~ABOVE).save(masks / "bad.png")
    with pytest.raises(ValueError, match="roi"):
        scored(parts, tmp_path / "out", fitted)
    bad, *others = scored(parts, tmp_path / "new", fitted).tally.records
    assert bad["label"] == 1
    assert not any(record["label"] for record in others)


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("mask.png", "mask.png"),
        ("[0, 0, 10, 20]", [0, 0, 10, 20]),
        ("[[0.0, 0, 0.5, 1]]", [[0.0, 0, 0.5, 1]]),
    ],
)
def test_a_region_is_a_path_or_a_list(text, expected):
    assert roi(text) == expected


@pytest.mark.slow
def test_fit_and_score_look_at_a_region(tmp_path, capsys):
    normal, saved = leather(tmp_path / "normal", 4), str(tmp_path / "saved.safetensors")
    mask = np.zeros((48, 64), np.uint8)
    mask[:, :32] = 255
    Image.fromarray(mask).save(tmp_path / "mask.png")
    where = ["--roi", str(tmp_path / "mask.png")]
    command = ["fit", "--normal", str(normal), "--out", saved, "--model", "bundled"]
    assert main([*command, *where]) == 0
    assert "roi: mask of 48 x 64 pixels, 50 % inside" in capsys.readouterr().out
    (tmp_path / "mask.png").unlink()  # it is in the detector
    out = ["--out", str(tmp_path / "out")]
    assert main(["score", str(normal), "--detector", saved, *out, "--maps", "npy", "--json"]) == 0
    capsys.readouterr()
    found = np.load(tmp_path / "out/maps/000.png.npy")
    assert (found[:, 32:] == 0).all()
    assert (found[:, :32] > 0).all()
    report = (tmp_path / "out/report.html").read_text()
    assert "50 % inside" in report
    again = ["score", str(normal), "--detector", saved, *out, "--maps", "npy"]
    assert main([*again, "--threshold", "0.00001"]) == 0  # without the model
    for line in lines_of(tmp_path / "out"):
        assert line["label"] == 1
        assert all(region["box"][2] <= 32 for region in line["regions"])
    other = ["--roi", "[0, 0, 8, 8]", "--out", str(tmp_path / "other")]
    assert main(["score", str(normal), "--detector", saved, *other]) == 1
    assert "was saved with roi" in capsys.readouterr().err
    assert main([*command, "--overwrite", "--roi", "[0, 0, 65, 8]"]) == 1
    assert "reaches beyond it: the image has 48 x 64 pixels" in capsys.readouterr().err


@pytest.mark.slow
def test_images_compared_with_each_other_are_looked_at_where_and_as_closely_as_asked(
    tmp_path, capsys
):
    images = leather(tmp_path / "images", 5, (72, 96))
    command = ["score", str(images), "--model", "bundled", "--out", str(tmp_path / "out")]
    closely = ["--smallest-defect", "4.5", "--roi", "[0, 0, 48, 72]", "--maps", "npy"]
    assert main([*command, *closely]) == 0
    assert "windows" in (tmp_path / "out/report.html").read_text()
    found = np.load(tmp_path / "out/maps/000.png.npy")
    assert (found[:, 48:] == 0).all()
    assert found.any()
    capsys.readouterr()
