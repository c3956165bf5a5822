"""Pictures in S3-compatible storage: each object is written once under a key that follows from its job.

Credentials come from boto3's own chain (environment, profile, instance role). Calls are bounded in time.
"""

from __future__ import annotations

import functools
import io
import time
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import IO, Any, NoReturn, cast

import boto3
import botocore.session
from botocore.config import Config
from botocore.exceptions import BotoCoreError, ClientError
from urllib3.exceptions import HTTPError

from core.errors import NotFound, StorageFailure, StorageUnavailable
from core.settings import Settings

CONNECTIONS = 32
#: Another writer of the same key is at work (409): wait a moment and look again.
CONFLICT_TRIES, CONFLICT_SECONDS = 5, 0.2
MISSING = frozenset({"404", "NoSuchKey", "NotFound"})
NO_BUCKET = "NoSuchBucket"
PRECONDITION = frozenset({"412", "PreconditionFailed"})
CONFLICT = frozenset({"409", "ConditionalRequestConflict", "OperationAborted"})
TAKEN = frozenset({"BucketAlreadyOwnedByYou", "BucketAlreadyExists"})
SLOW_DOWN = frozenset({"SlowDown", "RequestTimeout", "Throttling", "ServiceUnavailable", "InternalError", "503"})


@dataclass(frozen=True, slots=True)
class Patience:
    """How long one call may take, in seconds, and botocore's own tries of it; who needs more decides so himself."""

    connect_seconds: float
    read_seconds: float
    tries: int


USUAL = Patience(3.0, 10.0, 2)
#: For a look that somebody waits for and that may fail.
BRIEF = Patience(1.0, 2.0, 1)


@dataclass(frozen=True, slots=True)
class Stored:
    """What lies in the bucket: the hash that was stored with the object, and its length."""

    sha256: str
    size_bytes: int


def object_key(tenant: str, job_id: str, created_ms: int) -> str:
    """Where the one picture of a job lies; every run of the job answers the same."""
    month = datetime.fromtimestamp(created_ms / 1000, UTC).strftime("%Y-%m")
    return f"{tenant}/{month}/{job_id}.png"


class ImageStore:
    """The bucket. Any thread may use it. Raises StorageUnavailable (try later) or StorageFailure (refused)."""

    def __init__(self, settings: Settings, patience: Patience = USUAL) -> None:
        self.bucket = settings.s3_bucket
        self._client = _make_client(settings.s3_endpoint_url, patience)

    def ensure_bucket(self) -> None:
        """Make the bucket unless it is there."""
        with _translated("the bucket"):
            try:
                self._client.head_bucket(Bucket=self.bucket)
            except ClientError as error:
                if _code(error) not in MISSING | {NO_BUCKET}:
                    raise
                self._create_bucket()

    def put(self, key: str, png: bytes, sha256: str) -> Stored:
        """Store a picture unless its key is taken; answers what lies there now, which may be another run's."""
        with _translated(key):
            for _ in range(CONFLICT_TRIES):
                code = self._put_once(key, png, sha256)
                if code == "":
                    return Stored(sha256, len(png))
                there = self._head(key) if code in PRECONDITION else None
                if there is not None:
                    return there
                time.sleep(CONFLICT_SECONDS)
        if code == NO_BUCKET:
            raise StorageUnavailable(f"The storage can not take or give pictures now (no bucket {self.bucket} yet).")
        raise StorageUnavailable(f"Another writer held {key} for too long; try again shortly.")

    def head(self, key: str) -> Stored | None:
        """What lies under `key`, None if nothing."""
        with _translated(key):
            return self._head(key)

    def present(self, keys: Iterable[str], deadline: float) -> Iterator[str]:
        """Those of many keys under which some bytes lie, until the `deadline` (monotonic seconds).

        Pages of a folder's listing, each from the next wanted key on: a call tells of up to a thousand objects.
        """
        wanted = sorted(keys)
        while wanted and time.monotonic() < deadline:
            folder = wanted[0].rpartition("/")[0] + "/"
            with _translated(folder):
                # Listed is what comes after, and a key without its last character comes just before it.
                page = self._client.list_objects_v2(Bucket=self.bucket, Prefix=folder, StartAfter=wanted[0][:-1])
            listed = [str(entry["Key"]) for entry in page.get("Contents", [])]
            known_to = listed[-1] if page.get("IsTruncated") and listed else folder[:-1] + "0"  # "0" comes after "/"
            empty = {str(entry["Key"]) for entry in page.get("Contents", []) if entry.get("Size") == 0}
            yield from set(listed).intersection(wanted) - empty
            wanted = [key for key in wanted if key > known_to]

    @contextmanager
    def open(self, key: str, range: tuple[int, int] | None = None) -> Iterator[IO[bytes]]:
        """A stream of the bytes, of the `range` (first, last) if given. Raises NotFound where nothing lies."""
        wanted = {"Range": f"bytes={range[0]}-{range[1]}"} if range else {}
        with _translated(key):
            try:
                body = self._client.get_object(Bucket=self.bucket, Key=key, **wanted)["Body"]
            except ClientError as error:
                if _code(error) in MISSING:
                    raise NotFound("There is no such picture.") from None
                raise
        with body:
            yield cast(IO[bytes], _Reading(body, key))

    def delete(self, key: str) -> None:
        """Delete an object; no error if it is not there."""
        with _translated(key):
            self._client.delete_object(Bucket=self.bucket, Key=key)

    def _put_once(self, key: str, png: bytes, sha256: str) -> str:
        """ "" when written; else the code of a refusal after which another try makes sense."""
        try:
            self._client.put_object(
                Bucket=self.bucket,
                Key=key,
                Body=png,
                ContentType="image/png",
                CacheControl="public, max-age=31536000, immutable",
                Metadata={"sha256": sha256},
                IfNoneMatch="*",
            )
        except ClientError as error:
            code = _code(error)
            if code == NO_BUCKET:  # the storage was away when a worker would have made it, or somebody removed it
                self._create_bucket()
            elif code not in PRECONDITION | CONFLICT:
                raise
            return code
        return ""

    def _head(self, key: str) -> Stored | None:
        try:
            answer = self._client.head_object(Bucket=self.bucket, Key=key)
        except ClientError as error:
            if _code(error) in MISSING:
                return None
            raise
        return Stored(answer.get("Metadata", {}).get("sha256", ""), int(answer["ContentLength"]))

    def _create_bucket(self) -> None:
        region = self._client.meta.region_name
        where = {} if region in (None, "us-east-1") else {"CreateBucketConfiguration": {"LocationConstraint": region}}
        try:
            self._client.create_bucket(Bucket=self.bucket, **where)
        except ClientError as error:
            if _code(error) not in TAKEN | CONFLICT:  # somebody else makes it at this moment
                raise


