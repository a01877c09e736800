"""What tests of encoders share."""

import pytest


@pytest.fixture(autouse=True)
def no_network(monkeypatch, tmp_path):
    """Any attempt to open a connection fails the test; text vectors are cached apart."""
    monkeypatch.setenv("PYIMGANO_OPENCLIP_CACHE", str(tmp_path / "cache"))

    def refuse(*_args, **_kwargs):
        raise AssertionError("the network was used")

    monkeypatch.setattr("socket.socket.connect", refuse)
    monkeypatch.setattr("socket.getaddrinfo", refuse)
