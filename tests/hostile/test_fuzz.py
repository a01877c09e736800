"""Damaged images and checkpoints by the thousand: refused by name, or read."""

import json
import subprocess
import sys

import pytest

from helpers.places import TESTS

LONGEST = 1800  # seconds; --fuzz may ask for a lot


@pytest.mark.parametrize("kind", ["images", "checkpoints"])
@pytest.mark.timeout(LONGEST + 60)
def test_damaged_files_are_refused_by_name_or_read(kind, fuzz, tmp_path, tell):
    program = (sys.executable, "-m", "helpers.fuzzing", kind)
    done = subprocess.run(
        [*program, "--count", str(fuzz), "--folder", tmp_path],
        cwd=TESTS,
        capture_output=True,
        text=True,
        timeout=LONGEST,
        check=False,
    )
    # A crash or a hang leaves its input in the folder.
    assert done.stdout, f"{tmp_path}: exit code {done.returncode}\n{done.stderr[-3000:]}"
    found = json.loads(done.stdout)
    assert found["wrong"] == []
    assert found["read"] + found["refused"] >= fuzz
    assert found["read"] > fuzz / 50  # else the damage is too coarse to try anything
    assert found["refused"] > fuzz / 50
    tell(f"{kind}: " + ", ".join(f"{name} {number}" for name, number in found.items() if number))
