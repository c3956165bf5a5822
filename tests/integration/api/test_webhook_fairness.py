"""One receiver that is slow, dead or far behind delays only what goes to itself."""

import asyncio
import threading
from concurrent.futures import ThreadPoolExecutor

import pytest

from core.webhook_store import Endpoint, WebhookStore, new_secret, now_ms
from core.webhook_store import Secret as SigningSecret
from scheduler.ended_jobs import EndedJobs
from scheduler.outbound import OutboundGuard
from scheduler.webhooks import Webhooks
from tests.integration.api.conftest import eventually
from tests.integration.api.webhook_kit import (  # noqa: F401 - the fixtures
    Dripping,
    allowing_fixture,
    draw,
    dripping_fixture,
    http_fixture,
    make_due,
    receiver_fixture,
    sender_fixture,
)

SOON_SECONDS = 15.0  # well before an attempt at a receiver that does not answer is given up


@pytest.fixture(name="store")
def store_fixture(allowing):
    return WebhookStore(allowing.redis)


def endpoint_of(store, tenant, url, number=0):
    made = Endpoint(
        id=f"wh_{tenant}_{number}", tenant=tenant, url=url, created_ms=now_ms(),
        secrets=(SigningSecret(value=new_secret()),),
    )  # fmt: skip
    store.save(made)
    return made


def send(store, endpoint, count=1, *, url=""):
    for number in range(count):
        event = {"id": f"evt_{endpoint.id}_{number}{url}", "type": "job.succeeded"}
        store.enqueue(endpoint, event, url=url)


def begin(sender):
    """A turn that nobody waits for."""
    thread = threading.Thread(target=sender.turn, daemon=True)
    thread.start()
    return thread


def test_a_slow_receiver_of_one_tenant_does_not_delay_another_tenants_event(store, sender, receiver, dripping):
    send(store, endpoint_of(store, "slow", dripping.url), 40)
    first = begin(sender)
    eventually(lambda: dripping.connections)

    send(store, endpoint_of(store, "quick", receiver.url))
    begin(sender)

    assert eventually(lambda: receiver.calls, seconds=SOON_SECONDS)
    first.join(timeout=SOON_SECONDS)
    assert not first.is_alive(), "a turn waits for a receiver"
    assert len(dripping.connections) <= 2, "more than two calls at once to one address"


def test_a_tenants_other_endpoint_does_not_wait_behind_its_slow_one(store, sender, receiver, dripping):
    send(store, endpoint_of(store, "shop", dripping.url), 40)
    begin(sender)
    eventually(lambda: dripping.connections)

    send(store, endpoint_of(store, "shop", receiver.url, 1))
    begin(sender)

    assert eventually(lambda: receiver.calls, seconds=SOON_SECONDS)


@pytest.mark.parametrize("slow_ones", ["of requests", "registered"])
def test_urls_of_requests_and_registered_endpoints_do_not_wait_for_each_other(
    store, sender, receiver, dripping, slow_ones
):
    of_requests = store.for_requests("shop")
    if slow_ones == "of requests":
        for number in range(9):
            send(store, of_requests, 5, url=dripping.url.replace("127.0.0.1", f"127.0.0.{number + 1}"))
        quick, url = endpoint_of(store, "shop", receiver.url), ""
    else:
        for number in range(9):
            send(store, endpoint_of(store, "shop", dripping.url, number), 5)
        quick, url = of_requests, receiver.url
    begin(sender)
    eventually(lambda: len(dripping.connections) > 1)

    send(store, quick, url=url)
    begin(sender)

    assert eventually(lambda: receiver.calls, seconds=SOON_SECONDS)


def test_what_is_due_goes_out_at_once_without_another_turn(store, sender, receiver, dripping):
    send(store, endpoint_of(store, "quick", receiver.url), 30)
    send(store, endpoint_of(store, "slow", dripping.url), 3)

    begin(sender)

    assert eventually(lambda: len(receiver.calls) == 30, seconds=SOON_SECONDS)


def test_endpoints_of_one_tenant_take_turns_where_many_are_behind(store, sender, receiver, valkey):
    """The order of one scheduler's takes, over what has waited longest and what came last."""
    old, young = (endpoint_of(store, "shop", receiver.url, number) for number in range(2))
    send(store, old, 6)
    send(store, young, 2)

    taken = [one.endpoint_id for _ in range(4) for lane in store.due_lanes()[:1] for one in store.take(lane, 1)]

    assert sorted(taken[:2]) == sorted(taken[2:]) == [old.id, young.id]


