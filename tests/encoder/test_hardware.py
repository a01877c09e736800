# ruff: noqa: E402 - torch is asked for before it is imported
"""Devices and precisions."""

import pytest

torch = pytest.importorskip("torch")

from pyimgano_openclip.encoder.hardware import choose_device, choose_dtype

pytestmark = pytest.mark.slow


@pytest.mark.parametrize("device", ["gpu", "cuda:99", "mps:7", "meta"])
def test_an_unknown_or_missing_device_is_refused(device):
    with pytest.raises(ValueError, match="device="):
        choose_device(device)


def test_half_precision_on_the_cpu_is_refused():
    with pytest.raises(ValueError, match="needs a GPU"):
        choose_dtype("float16", torch.device("cpu"))
    with pytest.raises(ValueError, match="unknown"):
        choose_dtype("int8", torch.device("cpu"))
