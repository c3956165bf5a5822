"""The forms of requests and answers, and the only validation.

Unknown members are ignored and named, never an error, except on the operator's routes.
"""

from __future__ import annotations

import json
import re
from functools import cache
from typing import Annotated, Any, Literal

from pydantic import (
    AfterValidator,
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Field,
    StrictInt,
    StrictStr,
    field_validator,
)
from pydantic_core import PydanticCustomError
from typing_extensions import TypeAliasType

from api.sizes import OPENAI_SIZES, parse_size, size_pattern
from core.job_pages import CURSOR_PATTERN
from core.model_profile import ModelProfile

PROMPT_CHARACTERS_MOST = 4_000
SEED_LIMIT = 2**32
PICTURES_MOST = 10
METADATA_BYTES_MOST = 4_096
WAIT_SECONDS_MOST = 60
JOB_ID_PATTERN = "^[0-9a-f]{32}$"
JOB_IDS_PATTERN = "^[0-9a-f]{32}(,[0-9a-f]{32}){0,99}$"
BATCH_ID_PATTERN = "^batch_[0-9a-f]{24}$"
RETENTION_MOST = 366 * 86_400

#: Control characters have no business in a prompt, except line feeds, carriage returns and tabs.
_CONTROL_SET = r"\x00-\x08\x0b\x0c\x0e-\x1f\x7f"
_CONTROL = re.compile(f"[{_CONTROL_SET}]")
#: What shows nothing by itself: Unicode's marks that only join, turn or vary what they stand beside, and fillers.
_INVISIBLE_SET = (
    r"\x80-\x9f\u00ad\u034f\u061c\u115f\u1160\u17b4\u17b5\u180b-\u180f\u200b-\u200f\u202a-\u202e\u2060-\u206f\u2800\u3164"
    r"\ufe00-\ufe0f\ufeff\uffa0\ufff9-\ufffb"
)
_SAYS_SOMETHING = re.compile(rf"[^{_INVISIBLE_SET}\s]")
#: For the document: what is always let out. Where else one may go is the operator's to say (scheduler/outbound.py).
OUTSIDE_URL_PATTERN = r"^https://([a-z0-9]{1,60}\.){1,3}[a-z]{2,20}(:[1-9][0-9]{0,3})?(/[!-~]{0,500})?$"
PROMPT_PATTERN = rf"^[^{_CONTROL_SET}]*[^{_CONTROL_SET}{_INVISIBLE_SET}\s][^{_CONTROL_SET}]*$"


def _check_prompt(prompt: str) -> str:
    if not _SAYS_SOMETHING.search(prompt):
        raise PydanticCustomError("empty_prompt", "prompt must say what to draw")
    check_prompt_length(len(prompt))
    if _CONTROL.search(prompt):
        raise PydanticCustomError("invalid_character", "prompt holds a control character, such as NUL")
    return prompt


def check_prompt_length(length: int) -> None:
    """Raises PydanticCustomError for a prompt of so many characters where they are too many."""
    if length > PROMPT_CHARACTERS_MOST:
        message = "prompt has {length} characters; at most {most} are read"
        raise PydanticCustomError("too_long", message, {"length": length, "most": PROMPT_CHARACTERS_MOST})


def _check_size(text: str) -> str:
    parse_size(text)
    return text


def _check_openai_size(text: str) -> str:
    parse_size(OPENAI_SIZES.get(text, text))
    return text


def _check_metadata(metadata: dict[str, Any]) -> dict[str, Any]:
    if len(json.dumps(metadata, ensure_ascii=False, separators=(",", ":")).encode()) > METADATA_BYTES_MOST:
        raise PydanticCustomError("too_long", "metadata has more than {most} bytes", {"most": METADATA_BYTES_MOST})
    return metadata


def _whole(value: Any) -> Any:
    """JSON has one kind of number: 5.0 is the integer 5."""
    return int(value) if isinstance(value, float) and value.is_integer() else value


