"""Memory does not grow with the number of images, even if all results are kept."""

import sys
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

import pyimgano_openclip

from helpers.processes import run_python

pytestmark = pytest.mark.slow
MEASURE = """
import sys
from pathlib import Path
from resource import getpagesize
from pyimgano_openclip import VisionOpenCLIPPatchKNN, VisionOpenCLIPPromptScore

def resident():
    pages = int(Path("/proc/self/statm").read_text().split()[1])
    return pages * getpagesize() / 2**20

images = sorted(Path({folder!r}).iterdir())
detector = {name}(openclip_model_name="bundled", device="cpu").fit(images[:20])
kept, sizes = [], []
for number, scored in enumerate(detector.score_iter(images), start=1):
    kept.append(scored)
    if number in (300, 800):
        sizes.append(resident())
print(sizes[1] - sizes[0])
"""


@pytest.fixture(scope="module")
def many(tmp_path_factory):
    """800 files; most are links to the others."""
    folder = tmp_path_factory.mktemp("many")
    for index in range(800):
        path = folder / f"{index:04d}.png"
        if index < 20:
            noise = np.random.default_rng(index).integers(0, 255, (192, 192, 3), dtype=np.uint8)
            Image.fromarray(noise).save(path)
        else:
            path.hardlink_to(folder / f"{index % 20:04d}.png")
    return folder


@pytest.mark.skipif(sys.platform != "linux", reason="reads /proc")
@pytest.mark.parametrize("name", ["VisionOpenCLIPPatchKNN", "VisionOpenCLIPPromptScore"])
def test_five_hundred_more_images_take_a_few_megabytes(name, many):
    pytest.importorskip("open_clip")
    source = str(Path(pyimgano_openclip.__file__).parent.parent)
    code = MEASURE.format(folder=str(many), name=name)

    grown = float(run_python(code, PYTHONPATH=source, OMP_WAIT_POLICY="PASSIVE").stdout)

    assert grown < 30
