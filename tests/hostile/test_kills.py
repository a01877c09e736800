"""A process that is killed while it saves: the file is the old one or the new one, whole."""

import os
import random
import signal
import subprocess
import sys
import time

import pytest

from helpers.detectors import patchknn
from helpers.embedders import WideEmbedder
from helpers.places import TESTS
from helpers.saving_forever import detectors

INPUTS_PER_KILL = 50
LONGEST = 2.5  # savings until a kill

pytestmark = pytest.mark.skipif(not hasattr(os, "fork"), reason="forks")


def test_whenever_it_is_killed_the_file_is_the_old_or_the_new_one(fuzz, tmp_path, tell):
    kills = max(20, fuzz // INPUTS_PER_KILL)
    path = tmp_path / "model.safetensors"
    thresholds = {detector.threshold_ for detector in detectors()}
    start = time.perf_counter()
    chance, seen, cut = random.Random(0), [], 0
    with subprocess.Popen(
        [sys.executable, "-m", "helpers.saving_forever", path],
        cwd=TESTS,
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    ) as server:
        longest = LONGEST * float(server.stdout.readline())
        for _ in range(kills):
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
    assert cut > kills / 10  # else it was hardly ever killed in the middle
    tell(
        f"kills: {kills} while saving, {cut} of them within a file; the file was whole every time, "
        f"{time.perf_counter() - start:.0f} s"
    )
