"""/i/{id}.png: a picture under an address that lasts, for people, browsers and importers (GET, HEAD, Range)."""

from __future__ import annotations

import re
from datetime import UTC, datetime
from http import HTTPStatus
from typing import Annotated, Any

from flask import Response, jsonify, request
from pydantic import BaseModel, Field

from api import objects
from api.context import Services, services
from api.job_json import effective_parameters
from api.openapi_parts import NOT_CHANGED, PICTURES, problems, routes
from api.thumbnails import WIDTHS, snap
from core import __version__
from core.errors import Gone, NotFound, StorageUnavailable
from core.job import Job
from core.logs import get_logger
from core.provenance import TRAINED_ALGORITHMIC_MEDIA

pictures = routes("pictures", PICTURES)
log = get_logger(__name__)

JOB_ID = re.compile(r"[0-9a-f]{32}")
#: The bytes under an id never change; a year is HTTP's longest useful age.
CACHE_CONTROL = "public, max-age=31536000, immutable"


class PicturePath(BaseModel):
    """The id of the picture's job."""

    job_id: Annotated[str, Field(description="32 hexadecimal digits.", examples=["9f2c41d0b7e84a7c8d5e6f0a1b2c3d4e"])]


class PictureQuery(BaseModel):
    """How a browser takes it."""

    download: Annotated[str | None, Field(description="There, with any value: browsers save it as a file.")] = None


class ThumbnailQuery(PictureQuery):
    """How wide the copy is."""

    w: Annotated[int, Field(ge=1, le=WIDTHS[-1], description="Pixels; 160, 320, 640 and 1024 are made.")] = 320


def _bytes_of(mimetype: str) -> dict[str, Any]:
    return {"content": {mimetype: {"schema": {"type": "string", "format": "binary"}}}, "description": "The picture"}


@pictures.get(
    "/i/<job_id>.png",
    summary="A picture, under an address that lasts",
    description="Needs no key, answers GET, HEAD and Range, and its bytes never change. The PNG tells its parameters.",
    responses={
        200: _bytes_of("image/png"),
        206: _bytes_of("image/png"),
        304: NOT_CHANGED,
        412: {"description": "Another picture than `If-Match` wants; no body"},
        **problems(404, 410, 416, 503),
    },
)
def picture(path: PicturePath, query: PictureQuery) -> Response:
    """The PNG; flask answers HEAD by the same function."""
    parts = services()
    job = find_finished(parts, path.job_id)
    assert job.picture is not None
    response = Response(mimetype="image/png", headers=_headers(job, suffix="png"))
    response.set_etag(job.picture.sha256)
    response.last_modified = datetime.fromtimestamp(job.finished_ms // 1000, UTC)
    if request.method == "HEAD" or request.if_none_match.contains_weak(job.picture.sha256):
        response.headers["Accept-Ranges"] = "bytes"
        response.content_length = job.picture.size_bytes
        response.make_conditional(request)
        return response
    data = read_picture(parts, job)
    response.set_data(data)
    response.headers["Accept-Ranges"] = "bytes"
    response.make_conditional(request, accept_ranges=_asks_for_a_part(len(data)), complete_length=len(data))
    if response.status_code == HTTPStatus.PRECONDITION_FAILED:
        response.set_data(b"")
    return response


@pictures.get(
    "/i/<job_id>.webp",
    summary="A small copy, for lists of pictures",
    responses={200: _bytes_of("image/webp"), 304: NOT_CHANGED, **problems(400, 404, 410, 503)},
)
def thumbnail(path: PicturePath, query: ThumbnailQuery) -> Response:
    """As wide as the first of WIDTHS that is wide enough; never wider than the picture."""
    parts = services()
    job = find_finished(parts, path.job_id)
    assert job.picture is not None
    width, sha256 = snap(query.w), job.picture.sha256
    response = Response(mimetype="image/webp", headers=_headers(job, suffix="webp"))
    response.set_etag(f"{sha256}-{width}")
    if not request.if_none_match.contains_weak(f"{sha256}-{width}"):
        response.set_data(parts.thumbnails.get(sha256, width, lambda: read_picture(parts, job)))
    response.make_conditional(request)
    return response


@pictures.get(
    "/i/<job_id>.json",
    summary="What made a picture",
    description="Parameters, model and version, and that a machine drew it. Needs no key.",
    responses={200: objects.Provenance, **problems(404, 410, 503)},
)
def provenance(path: PicturePath) -> Response:
    """The picture's record, without what is its owner's alone."""
    parts = services()
    job = find_finished(parts, path.job_id)
    assert job.picture is not None
    profile = parts.profile_named(job.request.model)
    shown = objects.Provenance(
        id=job.id,
        sha256=job.picture.sha256,
        width=job.picture.width,
        height=job.picture.height,
        created_at=job.created_ms // 1000,
        parameters=effective_parameters(job),
        model=objects.ModelRef(id=profile.id, revision=profile.revision),
        software=f"zimg {__version__}",
        digital_source_type=TRAINED_ALGORITHMIC_MEDIA,
    )
    response = jsonify(shown.model_dump(mode="json"))
    response.headers["Cache-Control"] = "public, no-cache"
    return response


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
    """The PNG's bytes from storage; a picture has at most a few MB. Raises StorageUnavailable where some lack."""
    assert job.picture is not None
    with parts.images.open(job.picture.key) as stream:
        data = stream.read()
    if job.picture.size_bytes and len(data) != job.picture.size_bytes:
        log.error("the storage holds another picture than was stored", action="read", job_id=job.id, bytes=len(data))
        raise StorageUnavailable("The storage can not take or give pictures now (bytes are missing).")
    return data


def _asks_for_a_part(size_bytes: int) -> bool:
    """Whether `Range` names one range of bytes; of other units and several ranges the whole is given (RFC 9110).

    So it is of the last bytes where as many are wanted as there are, or more (14.1.2): werkzeug refuses that.
    """
    wanted = request.range
    if wanted is None or wanted.units != "bytes" or len(wanted.ranges) != 1:
        return False
    return not -wanted.ranges[0][0] >= size_bytes


def _headers(job: Job, *, suffix: str) -> dict[str, str]:
    kind = "attachment" if "download" in request.args else "inline"
    return {
        "Cache-Control": CACHE_CONTROL,
        "Cross-Origin-Resource-Policy": "cross-origin",
        "Content-Disposition": f'{kind}; filename="zimg-{job.request.seed}-{job.id[:8]}.{suffix}"',
    }
