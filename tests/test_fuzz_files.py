"""Ten thousand damaged images and as many damaged checkpoints: refused by name, or read."""

import json
import os
import subprocess
import sys

import pytest

from processes import TESTS

COUNT = int(os.environ.get("FUZZ_COUNT", "10000"))
LONGEST = 900  # seconds


@pytest.mark.parametrize("kind", ["images", "checkpoints"])
def test_damaged_files_are_refused_by_name_or_read(kind, tmp_path, tell):
    done = subprocess.run(
        [sys.executable, TESTS / "fuzzing.py", kind, "--count", str(COUNT), "--folder", tmp_path],
        capture_output=True,
        text=True,
        timeout=LONGEST,
        check=False,
    )
    # A crash or a hang leaves its input in the folder.
    assert done.stdout, f"{tmp_path}: exit code {done.returncode}\n{done.stderr[-3000:]}"
    found = json.loads(done.stdout)
    assert found["wrong"] == []
    assert found["read"] + found["refused"] >= COUNT
    assert found["read"] > COUNT / 50  # else the damage is too coarse to try anything
    assert found["refused"] > COUNT / 50
    tell(f"{kind}: " + ", ".join(f"{name} {number}" for name, number in found.items() if number))
