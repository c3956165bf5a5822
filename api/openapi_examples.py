"""One example for each body of the OpenAPI document whose model has none of its own; a test holds them to it."""

from __future__ import annotations

from typing import Any

JOB_ID = "9f2c41d0b7e84a7c8d5e6f0a1b2c3d4e"
BATCH_ID = "batch_9f2c41d0b7e84a7c8d5e6f0a"
HOOK_ID = "wh_0123456789abcdef01234567"
HOST = "https://zimg.example"
BEGUN = 1_795_478_400
SHA256 = "2c26b46b68ffc68ff99b453c1d30413413422d706483bfa0f98a5e886266e7ae"
PROMPT = "a red mug on a white background"

PICTURE: dict[str, Any] = {"url": f"{HOST}/i/{JOB_ID}.png", "sha256": SHA256, "width": 1024, "height": 1024}
PARAMETERS: dict[str, Any] = {
    "prompt": PROMPT, "size": "1024x1024", "seed": 7, "preset": "turbo", "steps": 4, "guidance_scale": 0.0,
    "negative_prompt": "", "quality": "auto", "style": "", "background": "opaque", "moderation": "auto",
    "output_format": "png", "output_compression": 100, "partial_images": 0, "model": "z-image-turbo",
}  # fmt: skip
JOB: dict[str, Any] = {
    "id": JOB_ID, "object": "job", "status": "succeeded", "created_at": BEGUN, "started_at": BEGUN + 1,
    "completed_at": BEGUN + 3, "expires_at": BEGUN + 2_592_003, "queue_position": None, "eta_seconds": None,
    "paused": False,
    "progress": {"value": 1.0, "step": 4, "steps": 4, "stage": "done"}, "attempts": 1, "lane": "interactive",
    "priority": "normal", "fingerprint": "fp1:b1946ac92492d2347c6235b4d2611184b1946ac92492d2347c6235b4d2611184",
    "prompt": PROMPT, "seed": 7, "preset": "turbo", "effective_parameters": PARAMETERS,
    "model": {"id": "z-image-turbo", "revision": "main"}, "dedup": {"hit": False, "of": None},
    "images": [{**PICTURE, "bytes": 1_482_112, "expires_at": BEGUN + 2_592_003}], "error": None,
    "metadata": {"sku": "MUG-RED"}, "batch": None,
    "urls": {"self": f"{HOST}/v1/jobs/{JOB_ID}", "events": f"{HOST}/v1/jobs/{JOB_ID}/events",
             "cancel": f"{HOST}/v1/jobs/{JOB_ID}/cancel", "image": f"{HOST}/i/{JOB_ID}.png"},
}  # fmt: skip
MODEL: dict[str, Any] = {
    "id": "z-image-turbo", "object": "model", "created": BEGUN, "owned_by": "zimg", "revision": "main",
    "default_size": "1024x1024", "preset": "turbo",
    "shapes": {"square": "1024x1024", "portrait": "864x1152", "landscape": "1152x864"},
}  # fmt: skip
BATCH: dict[str, Any] = {
    "id": BATCH_ID, "object": "batch", "status": "in_progress", "created_at": BEGUN, "name": "products.csv",
    "rows": 200,
    "variants": ["white", "scene"],
    "request_counts": {"total": 400, "completed": 120, "failed": 0, "canceled": 0},
    "urls": {"self": f"{HOST}/v1/batches/{BATCH_ID}", "manifest": f"{HOST}/v1/batches/{BATCH_ID}/manifest.csv",
             "jobs": f"{HOST}/v1/jobs?batch={BATCH_ID}"},
}  # fmt: skip
KEY: dict[str, Any] = {
    "id": SHA256, "object": "key", "tenant": "shop-1", "label": "till", "hint": "x9Qp", "admin": False,
    "created_at": BEGUN, "last_used_at": None, "expires_at": None, "revoked_at": None,
    "daily_units": 100, "burst": None,
}  # fmt: skip
NEW_KEY = {**KEY, "key": "zimg_" + "0" * 39 + "x9Qp"}
ENDPOINT: dict[str, Any] = {
    "id": HOOK_ID, "object": "webhook", "url": "https://shop.example/hooks", "source": "registered",
    "events": ["job.succeeded"],
    "enabled": True, "disabled_because": None, "created_at": BEGUN,
}  # fmt: skip
NEW_ENDPOINT = {**ENDPOINT, "secret": "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw"}

JOB_EVENT_DATA: dict[str, Any] = {
    "id": JOB_ID, "object": "job", "status": "succeeded", "seed": 7, "metadata": {"sku": "MUG-RED"}, "batch": None,
    "images": [PICTURE], "error": None,
}  # fmt: skip
_NO_PICTURE = {**JOB_EVENT_DATA, "images": []}
BATCH_EVENT_DATA: dict[str, Any] = {
    "id": BATCH_ID, "object": "batch", "request_counts": {"total": 400, "completed": 398, "failed": 2, "canceled": 0},
    "manifest_url": f"{HOST}/v1/batches/{BATCH_ID}/manifest.csv",
}  # fmt: skip
_NONE_DONE = {**BATCH_EVENT_DATA, "request_counts": {"total": 2, "completed": 0, "failed": 2, "canceled": 0}}
_NONE_WANTED = {**BATCH_EVENT_DATA, "request_counts": {"total": 2, "completed": 0, "failed": 0, "canceled": 2}}


