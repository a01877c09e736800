"""What tests of several commands share."""

import pytest
from PIL import Image

from helpers.embedders import red_image, with_green


@pytest.fixture
def parts(tmp_path):
    """Six images of 30 x 45; the last has a defect at the lower right."""
    folder = tmp_path / "parts"
    (folder / "late").mkdir(parents=True)
    for seed in range(5):
        Image.fromarray(red_image(30, 45, seed=seed)).save(folder / f"part-{seed}.png")
    Image.fromarray(with_green(red_image(30, 45, seed=9), 18, 30)).save(folder / "late/bad.png")
    return folder