class _Reading(io.RawIOBase):
    """A body whose trouble while reading is ours too."""

    def __init__(self, body: Any, key: str) -> None:
        self._body, self._key = body, key

    def readable(self) -> bool:
        return True

    def read(self, size: int = -1) -> bytes:
        with _translated(self._key):
            return bytes(self._body.read(None if size < 0 else size))

    def readall(self) -> bytes:
        return self.read()

    def readinto(self, buffer: Any) -> int:
        data = self.read(len(buffer))
        buffer[: len(data)] = data
        return len(data)


@functools.cache
def _loader() -> Any:
    """botocore's own description of S3: reading it is four fifths of a client's cost, and a process makes several."""
    return botocore.session.get_session().get_component("data_loader")


def _make_client(endpoint_url: str, patience: Patience) -> Any:
    """A client with path-style addresses and version-4 signatures, which every S3-compatible server takes."""
    inner = botocore.session.get_session()
    inner.register_component("data_loader", _loader())
    session = boto3.session.Session(botocore_session=inner)
    return session.client(
        "s3",
        endpoint_url=endpoint_url or None,
        region_name=session.region_name or "us-east-1",
        config=Config(
            signature_version="s3v4",
            s3={"addressing_style": "path" if endpoint_url else "auto"},
            connect_timeout=patience.connect_seconds,
            read_timeout=patience.read_seconds,
            retries={"mode": "standard", "total_max_attempts": patience.tries},
            max_pool_connections=CONNECTIONS,
            tcp_keepalive=True,
            # Servers beside AWS do not all know the newer checksums; the sha256 is ours anyway.
            request_checksum_calculation="when_required",
            response_checksum_validation="when_required",
        ),
    )


def _code(error: ClientError) -> str:
    return str(error.response.get("Error", {}).get("Code", ""))


def _status(error: ClientError) -> int:
    return int(error.response.get("ResponseMetadata", {}).get("HTTPStatusCode", 0))


@contextmanager
def _translated(what: str) -> Iterator[None]:
    """Turn botocore's errors, and broken connections while reading, into ours."""
    try:
        yield
    except ClientError as error:
        _refuse(error, what)
    except (BotoCoreError, OSError, HTTPError) as error:
        raise StorageUnavailable(f"The storage did not answer ({type(error).__name__}); try again shortly.") from error


def _refuse(error: ClientError, what: str) -> NoReturn:
    code = _code(error)
    if _status(error) >= 500 or code in SLOW_DOWN:
        raise StorageUnavailable(f"The storage can not take or give pictures now ({code}).") from error
    raise StorageFailure(f"The storage refused {what} ({code}).") from error
