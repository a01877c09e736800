"""What tests of the host's command lines share, and what tests tell at the end of a run."""

import pytest

from host import Host
from parts import make_parts

TOLD = pytest.StashKey[list[str]]()


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


def pytest_terminal_summary(terminalreporter, config):
    if lines := config.stash.get(TOLD, []):
        terminalreporter.section("tried")
        for line in lines:
            terminalreporter.write_line(line)
