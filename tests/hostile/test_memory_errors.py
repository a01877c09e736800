"""Which errors say that memory ran out: not those that quote a name in which such words stand."""

import errno

import numpy as np
import pytest

from pyimgano_openclip.images.reading import read_pixels
from pyimgano_openclip.memory import out_of_memory_explained

SHORT = [
    MemoryError(),
    OSError(errno.ENOMEM, "Cannot allocate memory"),
    RuntimeError("[enforce fail at alloc_cpu.cpp:127] DefaultCPUAllocator: can't allocate memory"),
    RuntimeError("CUDA out of memory. Tried to allocate 2.00 GiB. GPU 0 has a total capacity"),
    RuntimeError("MPS backend out of memory (MPS allocated: 1 GB)"),
    RuntimeError("std::bad_alloc"),
]
OTHER = [
    OSError(errno.ENOSPC, "No space left on device", "/data/out of memory/not enough memory.png"),
    PermissionError(errno.EACCES, "Permission denied", "/data/bad_alloc/out of memory"),
    FileNotFoundError(errno.ENOENT, "No such file", "Cannot allocate memory"),
    ValueError("class_name='CUDA out of memory. Tried to allocate'"),
    KeyError("std::bad_alloc"),
    RuntimeError("no weights in '/data/out of memory/vit.pt'"),
    RuntimeError("'/home/bad_alloc/Insufficient memory' is not a model"),
]


@pytest.mark.parametrize("error", SHORT, ids=repr)
def test_an_error_for_lack_of_memory_says_what_to_do(error):
    told = pytest.raises(MemoryError, match=r"not enough memory for a map\. Free some")
    with told, out_of_memory_explained("a map"):
        raise error


@pytest.mark.parametrize("error", OTHER, ids=repr)
def test_another_error_is_left_alone(error):
    with pytest.raises(type(error)) as caught, out_of_memory_explained("a map"):
        raise error
    assert caught.value is error


def test_a_file_with_such_a_name_is_missing_and_not_too_large(tmp_path):
    with pytest.raises(ValueError, match=r"out of memory\.png cannot be opened.*No such file"):
        read_pixels(tmp_path / "out of memory.png")
    folder = tmp_path / "Cannot allocate memory"
    folder.mkdir()
    (folder / "bad_alloc.png").write_bytes(b"")
    with pytest.raises(ValueError, match=r"bad_alloc\.png cannot be opened"):
        read_pixels(folder / "bad_alloc.png")
    with pytest.raises(MemoryError), out_of_memory_explained("an array"):
        np.empty(2**62, np.uint8)
