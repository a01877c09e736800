"""Scores large images within little memory; each limit is tried in a process of its own.

    cd tests && python -m helpers.starved patchknn FOLDER 0 30 500

Forks when everything is imported: a limit is so many MiB more than that took. What became of it is
a line of JSON: scores, or the text of a MemoryError and the scores after the limit was lifted.
"""

import json
import os
import signal
import sys
from pathlib import Path
from resource import RLIMIT_AS, getpagesize, getrlimit, setrlimit

import cv2  # noqa: F401 - all that is imported later
import open_clip  # noqa: F401
import tqdm  # noqa: F401

from pyimgano_openclip import VisionOpenCLIPPatchKNN, VisionOpenCLIPPromptScore, encoder  # noqa: F401

DETECTORS = {"patchknn": VisionOpenCLIPPatchKNN, "promptscore": VisionOpenCLIPPromptScore}
PATIENCE = 100  # seconds, until a process counts as hanging


def scores(detector, folder):
    """Image scores and the highest values of the maps."""
    images = sorted(folder.iterdir())
    found = detector.fit(images).decision_function(images).tolist()
    return found + [float(heat.max()) for heat in detector.iter_anomaly_maps(images)]


def starve(name, folder, extra):
    detector = DETECTORS[name](openclip_model_name="bundled", device="cpu", precision="float32")
    _, most = getrlimit(RLIMIT_AS)
    taken = int(Path("/proc/self/statm").read_text().split()[0]) * getpagesize()
    setrlimit(RLIMIT_AS, (taken + extra * 2**20, most))
    try:
        return {"scores": scores(detector, folder)}
    except MemoryError as error:
        message = str(error)
    setrlimit(RLIMIT_AS, (most, most))
    return {"error": message, "scores": scores(detector, folder)}


def main():
    name, folder, *extras = sys.argv[1:]
    for extra in extras:
        child = os.fork()
        if not child:
            signal.alarm(PATIENCE)
            told = starve(name, Path(folder), int(extra))
            print(json.dumps({"extra": int(extra), **told}), flush=True)
            os._exit(0)
        _, status = os.waitpid(child, 0)
        if status:
            print(json.dumps({"extra": int(extra), "died": status}), flush=True)


if __name__ == "__main__":
    main()