def test_an_end_does_not_stand_behind_another_tenants_long_list(store, valkey):
    group = store.ensure_group(of_requests=False)
    for number in range(1_500):
        valkey.xadd("{zimg}:ledger", {"job": f"j{number}", "tenant": "long-list"})
    valkey.xadd("{zimg}:ledger", {"job": "mine", "tenant": "quick"})
    ended, other = (EndedJobs(valkey, group, name) for name in ("one", "other"))

    ended.read()
    other.read()
    first = ended.next(10)
    ended.read()
    rest = ended.next(10_000)
    ended.done([*first, *rest])

    assert "mine" in [fields["job"] for _, fields in first[:2]]
    assert len({fields["job"] for _, fields in (*first, *rest)}) == len(first) + len(rest) == 1_501
    assert other.next(10) == []
    assert valkey.xpending("{zimg}:ledger", group)["pending"] == 0


def test_what_a_killed_scheduler_had_taken_is_sent_by_another(store, sender, receiver, valkey, allowing):
    send(store, endpoint_of(store, "quick", receiver.url), 3)
    taken = [one for lane in store.due_lanes() for one in store.take(lane, 3)]
    again = [one for lane in store.due_lanes() for one in store.take(lane, 3)]
    for one in taken:
        valkey.delete(f"{{zimg}}:hook_lock:{one.id}")  # its time is over
    make_due(valkey)

    other = Webhooks(allowing.redis, allowing.jobs, allowing.settings)
    other.turn()

    assert (len(taken), again) == (3, [])
    assert eventually(lambda: len(receiver.calls) == 3, seconds=SOON_SECONDS)


def test_what_the_release_before_had_put_on_its_way_is_sent(store, sender, receiver, valkey, allowing):
    """It knows one list of all that is due, and nothing of addresses."""
    send(store, endpoint_of(store, "quick", receiver.url), 3)
    for name in valkey.scan_iter("{zimg}:hook_lane*"):
        valkey.delete(name)

    Webhooks(allowing.redis, allowing.jobs, allowing.settings).turn()

    assert eventually(lambda: len(receiver.calls) == 3, seconds=SOON_SECONDS)


def test_nothing_of_a_delivery_stays_behind_when_it_has_arrived(store, sender, receiver, valkey):
    send(store, endpoint_of(store, "quick", receiver.url), 3)
    begin(sender)
    eventually(lambda: len(receiver.calls) == 3)

    def left():
        sender.turn()
        due = [name for kind in ("lane:", "lane_of", "lock:") for name in valkey.keys(f"{{zimg}}:hook_{kind}*")]
        return [*due, *valkey.zrange("{zimg}:hook_due", 0, -1)]

    assert eventually(lambda: not left(), seconds=SOON_SECONDS)


@pytest.mark.parametrize("first", [b"", b"HTTP/1.1 200 OK\r\nX-Drip: "])
def test_a_call_ends_at_its_deadline_however_slowly_the_answer_comes(first):
    slow = Dripping(first)
    ended = threading.Event()

    def call():
        with pytest.raises(OSError):
            OutboundGuard(["127.0.0.1"]).post(slow.url, b"{}", {}, seconds=0.5)
        ended.set()

    threading.Thread(target=call, daemon=True).start()

    assert ended.wait(SOON_SECONDS)
    slow.close()


def test_the_body_of_an_answer_is_not_waited_for_also_where_an_event_loop_runs_already():
    slow = Dripping(b"HTTP/1.1 200 OK\r\nContent-Length: 100000000\r\n\r\n")

    async def call() -> int:
        return OutboundGuard(["127.0.0.1"]).post(slow.url, b"{}", {}, seconds=SOON_SECONDS)

    with ThreadPoolExecutor(1) as thread:  # a browser test before this one may have left its loop in the main thread
        assert thread.submit(asyncio.run, call()).result(60) == 200
    slow.close()


def test_a_host_that_no_name_server_would_take_is_a_failed_attempt_and_nothing_more(http, allowing, sender):
    """Such addresses are refused by now; a release before took them, and their events may still wait."""
    hooks = allowing.webhooks
    hooks.enqueue(
        hooks.for_requests("local"), {"id": "evt_1", "type": "job.succeeded"}, url=f"https://{'a' * 70}.example/"
    )

    sender.turn()

    def errors():
        sender.turn()
        found = http.get("/v1/webhooks/requests/deliveries").json["data"]
        return [attempt["error"] for one in found for attempt in one["attempts"]]

    assert eventually(lambda: errors() == ["the address is not one that can be called"], seconds=SOON_SECONDS)
