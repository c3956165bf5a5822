"""Settlement happens once, even if a transition were to come twice: the guard below all others."""

import pytest

from core.redis_client import PREFIX
from core.scripts import script_texts
from tests.queue_kit import Kit


def test_a_job_is_settled_once_whatever_asks_again(fake_redis):
    kit = Kit(fake_redis)
    job_id = kit.succeeded()
    prelude = script_texts()["complete"].split("-- complete.lua")[0]

    fake_redis.eval(f"{prelude} settle(read_job('{job_id}'), 'refund') settle(read_job('{job_id}'), 'charge')", 0)

    assert kit.ledger(job_id) == ["charge"]
    assert kit.use() == {"reserved": 0, "used": 1}


@pytest.mark.parametrize(("end", "used"), [("complete", 3), ("cancel", 0)])
def test_a_job_that_ends_after_midnight_is_settled_on_the_day_of_its_submit(fake_redis, end, used):
    kit = Kit(fake_redis)
    run = kit.running(cost_units=3)
    today, yesterday = next(fake_redis.scan_iter(f"{PREFIX}use:a:*")), f"{PREFIX}use:a:20200229"
    fake_redis.rename(today, yesterday)
    fake_redis.hset(f"{PREFIX}job:{run.id}", "day", "20200229")

    if end == "complete":
        kit.complete(run)
    else:
        kit.store.cancel(run.id)
        kit.store.give_back(run.id, run.token)

    assert list(fake_redis.scan_iter(f"{PREFIX}use:a:*")) == [yesterday]
    assert kit.use() == ({"reserved": 0, "used": used} if used else {"reserved": 0})
    assert [entry["day"] for _, entry in fake_redis.xrange(f"{PREFIX}ledger")] == ["20200229"]
