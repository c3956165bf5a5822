"""/v1/batches: a product list becomes pictures in the batch lane, and comes back as the same list with links.

A list is taken whole or refused whole, with one error for each wrong cell. Rows draw from seeds that follow from sku,
variant and prompt, so sending the list again gives the same pictures.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Mapping, Sequence
from typing import Any

from flask import Response, jsonify, make_response, request
from flask_openapi.models.media_type import MediaType
from flask_openapi.models.request_body import RequestBody
from flask_openapi.models.schema import Schema
from pydantic import ValidationError
from werkzeug.datastructures import FileStorage

from api import objects, schema
from api.auth import require_still_open, require_tenant
from api.batch_rows import Row, check_rules, plan_rows, row_seed
from api.context import Services, base_url, base_url_of_request, services, tenant
from api.errors import UnsupportedMediaType, invalid_fields
from api.headers import body_hash, idempotency_key
from api.job_json import picture_url, status_of
from api.list_room import room_for_a_list
from api.openapi_parts import BATCHES, SECURITY, problems, routes
from api.product_sheet import TEMPLATE_CHARACTERS_MOST, Sheet, read_sheet, write_sheet
from api.strict_json import require_plain
from api.submitting import wanted_profile
from core.batch_store import Batch
from core.errors import ExceedsLimits, Gone, InvalidRequest, NotFound, RedisUnavailable, ZimgError
from core.job import Job, Lane
from core.job_store import BatchCounts
from core.model_profile import ModelProfile
from core.redis_client import bound_patience
from scheduler.submission import Wish
from scheduler.traffic import Traffic

batches = routes("batches", BATCHES, SECURITY)
batches.before_request(require_tenant)

FILE_BYTES_MOST = 16 * 1024 * 1024
DELETED = "The pictures of this list were deleted, or their records expired."
BATCH_ID = re.compile(r"batch_[0-9a-f]{24}")

#: The two pictures that a shop wants of a product.
DEFAULT_TEMPLATES = {
    "white": "{title}, product photo, whole product in the frame, centered, pure white background, studio light",
    "scene": "{title}, product photo in a bright modern home, on a wooden table, natural light, shallow depth of field",
}
FORM = {
    "type": "object",
    "required": ["file"],
    "properties": {
        "file": {
            "type": "string",
            "format": "binary",
            "contentMediaType": "text/csv",
            "description": "CSV with columns sku and title, up to 10,000 rows of 1,000 columns and 16 MiB",
        },
        "white": {
            "type": "string",
            "maxLength": TEMPLATE_CHARACTERS_MOST,
            "description": "Prompt template of the white picture; {column} is filled in",
        },
        "scene": {
            "type": "string",
            "maxLength": TEMPLATE_CHARACTERS_MOST,
            "description": "Prompt template of the scene picture",
        },
        "size": {"type": "string", "description": "WIDTHxHEIGHT, or auto"},
        "model": {"type": "string", "description": "The id of a model of this service; its default when absent"},
    },
}


@batches.post(
    "/v1/batches",
    summary="Draw a product list",
    description="multipart/form-data. Two pictures a row: one on white, one in a scene.",
    request_body=RequestBody(
        content={"multipart/form-data": MediaType(schema=Schema.model_validate(FORM))}, required=True
    ),
    responses={202: objects.BatchObject, **problems(409, 410, 422, 429)},
)
def create() -> Response:
    key = idempotency_key("batches")
    if not key:  # a list that was taken before is answered as it was then: submit.lua knows
        Traffic(services().jobs).require_open(tenant().name, Lane.BATCH)
    upload = _sent_file()  # all of it is here before it takes a place: who sends slowly keeps none
    with room_for_a_list():
        return _take_in(key, upload)


def _take_in(key: str, upload: FileStorage) -> Response:
    parts, owner = services(), tenant()
    data, name = upload.read(), (upload.filename or "products.csv")[:120]
    sheet, templates = read_sheet(data), _templates()
    profile = wanted_profile(parts, request.form.get("model", "").strip())
    pixels = _pixels(profile)
    rows = plan_rows(sheet, templates)
    check_rules(parts.rules, rows)
    hashed = body_hash(_meaning(parts, data, templates, profile, pixels))
    batch = _keep(parts, _id_for(parts, owner.name, key, hashed, len(rows)), name, sheet, templates)
    wishes = _wishes(rows, batch.id, profile, pixels, key=key, hashed=hashed)
    bound_patience(bounded=False)  # many calls for one answer: one that is late is asked again, not left in part
    try:
        submitted = parts.submission.submit_many(owner, wishes, before_next=require_still_open)
    except RedisUnavailable:
        raise  # a part may be stored: the record stays, and the list sent again with its key goes on from there
    except ZimgError as refused:
        parts.batches.forget(batch.id, owner.name)
        if isinstance(refused, ExceedsLimits):
            raise refused.in_rows(len(templates), field="file") from None
        raise
    is_replay = all(one.replayed for one in submitted)
    if is_replay:
        batch = _batch_of(parts, batch, submitted[0].job_id)
    else:
        parts.batches.save_again(batch)
    response = make_response(jsonify(_taken(parts, batch, stored=0 if is_replay else len(wishes))), 202)
    response.headers["Location"] = f"{base_url()}/v1/batches/{batch.id}"
    if is_replay:
        response.headers["Idempotency-Replayed"] = "true"
    return response


def _taken(parts: Services, batch: Batch, *, stored: int) -> dict[str, Any]:
    """The batch as JSON; one that this call stored also where Redis does not say so again: else it came twice."""
    try:
        return batch_object(parts, batch)
    except RedisUnavailable:
        if not stored:
            raise
        return _object_of(batch, _counts(batch, total=stored))


def _meaning(
    parts: Services, data: bytes, templates: Mapping[str, str], profile: ModelProfile, pixels: tuple[int, int]
) -> dict[str, Any]:
    """What an Idempotency-Key stands for: the same list, drawn the same way."""
    named = {"model": profile.id} if profile in parts.further else {}  # as before where the default draws
    size = f"{pixels[0]}x{pixels[1]}"
    return {"file": hashlib.sha256(data).hexdigest(), "templates": dict(templates), "size": size, **named}


def _wishes(
    rows: Sequence[Row], batch_id: str, profile: ModelProfile, pixels: tuple[int, int], *, key: str, hashed: str
) -> list[Wish]:
    """One for each row and variant, all under the caller's Idempotency-Key if there is one."""
    asked = base_url_of_request()
    return [
        Wish(
            prompt=row.prompt,
            width=pixels[0],
            height=pixels[1],
            model=profile.id,
            seed=row_seed(row),
            lane=Lane.BATCH,
            metadata={"sku": row.sku, "variant": row.variant, "row": row.index},
            batch_id=batch_id,
            base_url=asked,
            job_id=row_id(batch_id, number),
            idempotency_key=row_key(key, number),
            body_hash=hashed,
        )
        for number, row in enumerate(rows)
    ]