def _event(kind: str, data: dict[str, Any]) -> dict[str, Any]:
    return {"id": f"evt_{data['id']}", "object": "event", "created_at": BEGUN + 3, "type": kind, "data": data}


EVENT_EXAMPLES = {
    "job.succeeded": _event("job.succeeded", JOB_EVENT_DATA),
    "job.failed": _event(
        "job.failed",
        {**_NO_PICTURE, "status": "failed", "error": {"code": "black_image", "message": "The picture came out black."}},
    ),
    "job.canceled": _event("job.canceled", {**_NO_PICTURE, "status": "canceled"}),
    "batch.completed": _event("batch.completed", BATCH_EVENT_DATA),
    "batch.failed": _event("batch.failed", _NONE_DONE),
    "batch.cancelled": _event("batch.cancelled", _NONE_WANTED),
    "webhook.test": _event("webhook.test", {"id": HOOK_ID, "object": "webhook"}),
}

DELIVERY: dict[str, Any] = {
    "id": "whd_0123456789abcdef0123456789abcdef", "object": "delivery", "event_id": f"evt_{JOB_ID}",
    "type": "job.succeeded", "url": None, "state": "delivered", "created_at": BEGUN + 3, "next_attempt_at": None,
    "attempts": [{"at": BEGUN + 4, "status": 204, "duration_ms": 31, "error": None}],
    "body": "{\"type\":\"job.succeeded\"}",
}  # fmt: skip

#: Schema → example; a model's own example wins.
EXAMPLES: dict[str, Any] = {
    "JobObject": JOB,
    "Provenance": {
        "object": "provenance", "id": JOB_ID, "sha256": SHA256, "width": 1024, "height": 1024, "created_at": BEGUN,
        "parameters": PARAMETERS, "model": {"id": "z-image-turbo", "revision": "main"}, "software": "zimg 0.1.0",
        "digital_source_type": "http://cv.iptc.org/newscodes/digitalsourcetype/trainedAlgorithmicMedia",
    },
    "JobList": {"object": "list", "data": [JOB], "has_more": False, "next_cursor": None},
    "CancelMany": {"ids": [JOB_ID]},
    "ImagesResponse": {
        "created": BEGUN, "data": [{"url": PICTURE["url"], "b64_json": None, "revised_prompt": None}],
        "size": "1024x1024", "output_format": "png", "effective_parameters": PARAMETERS, "job_ids": [JOB_ID],
    },
    "ModelObject": MODEL,
    "ModelList": {"object": "list", "data": [MODEL]},
    "BatchObject": BATCH,
    "KeyCreate": {"tenant": "shop-1", "label": "till"},
    "KeyObject": KEY,
    "KeyList": {"object": "list", "data": [KEY]},
    "NewKeyObject": NEW_KEY,
    "SignIn": {"key": NEW_KEY["key"]},
    "SessionObject": {
        "object": "session", "signed_in": True, "tenant": "shop-1", "admin": False, "key_required": True,
    },
    "UsageObject": {
        "object": "usage", "tenant": "shop-1", "daily_limit": 500, "daily_used": 88, "daily_reserved": 2,
        "daily_remaining": 410, "resets_in_seconds": 30_600, "burst": 60, "burst_per_second": 1.0,
        "queued_jobs_limit": 1_000, "queued_jobs": 2, "queued_jobs_held": 0, "queued_jobs_remaining": 998,
        "running_jobs_limit": 8,
    },
    "TenantUsage": {"tenant": "shop-1", "used_today": 88, "used": 1_204, "days": [
        {"date": "2026-11-24", "used": 88, "reserved": 2}]},
    "Requeued": {"letter": JOB_ID, "job_id": JOB_ID[::-1], "refused": None},
    "EndpointCreate": {"url": "https://shop.example/hooks", "events": ["job.succeeded", "job.failed"]},
    "EndpointChange": {"enabled": True},
    "EndpointObject": ENDPOINT,
    "EndpointList": {"object": "list", "data": [ENDPOINT]},
    "NewEndpointObject": NEW_ENDPOINT,
    "RotatedEndpointObject": {**NEW_ENDPOINT, "old_secrets_end_at": [BEGUN + 86_400], "secrets_ended_early": 0},
    "Rotation": {"overlap_seconds": 86_400},
    "DeliveryObject": DELIVERY,
    "DeliveryList": {"object": "list", "data": [DELIVERY], "has_more": False, "next_cursor": None},
}  # fmt: skip
