"""Fault row 18, garbage: what is no message of ours is put aside, and the worker goes on with those behind it."""

import base64
import json

import pytest
from kombu import Queue

from core.broker import TASK, make_celery
from tests.integration.queue.test_processes import submit
from tests.queue_processes import wait_until

pytestmark = pytest.mark.timeout(150)
QUEUE = "celery:zimg"


def genuine(fleet):
    """A message as `publish` sends it, of a job that there is not."""
    app = make_celery(fleet.settings)
    with app.producer_or_acquire() as producer:
        app.send_task(TASK, args=("x", 1), queue=Queue("p", routing_key="p"), producer=producer, ignore_result=True)
    message = json.loads(fleet.store.redis.lpop("celery:p"))
    message["properties"]["delivery_info"] = {"exchange": "", "routing_key": "zimg"}
    return message


def encoded(body):
    return base64.b64encode(json.dumps(body).encode()).decode()


def changed(message, **parts):
    """The message with some of its parts, named by their path, being something else; None takes a part away."""
    copy = json.loads(json.dumps(message))
    for path, value in parts.items():
        *way, last = path.split("__")
        place = copy
        for step in way:
            place = place[step]
        if value is None:
            place.pop(last)
        else:
            place[last] = value
    return json.dumps(copy)


def garbage(message):
    """Everything that a hand, a bug or another program may put there."""
    deep = "[" * 100_000
    return [
        *("null", "7", '"text"', "[]", "{}", "\x00garbage{", "", " ", "\udcff".encode("utf-8", "surrogatepass"), deep),
        *('{"__type__": "decimal", "__value__": "x"}', '{"__type__": [], "__value__": 1}', '{"properties": null}'),
        changed(message, body="%%%not base64"),
        changed(message, body=encoded(None)),
        changed(message, body=encoded([])),
        changed(message, body=encoded([7, 7, 7])),
        changed(message, body=encoded({"args": []})),
        changed(message, body=base64.b64encode(deep.encode()).decode()),
        changed(message, body=7),
        changed(message, body=None),
        changed(message, headers=7),
        changed(message, headers=None),
        changed(message, headers={}),
        changed(message, headers__id=None),
        changed(message, headers__id=["x"]),
        changed(message, headers__task=["x"]),
        changed(message, headers__task={"x": 1}),
        changed(message, headers__compression="unknown"),
        changed(message, headers__compression="zlib"),
        changed(message, properties=7),
        changed(message, properties__body_encoding="unknown"),
        changed(message, properties__delivery_tag=None),
        changed(message, properties__delivery_tag=["x"]),
        changed(message, properties__delivery_info=None),
        changed(message, properties__delivery_info="x"),
        changed(message, properties__delivery_info={"exchange": 1, "routing_key": 2}),
        json.dumps({**message, "content-type": "application/x-python-serialize"}),
        json.dumps({**message, "content-type": 7}),
    ]


def odd(message):
    """Messages that can be read, of calls that come to nothing."""
    return [
        json.dumps({**message, "content-encoding": "unknown"}),
        changed(message, headers__task="no.such.task"),
        changed(message, headers__timelimit="x"),
        changed(message, headers__timelimit=[1]),
        changed(message, headers__eta="x"),
        changed(message, headers__eta="9999-12-31T23:59:59"),
        changed(message, headers__expires="x"),
        changed(message, headers__expires="1999-01-01T00:00:00"),
        changed(message, headers__retries="x"),
        changed(message, headers__stamps=7),
        changed(message, headers__group={"x": 1}),
        changed(message, headers__shadow=["x"]),
        changed(message, properties__priority="x"),
        changed(message, properties__reply_to=["x"]),
        changed(message, body=encoded([[], {}, {}])),
        changed(message, body=encoded([["x", "y", "z"], {"more": 1}, {"chord": "x", "callbacks": 7, "errbacks": 7}])),
        changed(message, body=encoded([[{"not": "an id"}, []], {}, {}])),
        changed(message, body=encoded([["x"], {"job_id": "y"}, None])),
    ]


def test_garbage_is_put_aside_and_the_worker_goes_on(fleet):
    worker = fleet.start_worker()
    fleet.start_scheduler()
    fleet.await_workers(1)
    fleet.await_ends(submit(fleet, 3), 30)
    redis, message = fleet.store.redis, genuine(fleet)
    bad = garbage(message)

    for one in (*bad, *odd(message)):
        redis.lpush(QUEUE, one)
    fleet.await_ends(submit(fleet, 5), 30)

    assert worker.poll() is None, fleet.logs()
    wait_until(lambda: redis.llen(QUEUE) + redis.hlen("celery:unacked") == 0, seconds=20, why=fleet.logs)
    assert fleet.store.tallies().put_aside == {"message": len(bad)}
    assert fleet.stop(worker) == 0
