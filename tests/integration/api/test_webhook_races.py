"""Two changes of an endpoint at once: neither is lost, and nothing brings back what was removed."""

import threading
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace

import pytest

from core.webhook_store import Endpoint, WebhookStore, new_secret
from core.webhook_store import Secret as SigningSecret
from tests.integration.api.webhook_kit import (  # noqa: F401 - the fixtures
    add,
    allowing_fixture,
    http_fixture,
    receiver_fixture,
    sender_fixture,
    turn,
)

ROUNDS = 10


@pytest.fixture(name="store")
def store_fixture(allowing):
    return WebhookStore(allowing.redis)


class Meanwhile:
    """The answers of a receiver that does something while it is called, before it answers 410."""

    def __init__(self, work):
        self._work = work

    def __bool__(self):
        return True

    def pop(self, _):
        self._work()
        return 410


def test_an_endpoint_that_is_removed_while_it_is_called_stays_removed(http, store, sender, receiver):
    hook = add(http, receiver.url)["id"]
    http.post(f"/v1/webhooks/{hook}/test")
    receiver.answers = Meanwhile(lambda: store.remove(store.endpoint(hook)))

    turn(sender)

    assert len(receiver.calls) == 1
    assert http.get(f"/v1/webhooks/{hook}").status_code == 404
    assert http.get("/v1/webhooks").json["data"] == []


def test_a_rotation_while_it_is_called_stands_and_the_410_turns_it_off(http, store, sender, receiver):
    hook = add(http, receiver.url)["id"]
    http.post(f"/v1/webhooks/{hook}/test")
    told = []
    receiver.answers = Meanwhile(
        lambda: told.append(http.application.test_client().post(f"/v1/webhooks/{hook}/rotate", json={}).json)
    )

    turn(sender)

    assert store.endpoint(hook).secrets[0].value == told[0]["secret"]
    assert http.get(f"/v1/webhooks/{hook}").json["enabled"] is False


def test_a_410_of_an_address_that_was_replaced_meanwhile_turns_nothing_off(http, store, sender, receiver):
    hook = add(http, receiver.url)["id"]
    http.post(f"/v1/webhooks/{hook}/test")
    other = f"{receiver.url}/other"
    receiver.answers = Meanwhile(
        lambda: http.application.test_client().patch(f"/v1/webhooks/{hook}", json={"url": other})
    )

    turn(sender)

    shown = http.get(f"/v1/webhooks/{hook}").json
    assert (shown["enabled"], shown["url"]) == (True, other)


def at_once(*works):
    """Each of them in a thread of its own, begun together; their answers."""
    barrier = threading.Barrier(len(works))

    def begin(work):
        barrier.wait()
        return work()

    with ThreadPoolExecutor(len(works)) as pool:
        return [future.result() for future in [pool.submit(begin, work) for work in works]]


def test_rotations_and_changes_at_once_are_all_kept(http, store, receiver):
    app = http.application
    for _ in range(ROUNDS):
        made = add(http, receiver.url)
        path = f"/v1/webhooks/{made['id']}"

        rotated, *_ = at_once(
            lambda path=path: app.test_client().post(f"{path}/rotate", json={}),
            *[lambda path=path: app.test_client().patch(path, json={"events": ["job.failed"]})] * 5,
            lambda path=path: app.test_client().patch(path, json={"enabled": False}),
        )

        kept = store.endpoint(made["id"])
        assert [one.value for one in kept.secrets] == [rotated.json["secret"], made["secret"]]
        assert kept.events == ("job.failed",)
        assert kept.disabled
        http.delete(path)


def test_many_at_once_make_no_more_endpoints_than_there_may_be(http, receiver):
    app = http.application

    answers = at_once(*[lambda: app.test_client().post("/v1/webhooks", json={"url": receiver.url}).status_code] * 40)

    assert sorted(set(answers)) == [201, 400]
    assert len(http.get("/v1/webhooks").json["data"]) == 20


def test_what_is_changed_after_it_was_removed_is_not_there(http, store, receiver):
    hook = add(http, receiver.url)["id"]
    found = store.endpoint(hook)
    store.remove(found)

    assert store.change(found, lambda now: replace(now, events=("job.failed",))) is None
    assert store.endpoint(hook) is None


def test_an_endpoint_of_one_tenant_leaves_room_to_others(store):
    for tenant in ("one", "two"):
        for number in range(2):
            made = Endpoint(
                id=f"wh_{tenant}_{number}", tenant=tenant, url="https://shop.example/", created_ms=number,
                secrets=(SigningSecret(value=new_secret()),),
            )  # fmt: skip
            assert store.save(made, most=1) is (number == 0)

    assert len(store.endpoints("one")) == len(store.endpoints("two")) == 1