WHOLE = BeforeValidator(_whole)
Prompt = TypeAliasType(
    "Prompt",
    Annotated[
        StrictStr,
        AfterValidator(_check_prompt),
        Field(
            description="What to draw, in any language. Control characters are refused.",
            examples=["a red mug on white"],
            json_schema_extra={"minLength": 1, "maxLength": PROMPT_CHARACTERS_MOST, "pattern": PROMPT_PATTERN},
        ),
    ],
)
Size = TypeAliasType(
    "Size",
    Annotated[
        StrictStr,
        AfterValidator(_check_size),
        Field(
            description="WIDTHxHEIGHT in pixels, multiples of 16 from 256 to 1536, at most 1,048,576 pixels; or auto.",
            examples=["1024x1024"],
            json_schema_extra={"pattern": size_pattern()},
        ),
    ],
)
OpenAISize = TypeAliasType(
    "OpenAISize",
    Annotated[
        StrictStr,
        AfterValidator(_check_openai_size),
        Field(
            description="WIDTHxHEIGHT in pixels, multiples of 16 from 256 to 1536, at most 1,048,576 pixels; or auto. "
            "OpenAI's larger sizes are drawn in their shape, with as many pixels as there may be.",
            examples=["1024x1024"],
            json_schema_extra={"pattern": size_pattern(*OPENAI_SIZES)},
        ),
    ],
)


class Body(BaseModel):
    """Base of JSON bodies: members we don't know are kept aside, to be named in X-Zimg-Ignored."""

    model_config = ConfigDict(extra="allow")

    @property
    def ignored(self) -> list[str]:
        """Names that were sent and change nothing, sorted."""
        return sorted(self.model_extra or ())


class Exact(BaseModel):
    """Base of JSON bodies that change what somebody may do: a member we don't know is an error, never passed over."""

    model_config = ConfigDict(extra="forbid")


class Drawing(Body):
    """What both ways of asking for a picture have in common."""

    prompt: Prompt
    model: Annotated[
        StrictStr | None,
        Field(description="One of `/v1/models`; the service's default when absent."),
    ] = None
    size: Size | None = None
    seed: Annotated[
        Annotated[StrictInt, Field(ge=0, lt=SEED_LIMIT), WHOLE] | None,
        Field(description="Same seed, same picture. Drawn at random when absent."),
    ] = None
    n: Annotated[
        Annotated[StrictInt, Field(ge=1, le=PICTURES_MOST), WHOLE] | None,
        Field(description="How many pictures; the first has `seed`, the others seeds derived from it."),
    ] = None
    metadata: Annotated[
        dict[str, Any] | None,
        Field(
            max_length=64,
            description="Yours; comes back with the job. At most 4,096 bytes of JSON. A `variation` that is a part of "
            "the prompt is also told by the picture itself, in the PNG and at `/i/{id}.json`.",
        ),
    ] = None
    priority: Annotated[
        Literal["low", "normal", "high"] | None,
        Field(description="Among your own pictures that wait: `high` passes those that came up to ten minutes before "
              "it, `low` lets those pass that come up to ten minutes after. Nobody else's place changes."),
    ] = None  # fmt: skip
    webhook_url: Annotated[
        Annotated[StrictStr, Field(max_length=2_000, json_schema_extra={"pattern": OUTSIDE_URL_PATTERN})] | None,
        Field(examples=["https://shop.example/hooks"],
              description="https://…: this job's `job.succeeded`, `job.failed` or `job.canceled` goes there, signed "
              "and tried again for three days. The secret: `POST /v1/webhooks/requests/rotate`; where an endpoint of "
              "yours has this URL, its own."),
    ] = None  # fmt: skip
    expires_in: Annotated[
        Annotated[StrictInt, Field(ge=60, le=RETENTION_MOST), WHOLE] | None,
        Field(
            description="Seconds to keep the picture; the service may keep it shorter. In its last five minutes a "
            "picture answers no further request."
        ),
    ] = None

    @field_validator("metadata")
    @classmethod
    def _metadata(cls, metadata: dict[str, Any] | None) -> dict[str, Any] | None:
        return None if metadata is None else _check_metadata(metadata)

    def pixels(self, profile: ModelProfile) -> tuple[int, int]:
        """(width, height): the size asked for, or the model's own default."""
        return (parse_size(self.size) if self.size else None) or profile.default_size


