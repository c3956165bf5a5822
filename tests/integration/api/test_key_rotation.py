"""A key is replaced once, however many ask at once."""

import threading
from concurrent.futures import ThreadPoolExecutor

import pytest

AT_ONCE = 8


@pytest.mark.parametrize("round_", range(5))
def test_of_many_rotations_at_once_one_makes_a_key(parts, round_):
    _, shown = parts.tenants.create_key("shop")
    barrier = threading.Barrier(AT_ONCE)

    def rotate(_):
        barrier.wait()
        return parts.tenants.rotate_key(shown.id)

    with ThreadPoolExecutor(AT_ONCE) as pool:
        made = [one for one in pool.map(rotate, range(AT_ONCE)) if one is not None]

    assert len(made) == 1
    assert [key.id for key in parts.tenants.list_keys("shop") if key.is_open(parts.tenants.now_ms())] == [made[0][1].id]


def test_with_an_overlap_each_rotation_makes_a_key_and_the_old_one_keeps_its_end(parts):
    _, shown = parts.tenants.create_key("shop", expires_ms=parts.tenants.now_ms() + 60_000)

    first, second = (parts.tenants.rotate_key(shown.id, overlap_seconds=3600) for _ in range(2))

    assert first[1].id != second[1].id
    assert {first[1].expires_ms, second[1].expires_ms, parts.tenants.key(shown.id).expires_ms} == {shown.expires_ms}
