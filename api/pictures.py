"""/i/{id}.png: a picture under an address that lasts, for people, browsers and importers (GET, HEAD, Range)."""

from __future__ import annotations

import re
from datetime import UTC, datetime

from flask import Blueprint, Response, jsonify, request

from api.context import Services, services
from api.job_json import effective_parameters
from api.thumbnails import WIDTHS, snap
from core import __version__
from core.errors import Gone, InvalidRequest, NotFound
from core.job import Job
from core.provenance import TRAINED_ALGORITHMIC_MEDIA

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
        response.make_conditional(request)
        return response
    data = read_picture(parts, job)
    response.set_data(data)
    response.make_conditional(request, accept_ranges=True, complete_length=len(data))
    return response


@pictures.get("/i/<job_id>.webp")
def thumbnail(job_id: str) -> Response:
    """A small copy, `w` pixels wide (160, 320, 640 or 1024), for lists of pictures."""
    parts = services()
    job = find_finished(parts, job_id)
    assert job.picture is not None
    width, sha256 = snap(_width()), job.picture.sha256
    response = Response(mimetype="image/webp", headers=_headers(job, suffix="webp"))
    response.set_etag(f"{sha256}-{width}")
    if not request.if_none_match.contains(f"{sha256}-{width}"):
        response.set_data(parts.thumbnails.get(sha256, width, lambda: read_picture(parts, job)))
    response.make_conditional(request)
    return response


@pictures.get("/i/<job_id>.json")
def provenance(job_id: str) -> Response:
    """What made the picture: parameters, model and version, and that a machine drew it."""
    parts = services()
    job = find_finished(parts, job_id)
    assert job.picture is not None
    profile = parts.profile_named(job.request.model)
    response = jsonify(
        {
            "object": "provenance",
            "id": job.id,
            "sha256": job.picture.sha256,
            "width": job.picture.width,
            "height": job.picture.height,
            "created_at": job.created_ms // 1000,
            "parameters": effective_parameters(job).model_dump(mode="json"),
            "model": {"id": profile.id, "revision": profile.revision},
            "software": f"zimg {__version__}",
            "digital_source_type": TRAINED_ALGORITHMIC_MEDIA,
        }
    )
    response.headers["Cache-Control"] = "public, no-cache"
    return response


def _width() -> int:
    sent = request.args.get("w", "320")
    if not (sent.isascii() and sent.isdigit() and 1 <= int(sent[:6]) <= WIDTHS[-1]):
        raise InvalidRequest(f"w must be a number of pixels from 1 to {WIDTHS[-1]}", field="w", code="out_of_range")
    return int(sent)


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
