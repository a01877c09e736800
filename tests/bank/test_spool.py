"""Tokens that wait on disk while a bank is built."""

import sys
import tempfile

import numpy as np
import pytest

from pyimgano_openclip.arrays import unit
from pyimgano_openclip.bank.spool import TokenSpool


def tokens(*shape, seed=0):
    return unit(np.random.default_rng(seed).normal(size=shape))


@pytest.mark.parametrize(("dtype", "length"), [("float32", 4), ("float16", 2)])
def test_a_spool_gives_back_what_was_written_also_from_disk(dtype, length, monkeypatch):
    monkeypatch.setattr("pyimgano_openclip.bank.spool.IN_MEMORY", 500)
    images = [tokens(n, 8, seed=n).astype(dtype).astype("float32") for n in (3, 50, 1)]
    with TokenSpool(dtype) as spool:
        for image in images:
            spool.write(image)
        assert spool._file.tell() == 54 * 8 * length
        for _ in range(2):
            for found, image in zip(spool, images, strict=True):
                np.testing.assert_array_equal(found, image)
                assert found.dtype == np.float32


@pytest.mark.skipif(sys.platform != "linux", reason="other systems limit files in other ways")
def test_a_spool_without_room_names_the_folder_of_temporary_files(monkeypatch):
    import resource

    monkeypatch.setattr("pyimgano_openclip.bank.spool.IN_MEMORY", 500)
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    with TokenSpool() as spool:
        resource.setrlimit(resource.RLIMIT_FSIZE, (1000, limits[1]))
        try:
            with pytest.raises(OSError, match="File too large") as caught:
                spool.write(tokens(5000, 8))
        finally:
            resource.setrlimit(resource.RLIMIT_FSIZE, limits)
    assert caught.value.filename == tempfile.gettempdir()
