"""Saves two detectors to one file in turn until it is killed, over and over.

    cd tests && python -m helpers.saving_forever PATH

It prints how many seconds a save takes. For every line that it reads it forks a process that saves,
and prints that one's number; another line, once that process was killed. Forking takes a
millisecond, a fresh Python a second.
"""

import os
import sys
import time
from itertools import cycle

from helpers.detectors import patchknn
from helpers.embedders import WideEmbedder
from helpers.forged import NORMAL


def detectors():
    """Two that differ in all that a file holds, with files of a few megabytes."""
    return [patchknn(embedder=WideEmbedder()).fit(NORMAL[:count]) for count in (2, 3)]


def main() -> None:
    path, both = sys.argv[1], detectors()
    both[1].save_checkpoint(path)  # imports what saving needs, which a forked process then has
    start = time.perf_counter()
    child = os.fork()  # where memory is copied as it is written to, which takes longer
    if not child:
        both[0].save_checkpoint(path)
        os._exit(0)
    os.waitpid(child, 0)
    print(time.perf_counter() - start, flush=True)
    for _ in sys.stdin:
        both.reverse()
        child = os.fork()
        if not child:
            for detector in cycle(both):
                detector.save_checkpoint(path)
        print(child, flush=True)
        os.waitpid(child, 0)
        print("gone", flush=True)


if __name__ == "__main__":
    main()
