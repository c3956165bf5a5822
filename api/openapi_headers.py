"""Headers in the OpenAPI document: what a request may send, and what an answer carries."""

from __future__ import annotations

from typing import Any, NamedTuple

_TEXT = {"type": "string"}


class Header(NamedTuple):
    """One header: what it means, what it looks like, and an example."""

    description: str
    example: str
    schema: dict[str, Any] = _TEXT


class Where(NamedTuple):
    """An operation; `statuses` of those of its answers that carry a header."""

    method: str
    path: str
    statuses: tuple[str, ...] = ()


CREATE, DRAW, SEND_LIST = (
    Where("post", "/v1/jobs"),
    Where("post", "/v1/images/generations"),
    Where("post", "/v1/batches"),
)
LOOK, FOLLOW = Where("get", "/v1/jobs/{job_id}"), Where("get", "/v1/jobs/{job_id}/events")
LOOK_AT_SEVERAL = Where("get", "/v1/jobs")
PICTURE, THUMBNAIL = Where("get", "/i/{job_id}.png"), Where("get", "/i/{job_id}.webp")

REQUEST: dict[str, Header] = {
    "Idempotency-Key": Header(
        "Yours, for this wish: the same request under the same key gets the same jobs, another one 422. At most 255 "
        "printable ASCII characters without spaces.",
        "order-17",
        {**_TEXT, "pattern": "^[!-~]{0,255}$"},
    ),
    "Prefer": Header(
        "`wait=N` holds the answer until the end, for N seconds at most (RFC 7240); `Preference-Applied` says whether.",
        "wait=20",
    ),
    "Last-Event-ID": Header(
        "The `id` of the last event that you saw: the stream goes on behind it.", "1764000000000-0"
    ),
    "If-None-Match": Header("An `ETag` that you have, weak or strong: 304 where it still holds.", '"3f2a"'),
    "Range": Header("One range of bytes; of anything else the whole is given.", "bytes=0-1023"),
    "Accept-Language": Header("`en` or `zh-CN`: the language of errors.", "zh-CN"),
}
SENT_TO: dict[str, tuple[Where, ...]] = {
    "Idempotency-Key": (CREATE, DRAW, SEND_LIST),
    "Prefer": (CREATE, LOOK, LOOK_AT_SEVERAL),
    "Last-Event-ID": (FOLLOW,),
    "If-None-Match": (LOOK, PICTURE, THUMBNAIL),
    "Range": (PICTURE,),
}

ANSWER: dict[str, Header] = {
    "X-Request-Id": Header("Of this request: name it to the operator.", "req_0123456789abcdef01234567"),
    "Retry-After": Header("Seconds to wait before the same request can succeed.", "5", {"type": "integer"}),
    "Content-Language": Header("The language of this error.", "en"),
    "Location": Header(
        "Where what was made is found.", "https://zimg.example/v1/jobs/9f2c41d0b7e84a7c8d5e6f0a1b2c3d4e"
    ),
    "Preference-Applied": Header("What was done of `Prefer`.", "wait=20"),
    "X-Zimg-Ignored": Header("What was sent, in body or query, and changes nothing here.", "guidance_scale, steps"),
    "X-Zimg-Job-Id": Header(
        "The jobs that drew the pictures, with commas between.", "9f2c41d0b7e84a7c8d5e6f0a1b2c3d4e"
    ),
    "X-Zimg-Dedup-Of": Header(
        "The jobs whose pictures answer this call, with commas between. A shared picture costs nothing, unless the "
        "operator bills each, or the job that drew it was canceled.",
        "9f2c41d0b7e84a7c8d5e6f0a1b2c3d4e",
    ),
    "Idempotency-Replayed": Header("`true`: these are the jobs of an earlier call.", "true"),
    "ETag": Header("Of this state; send it back as `If-None-Match`.", '"3f2a"'),
    "Content-Range": Header("Which part this is, or how long the whole is.", "bytes 0-1023/482113"),
}
SENT_BY: dict[str, tuple[Where, ...]] = {
    "Location": (CREATE._replace(statuses=("200", "202")), SEND_LIST._replace(statuses=("200", "202"))),
    "Preference-Applied": (
        CREATE._replace(statuses=("200", "202")),
        *(where._replace(statuses=("200",)) for where in (LOOK, LOOK_AT_SEVERAL)),
    ),
    "X-Zimg-Ignored": (
        CREATE._replace(statuses=("200", "202")),
        *(where._replace(statuses=("200",)) for where in (DRAW, LOOK_AT_SEVERAL)),
    ),
    "X-Zimg-Job-Id": (DRAW._replace(statuses=("200",)),),
    "X-Zimg-Dedup-Of": (CREATE._replace(statuses=("200", "202")), DRAW._replace(statuses=("200",))),
    "Idempotency-Replayed": (
        CREATE._replace(statuses=("200", "202")),
        DRAW._replace(statuses=("200",)),
        SEND_LIST._replace(statuses=("200", "202")),
    ),
    "ETag": tuple(one._replace(statuses=("200", "206", "304")) for one in (LOOK, PICTURE, THUMBNAIL)),
    "Content-Range": (PICTURE._replace(statuses=("206",)),),
}
#: On every error, and on those that say when to come again.
OF_ERRORS = ("Content-Language",)
OF_LATER = ("Problem429", "Problem503")


def add_headers(document: dict[str, Any]) -> None:
    """Name them: as components, and by reference where they are sent."""
    components = document["components"]
    components["parameters"] = {
        name: {
            "name": name,
            "in": "header",
            "description": one.description,
            "schema": one.schema,
            "example": one.example,
        }
        for name, one in REQUEST.items()
    }
    components.setdefault("headers", {}).update(
        {
            name: {"description": one.description, "schema": one.schema, "example": one.example}
            for name, one in ANSWER.items()
        }
    )
    for path, operations in document["paths"].items():
        for method, operation in operations.items():
            _add_to(operation, Where(method, path))
    for name, answer in components["responses"].items():
        _carry(answer, "X-Request-Id", *OF_ERRORS, *(["Retry-After"] if name in OF_LATER else []))


def _add_to(operation: dict[str, Any], here: Where) -> None:
    sent = [name for name in REQUEST if here in SENT_TO.get(name, (here,))]
    references = [{"$ref": f"#/components/parameters/{name}"} for name in sent]
    operation["parameters"] = [*operation.get("parameters", []), *references]
    for status, answer in operation["responses"].items():
        if "$ref" not in answer:
            _carry(answer, "X-Request-Id", *[name for name in SENT_BY if _is_sent(name, here, status)])


def _is_sent(name: str, here: Where, status: str) -> bool:
    return any(one._replace(statuses=()) == here and status in one.statuses for one in SENT_BY[name])


def _carry(answer: dict[str, Any], *names: str) -> None:
    headers = {name: {"$ref": f"#/components/headers/{name}"} for name in names}
    answer["headers"] = {**answer.get("headers", {}), **headers}
