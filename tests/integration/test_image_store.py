"""The image store against a real S3."""

import hashlib
import secrets
import time
from concurrent.futures import ThreadPoolExecutor

import pytest
from botocore.awsrequest import AWSResponse

from core.errors import NotFound, StorageFailure, StorageUnavailable
from core.image_store import ImageStore, Stored, object_key
from core.settings import Settings
from tests.fixtures.redis import free_port


def fresh_key() -> str:
    return f"tests/{secrets.token_hex(8)}.png"


def digest(data: bytes) -> str:
    return hashlib.sha256(data).hexdigest()


def test_a_stored_picture_is_found_with_its_own_hash_and_length(image_store):
    key, data = fresh_key(), b"picture" * 100

    stored = image_store.put(key, data, digest(data))

    assert stored == Stored(digest(data), len(data)) == image_store.head(key)
    with image_store.open(key) as stream:
        assert stream.read() == data


def test_a_second_picture_under_a_key_changes_nothing_and_gets_the_first_ones_hash(image_store):
    key = fresh_key()
    image_store.put(key, b"first", digest(b"first"))

    answer = image_store.put(key, b"the second", digest(b"the second"))

    assert answer == Stored(digest(b"first"), 5)
    with image_store.open(key) as stream:
        assert stream.read() == b"first"


def refusal(status: int, code: str):
    return AWSResponse("", status, {}, None), {"Error": {"Code": code, "Message": "planted"}}


@pytest.fixture
def strict_store(image_store, s3_environment, monkeypatch):
    """A store of a bucket that is not there, and must be made before anything is put into it.

    So it is with S3 itself; this server makes a bucket at the first put.
    """
    monkeypatch.setattr("core.image_store.CONFLICT_SECONDS", 0.0)
    store = ImageStore(
        Settings(s3_endpoint_url=s3_environment["S3_ENDPOINT_URL"], s3_bucket=f"b{secrets.token_hex(6)}")
    )
    made = []
    events = store._client.meta.events
    events.register("after-call.s3.CreateBucket", lambda parsed, **_: made.append("Error" not in parsed))
    events.register("before-call.s3.PutObject", lambda **_: None if any(made) else refusal(404, "NoSuchBucket"))
    return store


def test_a_bucket_that_is_not_there_is_made_for_the_first_picture(strict_store):
    """The storage was away when the worker started, or somebody removed it."""
    stored = strict_store.put("a/1.png", b"picture", digest(b"picture"))

    assert stored == strict_store.head("a/1.png") == Stored(digest(b"picture"), 7)


def test_a_bucket_that_can_not_be_made_in_time_is_told_and_made_later(strict_store):
    """As after a bucket was removed: S3 refuses its name for a while."""
    asked = []

    def refuse(**_):
        asked.append("CreateBucket")
        return refusal(409, "OperationAborted")

    events = strict_store._client.meta.events
    events.register("before-call.s3.CreateBucket", refuse)

    with pytest.raises(StorageUnavailable, match=f"no bucket {strict_store.bucket} yet"):
        strict_store.put("a.png", b"a", digest(b"a"))

    assert len(asked) == 5
    events.unregister("before-call.s3.CreateBucket", refuse)
    assert strict_store.put("a.png", b"a", digest(b"a")).size_bytes == 1


def test_of_many_keys_those_are_told_under_which_something_lies(image_store):
    owners = [f"{name}-{secrets.token_hex(4)}" for name in ("a", "a", "b")]
    keys = [f"{owner}/2026-11/{number:04}.png" for owner in owners for number in range(5)]
    for key in keys:
        image_store.put(key, b"picture", digest(b"picture"))
    lost = [keys[0], keys[7], keys[14]]
    for key in lost:
        image_store.delete(key)
    never = [f"{owners[0]}/2026-10/0.png", f"{owners[0]}/2026-11/9.png", "z/2026-11/0.png"]

    told = list(image_store.present([*keys, *never], time.monotonic() + 60))

    assert sorted(told) == sorted(set(keys) - set(lost))
    assert list(image_store.present(keys, time.monotonic() - 1)) == []


def test_more_keys_than_a_page_lists_are_told_whole(image_store):
    owner = f"pages-{secrets.token_hex(4)}"
    keys = [f"{owner}/2026-11/{number:05}.png" for number in range(1_100)]
    with ThreadPoolExecutor(8) as pool:
        list(pool.map(lambda key: image_store.put(key, b"p", digest(b"p")), keys))

    assert sorted(image_store.present(keys, time.monotonic() + 60)) == keys
    assert list(image_store.present([keys[3], keys[-1]], time.monotonic() + 60)) == [keys[3], keys[-1]]


def test_of_many_writers_at_once_all_agree_on_one_picture(image_store):
    key = fresh_key()
    bodies = [f"picture {n}".encode() for n in range(12)]

    with ThreadPoolExecutor(12) as pool:
        answers = list(pool.map(lambda body: image_store.put(key, body, digest(body)), bodies))

    assert len(set(answers)) == 1
    with image_store.open(key) as stream:
        assert digest(stream.read()) == answers[0].sha256


def test_part_of_a_picture_can_be_read(image_store):
    key = fresh_key()
    image_store.put(key, b"0123456789", digest(b"0123456789"))

    with image_store.open(key, (2, 5)) as stream:
        assert stream.read() == b"2345"


def test_nothing_lies_under_an_unknown_key_and_deleting_it_is_no_error(image_store):
    key = fresh_key()

    assert image_store.head(key) is None
    image_store.delete(key)
    with pytest.raises(NotFound), image_store.open(key):
        pass


def test_a_deleted_picture_is_gone_and_its_key_is_free(image_store):
    key = fresh_key()
    image_store.put(key, b"old", digest(b"old"))

    image_store.delete(key)

    assert image_store.head(key) is None
    assert image_store.put(key, b"new", digest(b"new")).sha256 == digest(b"new")


def test_the_bucket_is_made_once_and_found_after_that(strict_store):
    made = []
    strict_store._client.meta.events.register("after-call.s3.CreateBucket", lambda **_: made.append("CreateBucket"))

    strict_store.ensure_bucket()
    strict_store.ensure_bucket()

    assert made == ["CreateBucket"]
    assert strict_store.put("a.png", b"a", digest(b"a")).size_bytes == 1
    assert made == ["CreateBucket"]


def test_a_storage_that_is_away_is_unavailable(image_store):
    away = ImageStore(Settings(s3_endpoint_url=f"http://127.0.0.1:{free_port()}"))

    with pytest.raises(StorageUnavailable):
        away.put("a.png", b"a", digest(b"a"))


def test_a_storage_that_refuses_our_key_is_a_failure_that_says_so(image_store, s3_environment, monkeypatch):
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "not-the-secret")
    stranger = ImageStore(Settings(s3_endpoint_url=s3_environment["S3_ENDPOINT_URL"]))

    with pytest.raises(StorageFailure, match=r"SignatureDoesNotMatch|AccessDenied"):
        stranger.put(fresh_key(), b"a", digest(b"a"))


def test_the_key_follows_from_tenant_month_and_job():
    assert object_key("acme", "ab" * 16, 1_767_225_599_999) == f"acme/2025-12/{'ab' * 16}.png"
