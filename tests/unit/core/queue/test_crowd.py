"""Places behind many tenants: told from a look at all of them that is at most a second old."""

import random

import pytest

from core.crowd import KEPT_SECONDS, STALE_SECONDS, Crowd, Crowds, Head, crowd_from
from core.job import Lane
from core.redis_client import PREFIX
from tests.queue_kit import GENEROUS, limits, make_job


def test_among_hundreds_of_tenants_the_place_is_the_order_of_release(kit):
    # given
    rng = random.Random(1)
    for number in range(300):
        jobs = [make_job(tenant=f"t{number}", work=rng.choice([0.25, 1.0, 2.0])) for _ in range(rng.randrange(1, 5))]
        kit.store.submit_many(jobs, limits(weight=rng.choice([0.5, 1.0, 2.0])))
    rows = [make_job(tenant="list", lane=Lane.BATCH, work=0.02) for _ in range(40)]
    kit.store.submit_many(rows, GENEROUS)

    # when
    said = {row.id: kit.store.queue_place(kit.job(row.id)).position for row in rows}

    # then
    order = []
    while released := kit.store.release(1000):
        order += [one.job_id for one in released]
    errors = [abs(said[row.id] - order.index(row.id) - 1) / (order.index(row.id) + 1) for row in rows[10:]]
    assert max(errors) <= 0.15


def test_a_look_is_at_two_hundred_however_many_wait_and_they_stand_for_all(kit):
    kit.redis.zadd(f"{PREFIX}act", {f"t{number}|batch": number for number in range(5_000)})

    crowd = crowd_from(kit.store._scripts.run("crowd", ""))

    assert len(crowd.heads) == 200
    assert sum(head.stands_for for head in crowd.heads) == pytest.approx(5_000)
    assert [head.virtual for head in crowd.heads[:64]] == list(range(64)), "the first ones all"
    assert crowd.heads[-1].virtual > 4_950, "and those behind from end to end"


def test_each_model_has_a_crowd_of_its_own(kit):
    kit.redis.zadd(f"{PREFIX}act@other", {f"t{number}|batch@other": 0 for number in range(40)})
    for number in range(40):
        kit.redis.zadd(f"{PREFIX}tq:t{number}|batch@other", {"a": 1, "b": 2})
    rows = [make_job(lane=Lane.BATCH, queue=queue) for queue in ("", "other") for _ in range(3)]
    kit.store.submit_many(rows, GENEROUS)

    assert [kit.store.queue_place(kit.job(row.id)).position for row in (rows[2], rows[5])] == [3, 3 + 80]


class Looks:
    """A clock, and a look that counts and can fail."""

    def __init__(self) -> None:
        self.now, self.made = 100.0, 0
        self.fails = False
        self.crowds = Crowds(self.look, lambda: self.now)

    def look(self, model: str) -> Crowd:
        if self.fails:
            raise ConnectionError(model)
        self.made += 1
        return Crowd([Head("a|batch", 0.0, self.made, 1.0, 1.0, 1.0)])


def test_a_look_serves_for_a_second():
    looks = Looks()
    first = looks.crowds.of("")

    looks.now += KEPT_SECONDS * 0.9
    assert looks.crowds.of("") is first
    assert looks.crowds.of("other") is not first
    looks.now += KEPT_SECONDS * 0.2
    assert looks.crowds.of("") is not first


def test_while_one_thread_looks_anew_the_others_go_on_with_what_is_known_unless_it_is_of_long_ago():
    looks = Looks()
    known = looks.crowds.of("")
    looks.fails = True
    looks.now += KEPT_SECONDS

    with pytest.raises(ConnectionError):
        looks.crowds.of("")
    assert looks.crowds.of("") is known

    looks.now += STALE_SECONDS
    for _ in range(2):
        with pytest.raises(ConnectionError):
            looks.crowds.of("")
