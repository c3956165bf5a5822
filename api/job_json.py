"""A stored job as the API shows it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from api import objects
from api.context import Services, base_url
from api.errors import localized
from core.job import Failure, Job, JobState
from core.look import WAITING, QueuePlace
from core.presets import find_preset

_STATUS = {JobState.DEAD: "failed", JobState.CANCELED: "canceled"}

#: status of the API → the stored states that it may come from.
STATES_OF_STATUS: dict[str, frozenset[JobState]] = {
    "queued": WAITING,
    "running": frozenset({JobState.RUNNING}),
    "canceling": frozenset({JobState.RUNNING}),
    "succeeded": frozenset({JobState.SUCCEEDED}),
    "expired": frozenset({JobState.SUCCEEDED}),
    "failed": frozenset({JobState.DEAD}),
    "canceled": frozenset({JobState.CANCELED}),
}


def status_of(job: Job) -> str:
    """The API's word for where the job stands."""
    if job.state in WAITING:
        return "queued"
    if job.state is JobState.RUNNING:
        return "canceling" if job.cancel_requested else "running"
    if job.state is JobState.SUCCEEDED:
        return "expired" if job.picture_removed else "succeeded"
    return _STATUS[job.state]


def job_objects(parts: Services, jobs: Sequence[Job]) -> list[dict[str, object]]:
    """The jobs as JSON, in their order; one look at the queue tells the places of all that wait."""
    places = parts.jobs.queue_places(jobs)
    return [job_object(parts, job, places) for job in jobs]


def job_object(parts: Services, job: Job, places: Mapping[str, QueuePlace] | None = None) -> dict[str, object]:
    """The job as JSON; its place in the queue is looked up, unless `places` of all that wait are known."""
    place = (parts.jobs.queue_places([job]) if places is None else places).get(job.id)
    status, profile = status_of(job), parts.profile_named(job.request.model)
    shown = objects.JobObject(
        id=job.id,
        status=status,  # type: ignore[arg-type]
        created_at=job.created_ms // 1000,
        started_at=_seconds(job.started_ms),
        completed_at=_seconds(job.finished_ms),
        expires_at=_seconds(job.expires_ms),
        queue_position=place.position if place else None,
        eta_seconds=place.eta_seconds if place else None,
        paused=place.paused if place else False,
        progress=_progress(job),
        attempts=job.attempt,
        lane=job.lane.value,
        priority=job.priority.value,
        fingerprint=job.fingerprint or None,
        prompt=job.request.prompt,
        seed=job.request.seed,
        preset=job.request.preset,
        effective_parameters=effective_parameters(job),
        model=objects.ModelRef(id=profile.id, revision=profile.revision),
        dedup=objects.DedupObject(hit=bool(job.leader), of=job.leader or None),
        images=image_objects(job) if status == "succeeded" else [],
        error=_error(job),
        metadata=dict(job.metadata),
        batch=job.batch_id or None,
        urls=_urls(job, status),
    )
    return shown.model_dump(mode="json")


def effective_parameters(job: Job) -> objects.EffectiveParameters:
    """What the picture is made with, whatever the request said."""
    request, preset = job.request, find_preset(job.request.preset)
    return objects.EffectiveParameters(
        prompt=request.prompt,
        size=f"{request.width}x{request.height}",
        seed=request.seed,
        preset=request.preset,
        steps=preset.forwards,
        guidance_scale=preset.guidance_scale,
        model=request.model,
        variation=request.variation or None,
    )


def image_objects(job: Job) -> list[objects.ImageObject]:
    """The finished picture, if there is one."""
    if job.picture is None:
        return []
    picture = job.picture
    return [
        objects.ImageObject(
            url=picture_url(job.id),
            sha256=picture.sha256,
            width=picture.width,
            height=picture.height,
            bytes=picture.size_bytes,
            expires_at=_seconds(job.expires_ms),
        )
    ]


def picture_url(job_id: str) -> str:
    """The address that lasts: it needs no key, and never changes."""
    return f"{base_url()}/i/{job_id}.png"


def _seconds(milliseconds: int) -> int | None:
    return milliseconds // 1000 if milliseconds else None


def _progress(job: Job) -> objects.ProgressObject | None:
    if job.state is JobState.SUCCEEDED:
        steps = find_preset(job.request.preset).forwards
        return objects.ProgressObject(value=1.0, step=steps, steps=steps, stage="done")
    if job.progress is None or job.state is not JobState.RUNNING:
        return None
    made = job.progress
    return objects.ProgressObject(value=round(made.value, 3), step=made.step, steps=made.steps, stage=made.stage)


def _error(job: Job) -> objects.JobErrorObject | None:
    if job.failure is None or job.state is not JobState.DEAD:
        return None
    return objects.JobErrorObject(code=job.failure.code, message=failure_message(job.failure))


def failure_message(failure: Failure) -> str:
    """Why a job failed, in the language that the caller reads."""
    return localized(failure.code, failure.message)


def _urls(job: Job, status: str) -> objects.JobUrls:
    own = f"{base_url()}/v1/jobs/{job.id}"
    image = picture_url(job.id) if status == "succeeded" else None
    return objects.JobUrls(self=own, events=f"{own}/events", cancel=f"{own}/cancel", image=image)
