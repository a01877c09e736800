"""Progress bars: on a terminal, and nowhere else."""

import io

import pytest

from pyimgano_openclip import progress

from helpers.detectors import patchknn, promptscore
from helpers.embedders import red_images

NORMAL = red_images(6)


class Terminal(io.StringIO):
    def isatty(self):
        return True


def told_while_fitting(build, stderr, monkeypatch):
    monkeypatch.setattr("sys.stderr", stderr)
    build().fit(NORMAL)
    return stderr.getvalue()


def few_shot():
    return patchknn(max_patches=10)


@pytest.mark.parametrize(
    ("build", "steps"),
    [(few_shot, ["encoding", "thinning", "comparing"]), (promptscore, ["encoding"])],
)
def test_fitting_tells_a_terminal_how_far_it_is(build, steps, monkeypatch):
    monkeypatch.setattr(progress, "PATIENCE", 0)
    told = told_while_fitting(build, Terminal(), monkeypatch)
    assert [step for step in ("encoding", "thinning", "comparing") if step in told] == steps
    assert "/6 " in told
    assert told_while_fitting(build, io.StringIO(), monkeypatch) == ""


def test_what_takes_no_time_shows_no_bar(monkeypatch):
    assert told_while_fitting(few_shot, Terminal(), monkeypatch) == ""
