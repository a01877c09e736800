"""What all tests share: an option, the host's command lines, and lines for the summary."""

import re
import sys

import pytest

from helpers.host import Host
from helpers.parts import make_parts

SLOW = re.compile(r"^pytestmark = \[?\s*pytest\.mark\.slow\b", re.MULTILINE)
TOLD = pytest.StashKey[list[str]]()


def pytest_addoption(parser):
    parser.addoption(
        "--fuzz",
        type=int,
        default=1000,
        metavar="N",
        help="damaged files of each kind that are tried, and other chance in proportion (1000)",
    )


def pytest_ignore_collect(collection_path, config):
    """Pass over modules that are slow as a whole where slow tests are deselected.

    They import torch and open_clip, which takes longer than many quick tests.
    """
    if config.option.markexpr != "not slow" or collection_path.suffix != ".py":
        return None
    return bool(SLOW.search(collection_path.read_text(encoding="utf-8"))) or None


@pytest.fixture(autouse=True)
def _slow_if_it_loads_torch(request):
    loaded = "torch" in sys.modules
    yield
    if not loaded and "torch" in sys.modules and request.config.option.markexpr == "not slow":
        pytest.fail("it loads torch: mark it as slow")


@pytest.fixture(scope="session")
def fuzz(pytestconfig):
    """How many inputs a test tries that makes them by chance."""
    return pytestconfig.getoption("--fuzz")


@pytest.fixture(scope="session")
def host():
    pytest.importorskip("open_clip")
    with Host() as running:
        yield running


@pytest.fixture(scope="session")
def parts(tmp_path_factory):
    return make_parts(tmp_path_factory.mktemp("parts"))


@pytest.fixture(scope="session")
def tell(pytestconfig):
    """Call it with a line for the summary: how much was tried, how long it took."""
    return pytestconfig.stash.setdefault(TOLD, []).append


def pytest_sessionfinish(session):
    """Hand the lines on to the process that prints the summary, if there are several (-n)."""
    if hasattr(session.config, "workeroutput"):
        session.config.workeroutput["told"] = session.config.stash.get(TOLD, [])


@pytest.hookimpl(optionalhook=True)
def pytest_testnodedown(node):
    lines = getattr(node, "workeroutput", {}).get("told", [])
    node.config.stash.setdefault(TOLD, []).extend(lines)


def pytest_terminal_summary(terminalreporter, config):
    if lines := config.stash.get(TOLD, []):
        terminalreporter.section("tried")
        for line in lines:
            terminalreporter.write_line(line)
