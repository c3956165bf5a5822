"""What a place in the queue costs Redis among many tenants: the api tells one at each submit and to open streams."""

from core.job import Job, Lane
from tests.queue_kit import GENEROUS, Kit, make_job

TENANTS = 300
PLACES = 20
COMMANDS_OF_A_PLACE = 30
COMMANDS_OF_A_LOOK = 1_000


def last_of_many(kit: Kit) -> Job:
    """Each of TENANTS has a job that is released before this one, the last row of a list."""
    for number in range(TENANTS):
        kit.queued(tenant=f"t{number}")
    rows = [make_job(tenant="many", lane=Lane.BATCH) for _ in range(100)]
    kit.store.submit_many(rows, GENEROUS)
    return kit.job(rows[-1].id)


def commands(kit: Kit) -> int:
    """What the server has run, also within scripts."""
    return sum(one["calls"] for one in kit.redis.info("commandstats").values())


def test_places_behind_many_tenants_are_told_from_one_look_at_them(kit):
    # given
    job = last_of_many(kit)
    before = commands(kit)

    # when
    told = {kit.store.queue_place(job).position for _ in range(PLACES)}

    # then
    assert told == {TENANTS + 100}
    assert commands(kit) - before <= PLACES * COMMANDS_OF_A_PLACE + COMMANDS_OF_A_LOOK