class JobCreate(Drawing):
    """A picture to draw."""

    model_config = ConfigDict(
        extra="allow",
        json_schema_extra={"example": {"prompt": "a red mug on a white background", "size": "512x512", "seed": 7}},
    )


class ImageCreate(Drawing):
    """OpenAI's body of POST /v1/images/generations."""

    model_config = ConfigDict(
        extra="allow",
        json_schema_extra={"example": {"model": "z-image-turbo", "prompt": "a red mug on a white background", "n": 1}},
    )

    model: Annotated[
        StrictStr | None,
        Field(description="As in `/v1/models`; while this service has one model, any name is taken for it."),
    ] = None
    size: OpenAISize | None = None
    response_format: Annotated[
        Literal["url", "b64_json"] | None,
        Field(description="Without it: b64_json for models named gpt-image… and chatgpt-image…, else url."),
    ] = None
    stream: Annotated[bool | None, Field(strict=True, description="Answer with server-sent events.")] = None

    def pixels(self, profile: ModelProfile) -> tuple[int, int]:
        """As of every drawing; OpenAI's larger sizes become those of their shape."""
        size = OPENAI_SIZES.get(self.size or "", self.size or "")
        return (parse_size(size) if size else None) or profile.default_size


class SizeOnly(BaseModel):
    """A size by itself, from a form."""

    size: Size

    def pixels(self, profile: ModelProfile) -> tuple[int, int]:
        """(width, height), the model's default for `auto`."""
        return parse_size(self.size) or profile.default_size


class CancelMany(Body):
    """Jobs to cancel, all or none."""

    ids: Annotated[list[StrictStr], Field(min_length=1, max_length=1_000)]


class JobPath(BaseModel):
    """A job's id."""

    job_id: Annotated[
        str,
        Field(
            min_length=32,
            max_length=32,
            description="32 hexadecimal digits.",
            examples=["9f2c41d0b7e84a7c8d5e6f0a1b2c3d4e"],
        ),
    ]


class Query(BaseModel):
    """Base of query parameters. flask-openapi asks for the form at each request: it is made once."""

    @classmethod
    def model_json_schema(cls, *args: Any, **kwargs: Any) -> dict[str, Any]:
        return super().model_json_schema(*args, **kwargs) if args or kwargs else _plain_form(cls)


@cache
def _plain_form(kind: type[BaseModel]) -> dict[str, Any]:
    return BaseModel.model_json_schema.__func__(kind)  # type: ignore[attr-defined, no-any-return]


class JobQuery(Query):
    """How long to wait for the end."""

    wait: Annotated[int, Field(ge=0, le=WAIT_SECONDS_MOST, description="Seconds to wait for the job to end.")] = 0


class ListQuery(Query):
    """Which jobs, and where to go on."""

    status: Annotated[
        Literal["queued", "running", "canceling", "succeeded", "failed", "canceled", "expired"] | None,
        Field(description="Only jobs of this status."),
    ] = None
    batch: Annotated[str | None, Field(pattern=BATCH_ID_PATTERN, description="Only jobs of this batch.")] = None
    cursor: Annotated[
        Annotated[str, Field(pattern=f"{CURSOR_PATTERN}|{JOB_ID_PATTERN}",  # a release before gave out ids
                             json_schema_extra={"pattern": CURSOR_PATTERN})] | None,
        Field(description="`next_cursor` of the page before."),
    ] = None  # fmt: skip
    limit: Annotated[int, Field(ge=1, le=100)] = 20
    ids: Annotated[
        str | None, Field(pattern=JOB_IDS_PATTERN, description="Just these jobs, separated by commas; at most 100.")
    ] = None
    wait: Annotated[
        int, Field(ge=0, le=WAIT_SECONDS_MOST, description="With `ids`: seconds to wait for all to end; else ignored.")
    ] = 0


class BatchPath(BaseModel):
    """A batch's id."""

    batch_id: Annotated[str, Field(examples=["batch_9f2c41d0b7e84a7c8d5e6f0a"])]


def bounded_retention(expires_in: int | None, most: int) -> int:
    """`expires_in` within the service's own bound; 0 when absent."""
    return min(expires_in or 0, most)
