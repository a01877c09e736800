"""The example that scores on a Ray cluster: a real one on this machine, with two workers."""

import importlib.util
import io
import json
import os
import signal
import subprocess
import sys
import time
from contextlib import contextmanager, suppress
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from pyimgano_openclip import VisionOpenCLIPPatchKNN, VisionOpenCLIPPromptScore
from pyimgano_openclip.samples import make_sample

from example import EXAMPLES

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(
        importlib.util.find_spec("ray") is None,
        reason="Ray is missing: pip install 'pyimgano-openclip[ray]'",
    ),
]

fcntl = pytest.importorskip("fcntl", reason="leases of files are for Unix")
LIMIT = 300  # seconds for one run; it takes some 20 on two idle cores


def tile(seed, size=(72, 96)):
    """A generated tile; every fourth has a hole."""
    defect = "hole" if seed % 4 == 0 else None
    return make_sample("tile", seed=seed, size=size, defect=defect).image


@contextmanager
def running(home, *arguments):
    """The example in a process of its own; what Ray starts for it ends with it."""
    process = subprocess.Popen(
        [sys.executable, EXAMPLES / "ray_batch.py", *map(str, arguments)],
        env={
            **os.environ,
            "HOME": str(home),
            "RAY_ENABLE_WINDOWS_OR_OSX_CLUSTER": "0",  # so it keeps to 127.0.0.1
            "RAY_USAGE_STATS_ENABLED": "0",
            "RAY_worker_niceness": "0",
        },
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )
    try:
        yield process
    finally:
        process.terminate()
        process.communicate(timeout=60)


def finish(process):
    """Wait for the end, which has to be a good one."""
    printed, _ = process.communicate(timeout=LIMIT)
    assert process.returncode == 0, printed


@contextmanager
def opened_by_nobody_else(path):
    """Whoever opens the file waits in the system call, for at most 45 s; yields who, if anyone."""
    before = signal.signal(signal.SIGIO, signal.SIG_IGN)  # tells that somebody waits
    with path.open("r+b") as file:
        fcntl.fcntl(file, fcntl.F_SETLEASE, fcntl.F_WRLCK)
        yield lambda: fcntl.fcntl(file, fcntl.F_GETLEASE) != fcntl.F_WRLCK
        fcntl.fcntl(file, fcntl.F_SETLEASE, fcntl.F_UNLCK)
    signal.signal(signal.SIGIO, before)


def kill_the_reader(path, process, home):
    """SIGKILL a worker in the middle of a batch: while it waits for a file."""
    deadline = time.monotonic() + LIMIT
    with opened_by_nobody_else(path) as somebody_waits:
        while not somebody_waits():
            assert process.poll() is None, process.stdout.read()
            assert time.monotonic() < deadline, "no worker opened the file"
            time.sleep(0.1)
        os.kill(next(workers_at_work(home)), signal.SIGKILL)


def workers_at_work(home):
    """Numbers of the processes that score a batch; Ray says what they do in their titles."""
    ours = f"HOME={home}".encode()
    for folder in Path("/proc").iterdir():
        with suppress(OSError):  # it has ended meanwhile, or is not ours
            title = (folder / "cmdline").read_bytes()
            scores = title.startswith(b"ray::MapWorker") and b".submit" in title
            if scores and ours in (folder / "environ").read_bytes().split(b"\0"):
                yield int(folder.name)


@pytest.mark.skipif(sys.platform != "linux", reason="needs leases of files, and /proc")
def test_a_killed_worker_costs_no_score(tmp_path):
    """A folder, in more batches than there are workers, with a saved detector."""
    detector = VisionOpenCLIPPatchKNN(openclip_model_name="bundled", contamination=0.05)
    saved = detector.fit([tile(seed) for seed in range(1, 16, 2)]).save_checkpoint(
        tmp_path / "tile.safetensors"
    )
    folder, out = tmp_path / "images", tmp_path / "scores.jsonl"
    folder.mkdir()
    for seed in range(24):
        Image.fromarray(tile(100 + seed)).save(folder / f"{seed:02}.png")
    (folder / "20-broken.png").write_bytes(b"no image")
    arguments = ("--detector", saved, "--out", out, "--batch-size", 5)
    with running(tmp_path, folder, *arguments) as process:
        kill_the_reader(folder / "11.png", process, tmp_path)
        finish(process)

    rows = [json.loads(line) for line in out.read_text().splitlines()]
    paths = sorted(folder.iterdir())
    assert [Path(row["path"]) for row in rows] == paths
    broken, _ = rows.pop(20), paths.pop(20)
    assert broken["score"] is broken["label"] is broken["percentile"] is None
    assert "20-broken.png cannot be opened" in broken["error"]
    expected = detector.decision_function(paths)
    assert np.allclose([row["score"] for row in rows], expected, rtol=0, atol=1e-6)
    assert [row["label"] for row in rows] == (expected > detector.threshold_).tolist()
    shares = detector.score_percentile([row["score"] for row in rows])
    assert [row["percentile"] for row in rows] == shares.tolist()
    assert {row["error"] for row in rows} == {None}


def test_a_table_of_image_files_is_scored_as_in_one_process(tmp_path):
    """Zero-shot, upright images first: batches on their own would choose other proportions."""
    import pyarrow as pa
    from pyarrow import parquet

    images = [tile(seed, (96, 72) if seed < 4 else (72, 96)) for seed in range(12)]
    files = []
    for pixels in images:
        file = io.BytesIO()
        Image.fromarray(pixels).save(file, "png")
        files.append(file.getvalue())
    table = pa.table({"part": range(len(files)), "image": files})
    parquet.write_table(table, tmp_path / "parts.parquet", row_group_size=4)
    out = tmp_path / "scores.parquet"
    arguments = ("--column", "image", "--class-name", "tile", "--out", out, "--batch-size", 4)
    with running(tmp_path, tmp_path / "parts.parquet", *arguments) as process:
        finish(process)

    found = parquet.read_table(out)
    assert found.column_names == ["part", "score", "label", "percentile", "error"]
    assert found["part"].to_pylist() == list(range(len(files)))
    detector = VisionOpenCLIPPromptScore(class_name="tile", openclip_model_name="bundled")
    expected = [scored.image for scored in detector.score_iter(images)]
    assert np.allclose(found["score"], expected, rtol=0, atol=1e-6)
    assert found["label"].to_pylist() == detector.predict(images).tolist()
    assert found["error"].null_count == len(files)


def test_an_output_of_another_kind_is_refused_before_anything_is_scored(tmp_path):
    with running(tmp_path, tmp_path, "--class-name", "tile", "--out", tmp_path / "x") as process:
        printed, _ = process.communicate(timeout=LIMIT)

    assert process.returncode == 2
    assert "it must be a file, NAME.jsonl or NAME.parquet" in printed
