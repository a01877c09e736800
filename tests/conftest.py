"""What tests of the host's command lines share."""

import pytest

from host import Host
from parts import make_parts


@pytest.fixture(scope="session")
def host():
    pytest.importorskip("open_clip")
    with Host() as running:
        yield running


@pytest.fixture(scope="session")
def parts(tmp_path_factory):
    return make_parts(tmp_path_factory.mktemp("parts"))
