"""Files that are replaced whole, or not at all."""

import os
import signal
import sys
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


def into(folder):
    """A file in a folder whose folder is made."""
    with atomic.folder_beside(folder / "file", ".new-") as partial:
        (partial / "file").write_bytes(b"whole")
        (partial / "file").replace(folder / "file")


@pytest.mark.parametrize(
    ("write", "place"),
    [
        (lambda place: atomic.write_atomically(place, b"whole"), "/proc/file"),
        (lambda place: atomic.check_writable(place), "/proc/file"),
        (lambda place: into(place.parent), "/proc/file"),
        (lambda place: atomic.write_atomically(place, b"whole"), "folder"),
        (lambda place: into(place.parent), "folder/file"),
    ],
)
@pytest.mark.skipif(sys.platform != "linux", reason="other systems have no /proc")
def test_what_cannot_be_written_is_told_by_the_name_that_was_asked_for(write, place, tmp_path):
    place = tmp_path / place
    if tmp_path in place.parents:
        (place / "in the way").mkdir(parents=True)
    with pytest.raises(OSError, match=f"'{place}'$") as refused:
        write(place)
    assert refused.value.filename == str(place)
    assert refused.value.filename2 is None
    assert not [*tmp_path.rglob("*.tmp")]


def test_errors_of_other_files_keep_their_names(tmp_path):
    with pytest.raises(FileNotFoundError) as other, atomic.folder_beside(tmp_path / "a", "b"):
        (tmp_path / "other").read_bytes()
    assert other.value.filename == str(tmp_path / "other")
