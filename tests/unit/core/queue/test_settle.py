"""Settlement happens once, even if a transition were to come twice: the guard below all others."""

from core.scripts import script_texts
from tests.queue_kit import Kit


def test_a_job_is_settled_once_whatever_asks_again(fake_redis):
    kit = Kit(fake_redis)
    job_id = kit.succeeded()
    prelude = script_texts()["usage"].split("-- usage.lua")[0]

    fake_redis.eval(f"{prelude} settle(read_job('{job_id}'), 'refund') settle(read_job('{job_id}'), 'charge')", 0)

    assert kit.ledger(job_id) == ["charge"]
    assert kit.use() == {"reserved": 0, "used": 1}
