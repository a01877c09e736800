"""Saves two detectors to one file in turn until it is killed, over and over.

    python tests/saving_forever.py PATH

For every line that it reads it forks a process that saves, and prints that one's number; another
line, once that process was killed. Forking takes a millisecond, a fresh Python a second.
"""

import os
import sys
from itertools import cycle

from forged import NORMAL, patchknn
from wide import WideEmbedder


def detectors():
    """Two that differ in all that a file holds, with files of a few megabytes."""
    return [patchknn(embedder=WideEmbedder()).fit(NORMAL[:count]) for count in (2, 3)]


def main() -> None:
    path, both = sys.argv[1], detectors()
    print("ready", flush=True)
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
