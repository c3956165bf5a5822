"""Places behind many tenants: told from a look at all of them that is at most two seconds old."""

import random
import threading

import pytest

from core.crowd import KEPT_SECONDS, STALE_SECONDS, Crowd, Crowds, Head, look_at
from core.errors import RedisUnavailable
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


def look(kit):
    """The crowd, and how many of it each call to Redis told."""
    told = []

    def portion(number):
        answer = kit.store._scripts.run("crowd", "", number)
        told.append(len(answer) // 6)
        return answer

    return look_at(portion), told


def test_a_look_is_at_two_hundred_however_many_wait_and_they_stand_for_all(kit):
    kit.redis.zadd(f"{PREFIX}act", {f"t{number}|batch": number for number in range(5_000)})

    crowd, told = look(kit)

    assert len(crowd.heads) == 200
    assert sum(head.stands_for for head in crowd.heads) == pytest.approx(5_000)
    assert [head.virtual for head in crowd.heads[:75]] == list(range(75)), "the first ones all"
    assert crowd.heads[-1].virtual > 4_950, "and those behind from end to end"
    assert max(told) <= 25, "no call holds Redis for long"


@pytest.mark.parametrize("many", [0, 1, 25, 30, 75, 76, 199, 200, 201])
def test_a_look_tells_each_of_few_and_so_many_as_stand_for_many(kit, many):
    if many:
        kit.redis.zadd(f"{PREFIX}act", {f"t{number}|batch": number for number in range(many)})

    crowd, _ = look(kit)

    assert len({head.entity for head in crowd.heads}) == len(crowd.heads) == min(many, 200)
    assert sum(head.stands_for for head in crowd.heads) == pytest.approx(many)


def test_each_model_has_a_crowd_of_its_own(kit):
    kit.redis.zadd(f"{PREFIX}act@other", {f"t{number}|batch@other": 0 for number in range(40)})
    for number in range(40):
        kit.redis.zadd(f"{PREFIX}tq:t{number}|batch@other", {"a": 1, "b": 2})
    rows = [make_job(lane=Lane.BATCH, queue=queue) for queue in ("", "other") for _ in range(3)]
    kit.store.submit_many(rows, GENEROUS)

    assert [kit.store.queue_place(kit.job(row.id)).position for row in (rows[2], rows[5])] == [3, 3 + 80]


class Looks:
    """A clock, a look that counts and can fail, and the errands that nobody waits for."""

    def __init__(self) -> None:
        self.now, self.made = 100.0, 0
        self.fails = False
        self.errands = []
        self.crowds = Crowds(self.look, lambda: self.now, self.errands.append)

    def look(self, model: str) -> Crowd:
        if self.fails:
            raise RedisUnavailable(model)
        self.made += 1
        return Crowd([Head("a|batch", 0.0, self.made, 1.0, 1.0, 1.0)])


@pytest.fixture(name="looks")
def looks_fixture():
    return Looks()


def test_a_look_serves_for_a_second(looks):
    first = looks.crowds.of("")

    looks.now += KEPT_SECONDS * 0.9
    assert looks.crowds.of("") is first
    assert looks.crowds.of("other") is not first
    assert looks.errands == []


def test_nobody_waits_for_the_next_look_which_is_made_once(looks):
    first = looks.crowds.of("")

    looks.now += KEPT_SECONDS
    assert [looks.crowds.of("") for _ in range(3)] == [first] * 3
    (errand,) = looks.errands
    errand()

    assert looks.crowds.of("") is not first
    assert (looks.made, len(looks.errands)) == (2, 1)


def test_a_look_of_long_ago_serves_nobody(looks):
    first = looks.crowds.of("")

    looks.now += STALE_SECONDS

    assert looks.crowds.of("") is not first


def test_a_look_that_fails_is_told_to_who_has_no_other(looks):
    known = looks.crowds.of("")
    looks.fails = True
    looks.now += KEPT_SECONDS

    assert looks.crowds.of("") is known
    looks.errands.pop()()
    assert looks.crowds.of("") is known

    looks.now += STALE_SECONDS
    for _ in range(2):
        with pytest.raises(RedisUnavailable):
            looks.crowds.of("")


def test_the_next_look_is_made_in_a_thread_of_its_own():
    made = threading.Event()
    by = []

    def look_once(_model: str) -> Crowd:
        by.append(threading.current_thread())
        if len(by) > 1:
            made.set()
        return Crowd([])

    clock = iter([0.0, 0.0, KEPT_SECONDS, KEPT_SECONDS])
    crowds = Crowds(look_once, lambda: next(clock))
    crowds.of("")
    crowds.of("")

    assert made.wait(60)
    assert by[1] is not by[0] is threading.current_thread()