@batches.get(
    "/v1/batches/<batch_id>", summary="Look at a batch", responses={200: objects.BatchObject, **problems(404, 410)}
)
def look(path: schema.BatchPath) -> Response:
    return jsonify(batch_object(services(), find_batch(path.batch_id)))


@batches.get(
    "/v1/batches/<batch_id>/manifest.csv",
    summary="The same list with links to the pictures",
    description="The columns as they were sent, in their order, and for each variant its status and its URL.",
    responses={200: {"content": {"text/csv": {"schema": {"type": "string"}}}}, **problems(404, 410)},
)
def manifest(path: schema.BatchPath) -> Response:
    parts, batch = services(), find_batch(path.batch_id)
    _counts_of(parts, batch)
    sheet = Sheet(batch.delimiter, batch.header, batch.rows)
    text = write_sheet(sheet, result_columns(batch, _jobs_of(parts, batch)))
    # The byte order mark makes Excel read it as UTF-8, whatever the machine's own encoding.
    response = Response("\ufeff" + text, mimetype="text/csv")
    name = re.sub(r"[^A-Za-z0-9._-]", "_", batch.name.rsplit(".", 1)[0])[:60] or "products"
    response.headers["Content-Disposition"] = f'attachment; filename="{name}-with-pictures.csv"'
    return response


def row_id(batch_id: str, number: int) -> str:
    """The id of a batch's picture, from 0: the same whenever the batch is stored. As hard to guess as the batch's."""
    return hashlib.sha256(f"{batch_id}:{number}".encode()).hexdigest()[:32]


def row_key(key: str, number: int) -> str:
    """The Idempotency-Key of a list's picture, from 0; "" for a list without one."""
    return f"{key}#{number}" if key else ""


def result_columns(batch: Batch, made: Sequence[Job]) -> dict[str, list[str]]:
    """`<variant>_status` and `<variant>_url` for each row."""
    columns: dict[str, list[str]] = {}
    for variant in batch.templates:
        columns[f"{variant}_status"] = [""] * len(batch.rows)
        columns[f"{variant}_url"] = [""] * len(batch.rows)
    for job in made:
        variant, index = str(job.metadata.get("variant")), int(job.metadata.get("row", -1))
        if f"{variant}_status" in columns and 0 <= index < len(batch.rows):
            status = status_of(job)
            columns[f"{variant}_status"][index] = status
            columns[f"{variant}_url"][index] = picture_url(job.id) if status == "succeeded" else ""
    return columns


def find_batch(batch_id: str) -> Batch:
    """The tenant's own batch. Raises NotFound for another's as well; Gone for one that was removed."""
    kept, is_id = services().batches, BATCH_ID.fullmatch(batch_id)
    batch = kept.get(batch_id) if is_id else None
    if batch is not None and batch.tenant == tenant().name:
        return batch
    if batch is None and is_id and kept.was_known(batch_id, tenant().name):
        raise Gone(DELETED)
    raise NotFound("There is no batch with this id.")


