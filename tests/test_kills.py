"""A process that is killed while it saves: the file is the old one or the new one, whole."""

import os
import random
import signal
import subprocess
import sys
import time

import numpy as np
import pytest

from pyimgano_openclip import atomic

from forged import NORMAL, patchknn
from processes import TESTS
from saving_forever import detectors
from wide import WideEmbedder

KILLS = int(os.environ.get("KILLS", "200"))
LONGEST = 2.5  # savings until a kill

pytestmark = pytest.mark.skipif(not hasattr(os, "fork"), reason="forks")


def test_whenever_it_is_killed_the_file_is_the_old_or_the_new_one(tmp_path, tell):
    path = tmp_path / "model.safetensors"
    both = detectors()
    start = time.perf_counter()
    both[0].save_checkpoint(path)
    longest = LONGEST * (time.perf_counter() - start)
    thresholds = {detector.threshold_ for detector in both}
    chance, seen, cut = random.Random(0), [], 0
    with subprocess.Popen(
        [sys.executable, TESTS / "saving_forever.py", path],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    ) as server:
        assert server.stdout.readline() == "ready\n"
        for _ in range(KILLS):
            print(file=server.stdin, flush=True)
            child = int(server.stdout.readline())
            time.sleep(chance.uniform(0, longest))
            os.kill(child, signal.SIGKILL)
            assert server.stdout.readline() == "gone\n"
            seen.append(patchknn(embedder=WideEmbedder()).load_checkpoint(path).threshold_)
            partial = [file for file in tmp_path.iterdir() if file != path]
            cut += len(partial)
            for file in partial:
                file.unlink()
        server.stdin.close()
    assert set(seen) == thresholds  # both the old and the new one were met, and nothing else
    assert cut > KILLS / 10  # else it was hardly ever killed in the middle
    tell(
        f"kills: {KILLS} while saving, {cut} of them within a file; the file was whole every time, "
        f"{time.perf_counter() - start:.0f} s"
    )


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
