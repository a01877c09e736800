"""The command `fit`, and what `score` finds in its file."""

import json
import shutil
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from pyimgano_openclip import load_detector
from pyimgano_openclip.cli import main
from pyimgano_openclip.cli.fit import _bank_line, doubtful
from pyimgano_openclip.cli.groups import groups_of, parts_line
from pyimgano_openclip.detector.suspects import stand_out
from pyimgano_openclip.samples import make_sample

from helpers.embedders import red_image, red_images, save_all, with_green
from helpers.runs import leather, lines_of


@pytest.mark.slow
@pytest.mark.filterwarnings("default::pyimgano_openclip.bank.copies.CopiesWarning")
def test_too_few_or_identical_images_are_warned_of(tmp_path, capsys):
    normal = leather(tmp_path / "normal", 10)
    out = ["--out", str(tmp_path / "d.safetensors"), "--overwrite"]
    first, *others = map(str, sorted(normal.iterdir()))
    copies = [shutil.copy(first, tmp_path / f"{copy}.png") for copy in "ab"]
    for images, expected in (
        ([first], ["1 image cannot settle a threshold"]),
        ([first, *others[2:]], ["8 images cannot settle a threshold that flags 10 %; fit on 9"]),
        ([str(copy) for copy in copies], ["b.png is a copy of ", "1 image cannot settle"]),
        ([first, *others], []),
    ):
        assert main(["fit", "--normal", *images, *out, "--model", "bundled"]) == 0
        printed = capsys.readouterr()
        warned = [line for line in printed.err.splitlines() if "warning" in line]
        assert len(warned) == len(expected)
        assert all(text in line for text, line in zip(expected, warned, strict=True))
        count = len(images)
        assert f": {count} normal image{'' if count == 1 else 's'}, threshold" in printed.out
        different = len(set(images) - {str(copies[1])})
        some = f"({different} image{'' if different == 1 else 's'}; 29 would bound 10 %)"
        assert some in printed.out


@pytest.mark.slow
def test_a_saved_detector_needs_none_of_its_settings_again(tmp_path, capsys):
    normal, saved = leather(tmp_path / "normal", 6), tmp_path / "saved.safetensors"
    settings = ["force_image_size=[72,96]", "n_neighbors=3", "layers=[0.5,1.0]"]
    flags = [part for text in settings for part in ("--set", text)]
    command = ["fit", "--normal", str(normal), "--out", str(saved), "--model", "bundled"]
    assert main([*command, *flags, "--json"]) == 0
    fitted = json.loads(capsys.readouterr().out)
    assert fitted["canvas"] == [72, 96]
    out = str(tmp_path / "out")
    assert main(["score", str(normal), "--detector", str(saved), "--out", out, "--json"]) == 0
    facts = json.loads(capsys.readouterr().out)
    assert facts["threshold"] == fitted["threshold"]
    assert facts["scored"] == 6
    assert Path(facts["report"]).is_file()
    # An image of the bank keeps its training score; of six, the highest is the threshold.
    highest = max(line["score"] for line in lines_of(tmp_path / "out"))
    assert highest == pytest.approx(fitted["threshold"], abs=1e-6)


@pytest.mark.slow
def test_words_and_references_are_saved_and_come_back(tmp_path, capsys):
    normal, saved = leather(tmp_path / "normal", 4), tmp_path / "saved.safetensors"
    command = ["fit", "--normal", str(normal), "--out", str(saved), "--model", "bundled"]
    words = ["--class-name", "leather", "--defects", "hole,scratch", "--as-references"]
    assert main([*command, *words, "--json"]) == 0
    threshold = json.loads(capsys.readouterr().out)["threshold"]
    out = ["--out", str(tmp_path / "out"), "--json"]
    assert main(["score", str(normal), "--detector", str(saved), *out]) == 0
    assert json.loads(capsys.readouterr().out)["threshold"] == threshold
    settings = json.loads((tmp_path / "out/run.json").read_text())["identity"]
    assert settings["defects"] == ["hole", "scratch"]
    assert settings["class_name"] == "leather"