def batch_object(parts: Services, batch: Batch) -> dict[str, Any]:
    """The batch as JSON. Raises Gone as `_counts_of`."""
    return _object_of(batch, _counts_of(parts, batch))


def _counts_of(parts: Services, batch: Batch) -> BatchCounts:
    """Raises Gone where no job is left: whoever polls must not read that all is done."""
    if counts := parts.jobs.get_batch(batch.id):
        return counts
    raise Gone(DELETED)


def _counts(batch: Batch, *, total: int) -> BatchCounts:
    """Of a batch of which no picture has ended yet."""
    return BatchCounts(id=batch.id, tenant=batch.tenant, total=total, succeeded=0, dead=0, canceled=0)


def _object_of(batch: Batch, counts: BatchCounts) -> dict[str, Any]:
    own = f"{base_url()}/v1/batches/{batch.id}"
    shown = objects.BatchObject(
        id=batch.id,
        status=_status(counts),
        created_at=batch.created_ms // 1000,
        name=batch.name,
        rows=len(batch.rows),
        variants=list(batch.templates),
        request_counts=objects.BatchCountsObject(
            total=counts.total, completed=counts.succeeded, failed=counts.dead, canceled=counts.canceled
        ),
        urls=objects.BatchUrls(self=own, manifest=f"{own}/manifest.csv", jobs=f"{base_url()}/v1/jobs?batch={batch.id}"),
    )
    return shown.model_dump(mode="json")


def _sent_file() -> FileStorage:
    """The list as it came in, kept on disk where it is long."""
    request.max_content_length = FILE_BYTES_MOST
    if request.mimetype != "multipart/form-data":
        raise UnsupportedMediaType("Send the list as multipart/form-data with the CSV in the field `file`.")
    require_plain(request)
    upload = request.files.get("file")
    if upload is None:
        raise InvalidRequest("Send the CSV in the field `file`.", field="file", code="missing_field")
    return upload


def _templates() -> dict[str, str]:
    return {variant: request.form.get(variant, "").strip() or default for variant, default in DEFAULT_TEMPLATES.items()}


def _pixels(profile: ModelProfile) -> tuple[int, int]:
    size = request.form.get("size", "").strip() or "auto"
    try:
        return schema.SizeOnly(size=size).pixels(profile)
    except ValidationError as wrong:
        raise InvalidRequest(invalid_fields(wrong).fields[0].detail, field="size", code="invalid_size") from wrong


def _id_for(parts: Services, owner: str, key: str, hashed: str, pictures: int) -> str:
    """The same for the same list under the same key, so that a call which broke off is gone on with."""
    batch_id = parts.batches.id_for(owner, key, hashed, last_key=row_key(key, pictures - 1))
    if key and _may_store(parts, batch_id):  # rows are known by their keys from now on, and live from now on
        parts.batches.keep_id(owner, key, hashed, batch_id)
        parts.batches.lengthen(batch_id, owner)
    return batch_id


def _may_store(parts: Services, batch_id: str) -> bool:
    """Whether a list sent with this id may store rows: not if all came, nor if all that came were removed."""
    counts = parts.jobs.get_batch(batch_id)
    return bool(counts.missing) if counts else not parts.jobs.was_removed(row_id(batch_id, 0))


def _keep(parts: Services, batch_id: str, name: str, sheet: Sheet, templates: Mapping[str, str]) -> Batch:
    if known := parts.batches.get(batch_id):
        return known
    batch = Batch(
        id=batch_id,
        tenant=tenant().name,
        created_ms=parts.tenants.now_ms(),
        name=name,
        delimiter=sheet.delimiter,
        header=sheet.header,
        rows=sheet.rows,
        templates=dict(templates),
    )
    parts.batches.save(batch)
    return batch


def _batch_of(parts: Services, batch: Batch, job_id: str) -> Batch:
    """The batch that an earlier call with the same Idempotency-Key made: mostly this one, found again by its key.

    Raises Gone if all of its pictures were deleted: they are not drawn again.
    """
    job = parts.jobs.get(job_id)
    is_this = job is None or job.batch_id == batch.id
    if job is not None and not is_this:
        parts.batches.forget(batch.id, batch.tenant)
        return find_batch(job.batch_id)
    if parts.jobs.get_batch(batch.id) is None:
        parts.batches.drop(batch.id, batch.tenant)
        raise Gone("The pictures of this list were deleted; send it with another Idempotency-Key to draw it again.")
    return batch


def _status(counts: BatchCounts) -> objects.BatchStatus:
    if counts.missing and not counts.is_coming_in:
        return "incomplete"
    if counts.open or counts.missing:
        return "in_progress"
    return counts.ending


def _jobs_of(parts: Services, batch: Batch) -> list[Job]:
    return [job for job in parts.jobs.get_many(parts.jobs.batch_job_ids(batch.id)) if job is not None]
