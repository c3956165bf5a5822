"""What an Idempotency-Key may look like: bare, or quoted as the draft has it (both ends), and never nothing."""

import pytest


def send(http, key):
    return http.post("/v1/jobs", json={"prompt": "a mug", "size": "256x256"}, headers={"Idempotency-Key": key})


def test_a_key_is_the_same_bare_and_quoted(http, worker):
    first, again = send(http, "k-1"), send(http, '"k-1"')

    assert again.headers["Idempotency-Replayed"] == "true"
    assert again.json["id"] == first.json["id"]


@pytest.mark.parametrize("other", ['k"', '"k', '""k"'])
def test_a_quote_on_one_end_belongs_to_the_key(http, worker, other):
    assert send(http, other).json["id"] != send(http, "k").json["id"]


@pytest.mark.parametrize("key", ["a b", "ü", "x" * 256, '"' + "x" * 256 + '"'])
def test_what_is_no_key_is_refused_and_named(http, worker, key):
    refused = send(http, key.encode().decode("latin-1"))

    assert (refused.status_code, refused.json["field"]) == (400, "Idempotency-Key")


@pytest.mark.parametrize("key", ["x" * 255, '"' + "x" * 255 + '"'])
def test_the_longest_keys_are_keys(http, worker, key):
    first, again = send(http, key), send(http, key)

    assert (first.status_code, again.json["id"]) == (202, first.json["id"])
    assert again.headers["Idempotency-Replayed"] == "true"
