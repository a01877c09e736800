"""Programs that start a Ray cluster on this machine, and the death of one of its workers."""

import importlib.util
import os
import signal
import subprocess
import sys
import time
from contextlib import contextmanager, suppress
from pathlib import Path

import pytest

needs_ray = pytest.mark.skipif(
    importlib.util.find_spec("ray") is None,
    reason="Ray is missing: pip install 'pyimgano-openclip[ray]'",
)
LIMIT = 300  # seconds for one run; it takes some 20 on two idle cores


@contextmanager
def running(home, *program):
    """A program in a process of its own; what Ray starts for it ends with it."""
    process = subprocess.Popen(
        [sys.executable, *map(str, program)],
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
    """Wait for the end; the exit code, and what was printed."""
    printed, _ = process.communicate(timeout=LIMIT)
    return process.returncode, printed


@contextmanager
def opened_by_nobody_else(path):
    """Whoever opens the file waits in the system call, for at most 45 s; yields who, if anyone."""
    import fcntl  # leases of files are for Linux

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
