"""/i/{id}.png: a picture under an address that lasts, for people, browsers and importers (GET, HEAD, Range)."""

from __future__ import annotations

import re
from datetime import UTC, datetime

from flask import Blueprint, Response, request

from api.context import Services, services
from core.errors import Gone, NotFound
from core.job import Job

pictures = Blueprint("pictures", __name__)

JOB_ID = re.compile(r"[0-9a-f]{32}")
#: The bytes under an id never change; a year is HTTP's longest useful age.
CACHE_CONTROL = "public, max-age=31536000, immutable"


@pictures.get("/i/<job_id>.png")
def picture(job_id: str) -> Response:
    """The PNG; flask answers HEAD by the same function."""
    parts = services()
    job = find_finished(parts, job_id)
    assert job.picture is not None
    response = Response(mimetype="image/png", headers=_headers(job, suffix="png"))
    response.set_etag(job.picture.sha256)
    response.last_modified = datetime.fromtimestamp(job.finished_ms // 1000, UTC)
    if request.method == "HEAD" or request.if_none_match.contains(job.picture.sha256):
        response.headers["Accept-Ranges"] = "bytes"
        response.content_length = job.picture.size_bytes
        return response.make_conditional(request)
    data = read_picture(parts, job)
    response.set_data(data)
    return response.make_conditional(request, accept_ranges=True, complete_length=len(data))


def find_finished(parts: Services, job_id: str) -> Job:
    """The job whose picture is there; raises Gone where it was, NotFound where it never was (yet)."""
    if not JOB_ID.fullmatch(job_id):
        raise NotFound("There is no such picture.")
    job = parts.jobs.get(job_id)
    if (job is None and parts.jobs.was_removed(job_id)) or (job is not None and job.picture_removed):
        raise Gone("This picture expired or was deleted.")
    if job is None or job.picture is None:
        raise NotFound("There is no such picture.")
    return job


def read_picture(parts: Services, job: Job) -> bytes:
    """The PNG's bytes from storage; a picture has at most a few MB."""
    assert job.picture is not None
    with parts.images.open(job.picture.key) as stream:
        return stream.read()


def _headers(job: Job, *, suffix: str) -> dict[str, str]:
    kind = "attachment" if "download" in request.args else "inline"
    return {
        "Cache-Control": CACHE_CONTROL,
        "Cross-Origin-Resource-Policy": "cross-origin",
        "Content-Disposition": f'{kind}; filename="zimg-{job.request.seed}-{job.id[:8]}.{suffix}"',
    }
