"""A key is replaced once, however many ask at once; and again by whom the answer did not reach."""

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


def bearer(key):
    return {"Authorization": f"Bearer {key}"}


def test_the_old_key_asks_again_within_its_overlap_and_the_new_one_lives_on_without_an_end(keyed, parts):
    old, _ = parts.tenants.create_key("shop")
    lost, fresh = (
        keyed.post("/v1/account/key/rotate", json={"overlap_seconds": seconds}, headers=bearer(old)).json
        for seconds in (3600, 86_400)
    )

    assert [keyed.get("/v1/usage", headers=bearer(one["key"])).status_code for one in (lost, fresh)] == [401, 200]
    assert fresh["expires_at"] is None


def test_the_operator_asks_again_for_a_key_that_stopped_at_once_and_its_holder_can_not(keyed, parts):
    old, shown = parts.tenants.create_key("shop")
    operator = bearer("the-operators-own-key")
    url = f"/v1/admin/keys/{shown.id}/rotate"
    lost = keyed.post(url, json={}, headers=operator).json["key"]

    assert keyed.post("/v1/account/key/rotate", json={}, headers=bearer(old)).status_code == 401
    fresh = keyed.post(url, json={}, headers=operator).json["key"]

    codes = [keyed.get("/v1/usage", headers=bearer(one)).status_code for one in (old, lost, fresh)]
    assert codes == [401, 401, 200]
    assert keyed.post(url, json={}, headers=operator).status_code == 404  # it has been used since


@pytest.mark.parametrize("round_", range(3))
def test_of_many_lost_answers_at_once_one_key_is_left_open(parts, round_):
    _, shown = parts.tenants.create_key("shop")
    barrier = threading.Barrier(AT_ONCE)

    def rotate(_):
        barrier.wait()
        return parts.tenants.rotate_key(shown.id, by_operator=True)

    with ThreadPoolExecutor(AT_ONCE) as pool:
        made = [one for one in pool.map(rotate, range(AT_ONCE)) if one is not None]

    assert len(made) == AT_ONCE
    assert len([key for key in parts.tenants.list_keys("shop") if key.is_open(parts.tenants.now_ms())]) == 1
