"""The forms of answers: what clients may rely on, and what the OpenAPI document says."""

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import BaseModel, Field


class ProgressObject(BaseModel):
    """How far a running job is; value is the share of the whole that is done."""

    value: float
    step: int
    steps: int
    stage: str


class ImageObject(BaseModel):
    """A finished picture. The URL needs no key, answers GET, HEAD and Range, and lives until `expires_at`."""

    url: str
    sha256: str
    width: int
    height: int
    bytes: int
    expires_at: int | None


class JobErrorObject(BaseModel):
    """Why a job did not succeed."""

    code: str
    message: str


class ModelRef(BaseModel):
    """Which model drew."""

    id: str
    revision: str


class EffectiveParameters(BaseModel):
    """What the picture was really made with, whatever the request said of it."""

    prompt: str
    size: str
    seed: int
    preset: str
    steps: int
    guidance_scale: float
    negative_prompt: Literal[""] = ""  # the model takes none
    # OpenAI's names for what the preset and the service decide: always the same, whatever was sent.
    quality: Annotated[Literal["auto"], Field(description="The preset decides it.")] = "auto"
    style: Annotated[Literal[""], Field(description="None but the prompt's own.")] = ""
    background: Literal["opaque"] = "opaque"
    moderation: Annotated[Literal["auto"], Field(description="The operator's content rules.")] = "auto"
    output_format: Literal["png"] = "png"
    output_compression: Annotated[Literal[100], Field(description="PNG loses nothing.")] = 100
    partial_images: Literal[0] = 0
    model: str
    variation: Annotated[
        str | None,
        Field(description="The part of the prompt that varies another picture's, as `metadata.variation` said."),
    ] = None


class DedupObject(BaseModel):
    """Whether another job's work answers this one, and whose: it costs nothing then, unless
    the operator bills each, or that job was canceled while it ran."""

    hit: bool
    of: str | None


class JobUrls(BaseModel):
    """Where to go on from here."""

    self: str
    events: str
    cancel: str
    image: str | None


class Provenance(BaseModel):
    """What made a picture."""

    object: Literal["provenance"] = "provenance"
    id: str
    sha256: str
    width: int
    height: int
    created_at: int
    parameters: EffectiveParameters
    model: ModelRef
    software: str
    digital_source_type: Annotated[str, Field(description="IPTC's word for a picture that a trained model made.")]


class JobObject(BaseModel):
    """A job. Times are Unix seconds; `eta_seconds` counts from now and is null while `paused`: the operator stopped
    what the job waits for. `fingerprint` stands for all that determines the pixels where the request named a seed:
    equal ones are drawn once (`dedup`)."""

    id: str
    object: Literal["job"] = "job"
    status: Literal["queued", "running", "succeeded", "failed", "canceling", "canceled", "expired"]
    created_at: int
    started_at: int | None
    completed_at: int | None
    expires_at: int | None
    queue_position: int | None
    eta_seconds: float | None
    paused: bool
    progress: ProgressObject | None
    attempts: int
    lane: str
    priority: Literal["low", "normal", "high"]
    fingerprint: str | None
    prompt: str
    seed: int
    preset: str
    effective_parameters: EffectiveParameters
    model: ModelRef
    dedup: DedupObject
    images: list[ImageObject]
    error: JobErrorObject | None
    metadata: dict[str, Any]
    batch: str | None
    urls: JobUrls


class JobList(BaseModel):
    """A page of jobs, newest first."""

    object: Literal["list"] = "list"
    data: list[JobObject]
    has_more: bool = False
    next_cursor: str | None = None


class BatchCountsObject(BaseModel):
    """Pictures of a batch by how they ended; the rest of `total` is still open."""

    total: int
    completed: int
    failed: int
    canceled: int


class BatchUrls(BaseModel):
    """Where to go on from here."""

    self: str
    manifest: str
    jobs: str


BatchStatus = Literal["in_progress", "incomplete", "completed", "failed", "canceled"]


class BatchObject(BaseModel):
    """A product list on its way.

    incomplete: storing it broke off; sent again with the same Idempotency-Key it goes on from there.
    completed: every picture ended, and at least one succeeded; failed, canceled: none did. The webhooks say the same.
    """

    id: str
    object: Literal["batch"] = "batch"
    status: BatchStatus
    created_at: int
    name: str
    rows: int
    variants: list[str]
    request_counts: BatchCountsObject
    urls: BatchUrls


class OpenAIImage(BaseModel):
    """One picture, as `url` or as base64."""

    url: str | None = None
    b64_json: str | None = None
    revised_prompt: str | None = None


class ImagesResponse(BaseModel):
    """OpenAI's answer, and what it was made with."""

    created: int
    data: list[OpenAIImage]
    size: str
    output_format: Literal["png"] = "png"
    effective_parameters: EffectiveParameters
    job_ids: list[str]


class ModelObject(BaseModel):
    """OpenAI's model, and the sizes that suit it."""

    id: str
    object: Literal["model"] = "model"
    created: int
    owned_by: str
    revision: str
    default_size: str
    shapes: dict[str, str]
    preset: str


class ModelList(BaseModel):
    """OpenAI's list of models."""

    object: Literal["list"] = "list"
    data: list[ModelObject]


class FieldProblem(BaseModel):
    """One wrong member."""

    pointer: str
    code: str
    detail: str


class OpenAIError(BaseModel):
    """OpenAI's error member."""

    message: str
    type: str
    param: str | None
    code: str


class ProblemObject(BaseModel):
    """RFC 9457 problem details with a stable `code`, and OpenAI's `error`."""

    type: str
    title: str
    status: int
    detail: str
    instance: str
    code: str
    request_id: str
    field: str | None = None
    retry_after_seconds: int | None = None
    retry_at: str | None = None
    errors: list[FieldProblem] | None = None
    error: OpenAIError