@pytest.mark.parametrize(
    ("by", "expected"),
    [("folder", ["a", "a", "b"]), ("prefix", ["p1", "p1", "p2"]), ("FILE", ["x", "x", "y"])],
)
def test_images_of_one_part_are_told_by_folder_name_or_table(by, expected, tmp_path):
    paths = [tmp_path / name for name in ("a/p1_1.png", "a/p1_2.png", "b/p2_1.png")]
    table = tmp_path / "parts.csv"
    table.write_text(f"p1_1.png,x\n{paths[1]},x\np2_1.png,y\n")
    groups = groups_of(paths, str(table) if by == "FILE" else by)
    assert groups == expected
    table.write_text("p1_1.png,x\n")
    with pytest.raises(ValueError, match=r"parts.csv does not tell the group of p1_2.png"):
        groups_of(paths, str(table))


def test_shots_of_a_part_in_several_folders_are_of_one_part(tmp_path):
    paths = [tmp_path / f"day{day}/part{part}_{day}.png" for day in (1, 2) for part in range(3)]
    paths.append(tmp_path / "day2/part3_1.png")
    groups = groups_of(paths, "prefix")
    assert groups == ["part0", "part1", "part2"] * 2 + ["part3"]
    several = "4 parts, by prefix; images of 3 lie in several folders: if those of another folder "
    told = parts_line(paths, groups, "prefix")
    assert told.startswith(several)
    assert "pass --group-by folder, or a CSV file" in told
    assert parts_line(paths[3:], groups[3:], "prefix") == "4 parts, by prefix"
    assert parts_line(paths, groups_of(paths, "folder"), "folder") == "2 parts, by folder"


@pytest.mark.parametrize(
    ("folders", "known", "expected"),
    [
        (["set/p1", "set/p2"], (), ["p1", "p2"]),
        (["p1/left", "p1/right", "p2/left"], (), ["p1/left", "p1/right", "p2/left"]),
        (["moved/p2", "moved/p3"], ("p1", "p2"), ["p2", "p3"]),
        (["x/p2/left", "x/p3/left"], ("p1/left", "p2/left"), ["p2/left", "p3/left"]),
        (["x/p2/left"], ("left", "p2/left"), ["p2/left"]),
        (["x/p1", "y/p1"], ("p1",), ["p1", "p1"]),
    ],
)
def test_folders_are_known_again_when_a_set_is_moved(folders, known, expected, tmp_path):
    paths = [tmp_path / folder / "image.png" for folder in folders]
    assert groups_of(paths, "folder", known) == expected


