"""The host's command lines, one after the other, in one fresh interpreter that has no network.

Only a first command pays for importing torch. The plugin is merely installed: nothing in here asks
for it. As a program, this file reads one command a line, as a JSON list, and answers each by one
line with what :class:`Ran` holds.
"""

import io
import json
import os
import subprocess
import sys
import tempfile
import traceback
import warnings
from contextlib import redirect_stderr, redirect_stdout
from dataclasses import dataclass
from importlib.metadata import entry_points
from pathlib import Path

CLASSES = {
    "vision_openclip_patchknn": "VisionOpenCLIPPatchKNN",
    "vision_openclip_promptscore": "VisionOpenCLIPPromptScore",
    "vision_openclip_mutual": "VisionOpenCLIPMutual",
}


def passes(name, *, fitted, scored):
    """Images that the tower sees: patch-kNN fits on four moved copies of each as well."""
    return fitted * (5 if name == "vision_openclip_patchknn" else 1) + scored


BUNDLED = {"openclip_model_name": "bundled"}
MODEL = ("--model-kwargs", json.dumps(BUNDLED))
NETWORK = ("socket.connect", "socket.getaddrinfo", "socket.gethostbyname", "socket.sendto")


@dataclass(frozen=True)
class Ran:
    """What became of a command.

    Attributes:
        status: Its exit status.
        out: What it wrote to the standard output.
        err: What it wrote to the standard error.
        detectors: Of each detector of ours that it built: class, threshold, settings.
        encoded: How many images went through the model.
        network: What it asked of the network, always in vain.
    """

    status: int
    out: str
    err: str
    detectors: list[dict]
    encoded: int
    network: list[str]

    @property
    def json(self):
        return json.loads(self.out)

    @property
    def settings(self):
        """The settings of the only detector."""
        (detector,) = self.detectors
        return detector["settings"]


class Host:
    """A fresh interpreter to run commands in; to be used as a context manager."""

    def __enter__(self):
        clean = {key: value for key, value in os.environ.items() if not key.startswith("PYTHON")}
        self._folder = tempfile.TemporaryDirectory()  # the host writes runs where it stands
        self._process = subprocess.Popen(
            [sys.executable, Path(__file__).resolve()],
            cwd=self._folder.name,
            env={**clean, "PYIMGANO_OPENCLIP_CACHE": "0", "HF_HUB_DISABLE_TELEMETRY": "1"},
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )
        return self

    def __exit__(self, *_error):
        self._process.communicate(timeout=60)
        self._folder.cleanup()

    def try_run(self, *command):
        """Run a console script of the host by its name."""
        self._process.stdin.write(json.dumps([str(part) for part in command]) + "\n")
        self._process.stdin.flush()
        return Ran(**json.loads(self._process.stdout.readline()))

    def run(self, *command):
        """The same; it has to succeed, with detectors of ours alone, and offline."""
        ran = self.try_run(*command)
        assert ran.status == 0, f"{command}\n{ran.out}\n{ran.err}"
        assert ran.network == []
        return ran

    def run_model(self, script, name, *arguments):
        """Run a script with one of our detectors on the bundled model."""
        ran = self.run(script, "--model", name, *MODEL, *arguments)
        assert {detector["class"] for detector in ran.detectors} == {CLASSES[name]}
        return ran


def main():
    network = []

    def refuse(event, _arguments):
        if event in NETWORK:
            network.append(event)
            raise RuntimeError("no network in here")  # an OSError would be tried again and again

    sys.addaudithook(refuse)
    sys.path.remove(str(Path(__file__).resolve().parent))
    answers, sys.stdout = sys.stdout, sys.stderr
    built, encoded = watch()
    for line in sys.stdin:
        command = json.loads(line)
        built.clear()
        encoded.clear()
        network.clear()
        out, err = io.StringIO(), io.StringIO()
        # Leaving the context forgets which warnings were shown, as the end of a process does.
        with redirect_stdout(out), redirect_stderr(err), warnings.catch_warnings():
            status = call(command)
        facts = [
            {
                "class": type(detector).__name__,
                "threshold": getattr(detector, "threshold_", None),
                "settings": {
                    key: value
                    for key, value in detector.get_params().items()
                    if isinstance(value, (str, int, float, bool, type(None)))
                },
            }
            for detector in built
        ]
        ran = Ran(status, out.getvalue(), err.getvalue(), facts, sum(encoded), list(network))
        print(json.dumps(vars(ran)), file=answers, flush=True)


def watch():
    """Lists that every new detector and every size of a batch will be added to."""
    import pyimgano.models  # noqa: F401 - as the command lines do; it brings the plugin

    detector = sys.modules["pyimgano_openclip.detector.base"].OpenCLIPDetector
    from pyimgano_openclip.encoder.embedder import OpenCLIPPatchEmbedder

    built, encoded = [], []
    build, encode = detector.__post_init__, OpenCLIPPatchEmbedder._run

    def build_watched(self):
        built.append(self)
        build(self)

    def encode_watched(self, frames, request):
        encoded.append(len(frames))
        return encode(self, frames, request)

    detector.__post_init__, OpenCLIPPatchEmbedder._run = build_watched, encode_watched
    return built, encoded


def call(command):
    """Do what the console script does, and return its exit status."""
    (script,) = entry_points(group="console_scripts", name=command[0])
    sys.argv = command
    try:
        return script.load()() or 0
    except SystemExit as end:
        return end.code if isinstance(end.code, int) else int(end.code is not None)
    except BaseException:  # noqa: BLE001 - as the interpreter does
        traceback.print_exc()
        return 1


if __name__ == "__main__":
    main()
