"""`Prefer`: which of its values are a time to wait, and which say nothing."""

import pytest
from flask import Flask

from api.headers import preference
from api.schema import WAIT_SECONDS_MOST

app = Flask(__name__)


def wished(*sent):
    with app.test_request_context("/", headers=[("Prefer", one) for one in sent]):
        return preference()


@pytest.mark.parametrize(
    ("sent", "seconds"),
    [
        (["wait=7"], 7),
        (['Wait = "7"'], 7),
        (["respond-async, wait=7"], 7),
        (["wait=7; x=1, other"], 7),
        (["respond-async", "wait=7"], 7),
        (["return=minimal wait=7"], 7),
        (["wait=99999999999"], WAIT_SECONDS_MOST),
        ([f"wait={'9' * 5000}"], WAIT_SECONDS_MOST),
        (["wait=0"], 0),
        (["wait=0000000000007"], 7),
    ],
)
def test_whole_seconds_are_waited_for(sent, seconds):
    assert wished(*sent).wait_seconds == seconds


@pytest.mark.parametrize(
    "sent", ["wait=1e3", "wait=1.5", "wait=-1", "wait=", "wait", "wait=7s", 'wait="7', 'wait=7"', "await=7", "wait=٣"]
)
def test_what_is_no_whole_number_of_seconds_waits_for_nothing(sent):
    assert (wished(sent).wait_seconds, wished(sent).applied) == (0, "")


def test_what_is_beside_a_wait_that_is_none_still_counts():
    assert wished("wait=1e3, respond-async").applied == "respond-async"
