"""Every example runs."""

import importlib.util
import sys
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

pytestmark = pytest.mark.slow

EXAMPLES = Path(__file__).parent.parent / "examples"


def run(name, *arguments):
    spec = importlib.util.spec_from_file_location(name, EXAMPLES / f"{name}.py")
    module = importlib.util.module_from_spec(spec)
    sys.modules[name] = module
    spec.loader.exec_module(module)
    module.main([str(argument) for argument in arguments])


def test_quickstart_on_solar_cells(tmp_path, capsys):
    pytest.importorskip("elpv_dataset")
    run("quickstart", "--train", 12, "--test", 12, "--out", tmp_path)
    printed = capsys.readouterr().out
    assert printed.count("image AUROC") == 2
    assert printed.count("false-alarm rate") == 2
    for name in ("vision_openclip_promptscore", "vision_openclip_patchknn"):
        sheet = np.asarray(Image.open(tmp_path / name / "contact-sheet.png"))
        assert sheet.shape == (640, 1280, 3)
        assert sheet.std() > 10


def test_quickstart_on_folders_of_ones_own(tmp_path, capsys):
    generator = np.random.default_rng(0)
    for folder, count in (("train/good", 4), ("test/good", 2), ("test/hole", 2)):
        (tmp_path / folder).mkdir(parents=True)
        for index in range(count):
            image = generator.integers(90, 160, (60, 90, 3), dtype=np.uint8)
            if folder == "test/hole":
                image[20:40, 30:50] = 0
            Image.fromarray(image).save(tmp_path / folder / f"{index}.png")
    run("quickstart", "--images", tmp_path, "--class-name", "metal plate", "--out", tmp_path / "o")
    assert capsys.readouterr().out.count("image AUROC") == 2