@pytest.mark.parametrize("start", ["good", "./good", "good/../good"])
def test_a_table_may_name_images_by_paths_from_the_working_directory(start, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    paths = [tmp_path / "good" / name for name in ("p1.png", "p2.png")]
    Path("parts.csv").write_text(f"image,group\n{start}/p1.png,0\n{start}/p2.png,1\n")
    assert groups_of(paths, "parts.csv") == ["0", "1"]


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("a/p1.png,x\nb/p1.png,y\n".encode("utf-16"), "parts.csv is not UTF-8 text"),
        ("a/p1.png,x\nb/p1.png,y\n".encode("utf-16-le"), "parts.csv is not UTF-8 text"),
        ("a/p1.png,Stück\n".encode("latin-1"), "parts.csv is not UTF-8 text"),
        (b"a/p1.png,x\n./a/p1.png,y\n", "line 2: .*a/p1.png is of the group 'y', but .* 'x'"),
        (b"p1.png,x\n", "line 1: p1.png fits .*a/p1.png and .*b/p1.png"),
        (b"a/p1.png,x\nb/p1.png,\n", "line 2: the group of b/p1.png is empty"),
    ],
)
def test_a_table_that_leaves_doubt_is_refused(content, message, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    Path("parts.csv").write_bytes(content)
    with pytest.raises(ValueError, match=f"^parts.csv.*{message.removeprefix('parts.csv')}"):
        groups_of([tmp_path / "a/p1.png", tmp_path / "b/p1.png"], "parts.csv")


def test_images_that_stand_out_are_told_as_multiples_of_those_that_do_not():
    scores = np.array([*np.linspace(0.0995, 0.1, 18), 0.102, 0.467, 6.13])
    paths = [Path(f"{number}.png") for number in range(len(scores))]
    suspects = stand_out(scores)
    assert [found.image for found in suspects] == [20, 19]
    suspects = [*suspects, suspects[0]._replace(image=17, score=0.1, times=1.02)]
    assert doubtful(paths, suspects) == [
        "20.png stands out, at 60.1 times the highest of the others: is it normal?",
        "19.png stands out, at 4.6 times the highest of the others: is it normal?",
        "17.png stands out: is it normal?",
    ]


@pytest.mark.slow
def test_training_scores_of_images_that_stand_out_are_on_the_scale_of_the_threshold(
    tmp_path, capsys
):
    normal, saved = leather(tmp_path / "normal", 10), tmp_path / "few.safetensors"
    Image.fromarray(with_green(red_image(48, 64, seed=90), 10, 20)).save(normal / "004.png")
    fit = ["fit", "--normal", str(normal), "--out", str(saved), "--model", "bundled", "--json"]
    assert main(fit) == 0
    (found,) = json.loads(capsys.readouterr().out)["suspects"]
    scores = load_detector(saved).decision_scores_
    assert found["image"] == str(normal / "004.png")
    assert found["training_score"] == scores[4] == scores.max()
    assert found["score"] != found["training_score"]


@pytest.mark.slow
def test_frames_of_one_scene_are_said_to_count_once(tmp_path, capsys):
    noise, folder = np.random.default_rng(0), tmp_path / "good"
    folder.mkdir()
    for number in range(12):
        scene = make_sample("leather", seed=number % 10, size=(120, 160)).image
        frame = np.clip(scene + noise.normal(0, 2, scene.shape), 0, 255).astype(np.uint8)
        Image.fromarray(frame).save(folder / f"{number:02}.png")
    command = ["fit", "--normal", str(folder), "--model", "bundled", "--device", "cpu"]
    assert main([*command, "--out", str(tmp_path / "d.safetensors")]) == 0
    told = capsys.readouterr().out
    assert "(10 images; 29 would bound 10 %)\n2 of these images are copies or near copies" in told


@pytest.mark.slow
def test_images_that_are_stretched_to_one_canvas_are_told_in_the_answer_alone(tmp_path, capsys):
    folder = tmp_path / "good"
    folder.mkdir()
    mixed = [*red_images(6, 40, 90), *red_images(6, 90, 60, first=6)]
    save_all(mixed, folder)
    command = ["fit", "--normal", str(folder), "--model", "bundled", "--device", "cpu"]
    out = ["--out", str(tmp_path / "d.safetensors"), "--overwrite"]
    assert main([*command, *out]) == 0
    printed = capsys.readouterr()
    assert "proportions: images whose width is 0.67 to 2.2 times their height" in printed.out
    assert "pixels of images of the usual size;" in printed.out
    assert "warning" not in printed.err
    assert main([*command, *out, "--json"]) == 0
    facts = json.loads(capsys.readouterr().out)
    assert facts["proportions"] in printed.out
    alike = [str(folder / f"{number}.png") for number in range(6)]
    assert main(["fit", "--normal", *alike, *command[3:], *out, "--json"]) == 0
    facts = json.loads(capsys.readouterr().out)
    assert "proportions" not in facts
    assert "pixels of these images;" in facts["resolution"]


@pytest.mark.slow
def test_a_bank_that_is_thinned_says_so_however_little_is_left(tmp_path, capsys):
    normal = leather(tmp_path / "normal", 10)
    out = ["--out", str(tmp_path / "d.safetensors"), "--overwrite", "--device", "cpu"]
    command = ["fit", "--normal", str(normal), *out, "--model", "bundled"]
    assert main([*command, "--set", "max_patches=10000", "--json"]) == 0
    every = json.loads(capsys.readouterr().out)
    assert every["patches"] == every["patches_seen"]
    told = {}
    for most in (every["patches"], every["patches"] // 4, 2):
        assert main([*command, "--set", f"max_patches={most}"]) == 0
        told[most] = capsys.readouterr().out.splitlines()[0]
    whole, quarter, two = told.values()
    assert whole.endswith(f", {every['patches']} stored patches")
    assert f", {every['patches'] // 4} of {every['patches']} patches stored; each of" in quarter
    assert f", 2 of {every['patches']} patches stored" in two


def test_where_the_covering_distance_tells_nothing_the_bank_is_still_said_to_be_thinned():
    facts = {"patches": 5000, "patches_seen": 1_796_010, "covering_distance": 2.0}
    assert _bank_line(facts) == ", 5000 of 1796010 patches stored (--set max_patches=N)"
