"""Little memory, as with ``ulimit -v``: right scores or a MemoryError, whatever there is of it."""

import json
import sys
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

import pyimgano_openclip

from helpers.processes import run

pytestmark = pytest.mark.slow
LIMITS = (0, 15, 30, 50, 70, 90, 110, 150, 200, 6000)  # MiB after the imports


@pytest.fixture(scope="module")
def large(tmp_path_factory):
    """Images that take 18 MiB each, and their maps 24."""
    folder = tmp_path_factory.mktemp("large")
    for seed in range(3):
        small = np.random.default_rng(seed).integers(0, 255, (20, 30, 3), dtype=np.uint8)
        whole = Image.fromarray(small).resize((3000, 2000), Image.Resampling.NEAREST)
        whole.save(folder / f"{seed}.png", compress_level=1)
    return folder


@pytest.mark.skipif(sys.platform != "linux", reason="needs a limit on address space")
@pytest.mark.parametrize("name", ["patchknn", "promptscore"])
def test_little_memory_is_a_clear_error_or_does_not_matter(name, large, tell):
    pytest.importorskip("open_clip")
    source = str(Path(pyimgano_openclip.__file__).parent.parent)
    script = [sys.executable, "-m", "helpers.starved"]
    done = run(*script, name, large, *LIMITS, PYTHONPATH=source)
    *tried, ample = map(json.loads, done.stdout.splitlines())
    assert len(tried) == len(LIMITS) - 1, done.stderr
    assert not [found for found in tried if "died" in found], done.stderr
    assert "error" in tried[0]
    assert "error" not in ample
    errors = [found["error"] for found in tried if "error" in found]
    for error in errors:
        assert error.startswith("There is not enough memory for "), errors
    for found in tried:  # where there was an error, after the limit was lifted
        np.testing.assert_allclose(found["scores"], ample["scores"], rtol=1e-5, atol=2e-6)
    tell(f"limits of memory, {name}: tried {len(LIMITS)}, refused {len(errors)}")
