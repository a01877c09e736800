"""Files that are replaced whole, or not at all."""

import os
import signal
import time

import numpy as np
import pytest

from pyimgano_openclip.files import atomic

from helpers.detectors import patchknn
from helpers.forged import NORMAL
from helpers.processes import run_python


def partial_of(path):
    """What a process would leave that is killed while it writes."""
    with atomic.replacing(path):
        (partial,) = path.parent.iterdir()
    path.unlink()
    return partial


def test_what_killed_processes_leave_is_removed_an_hour_later(tmp_path):
    path = tmp_path / "model"
    detector = patchknn().fit(NORMAL)
    old, young = partial_of(path), partial_of(path)
    others = [partial_of(tmp_path / "other"), tmp_path / "model.txt", tmp_path / ".model.tmp"]
    for file in (old, young, *others):
        file.write_bytes(b"half a file")
    past = time.time() - atomic.ABANDONED - 60
    for file in (old, *others):
        os.utime(file, (past, past))
    detector.save_checkpoint(path)
    assert {file.name for file in tmp_path.iterdir()} == {
        "model", young.name, *(file.name for file in others)
    }  # fmt: skip
    twin = patchknn().load_checkpoint(path)
    np.testing.assert_array_equal(twin.decision_scores_, detector.decision_scores_)


def test_a_failed_save_leaves_the_old_file_and_no_other(tmp_path, monkeypatch):
    path = patchknn().fit(NORMAL).save_checkpoint(tmp_path / "model")
    before = path.read_bytes()

    def full(_descriptor):
        raise OSError("no space left on device")

    monkeypatch.setattr("os.fsync", full)
    with pytest.raises(OSError, match="no space"):
        patchknn().fit(NORMAL[:3]).save_checkpoint(path)
    assert path.read_bytes() == before
    assert list(tmp_path.iterdir()) == [path]


@pytest.mark.parametrize(
    "moment", ["os.fsync", pytest.param("pathlib.Path.replace", marks=pytest.mark.slow)]
)
def test_a_kill_while_saving_leaves_the_old_file(moment, tmp_path):
    path = patchknn().fit(NORMAL).save_checkpoint(tmp_path / "model")
    before = path.read_bytes()
    script = f"""
import os, pathlib, signal
from helpers.detectors import patchknn
from helpers.forged import NORMAL
detector = patchknn().fit(NORMAL[:3])
{moment} = lambda *_: os.kill(os.getpid(), signal.SIGKILL)
detector.save_checkpoint({str(path)!r})
"""
    assert run_python(script, fails=True).returncode == -signal.SIGKILL
    assert path.read_bytes() == before
