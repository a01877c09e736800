"""Images are read while others are encoded."""

import threading

import pytest

from pyimgano_openclip.images.read_ahead import ReadAhead


def all_of(items, *, size=3, most=6, read=lambda item: item * item):
    """All results, as a batch is handed on one by one."""
    found = []
    with ReadAhead(read, items, most) as ahead:
        while batch := ahead.batch(size):
            for result in batch:
                found.append(result)
                ahead.handed_on()
    return found


@pytest.mark.parametrize(("size", "most"), [(1, 1), (3, 3), (3, 9), (8, 8)])
def test_the_order_is_kept(size, most):
    assert all_of(range(7), size=size, most=most) == [0, 1, 4, 9, 16, 25, 36]
    assert all_of([], size=size, most=most) == []


@pytest.mark.parametrize("size", [1, 3, 8])
def test_an_item_is_taken_only_when_there_is_room(size):
    taken = []

    def camera():
        for item in range(20):
            taken.append(item)
            yield item

    with ReadAhead(lambda item: item, camera(), size) as ahead:
        for done in range(0, 16, size):
            batch = ahead.batch(size)
            assert len(batch) == size
            for handed_on in range(size):
                assert len(taken) <= done + size + handed_on
                ahead.handed_on()


def test_what_was_taken_comes_before_the_error_of_whatever_gives_the_items():
    def camera():
        yield from range(5)
        raise ConnectionError("the camera is gone")

    with ReadAhead(lambda item: item, camera(), 3) as ahead:
        for expected in ([0, 1, 2], [3, 4]):
            assert ahead.batch(3) == expected
            for _ in expected:
                ahead.handed_on()
        with pytest.raises(ConnectionError, match="the camera is gone"):
            ahead.batch(3)


def test_no_thread_stays_behind():
    before = threading.active_count()
    with ReadAhead(lambda item: item, range(100), 8) as ahead:
        ahead.batch(2)
    assert threading.active_count() <= before
