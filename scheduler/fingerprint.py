"""The fingerprint: same tenant, same pixels. A later job with the fingerprint of one in flight mirrors it."""

from __future__ import annotations

import hashlib
import json
import unicodedata

from core.job import GenerationRequest
from core.presets import Preset

SCHEME = "fp1"


def canonical_prompt(prompt: str) -> str:
    """The prompt up to differences that the tokenizer can not see: NFC, one kind of newline, no outer blanks."""
    return unicodedata.normalize("NFC", prompt.replace("\r\n", "\n").replace("\r", "\n")).strip()


def fingerprint_of(tenant: str, request: GenerationRequest, preset: Preset, revision: str, label: str = "") -> str:
    """`fp1:` and a SHA-256 over all that determines the picture. The tenant is in it: nobody sees another's work.

    `label` is what each picture must bear ("": nothing): one without it is no answer where it is the law.
    Only for a request whose seed the caller chose: without one, two equal requests want two pictures.
    """
    parts = {
        "tenant": tenant,
        "prompt": canonical_prompt(request.prompt),
        "width": request.width,
        "height": request.height,
        "seed": request.seed,
        "preset": preset.name,
        "forwards": preset.forwards,
        "guidance": f"{preset.guidance_scale:.6f}",
        "model": request.model,
        "revision": revision,
    } | ({"label": label} if label else {})
    text = json.dumps(parts, ensure_ascii=False, separators=(",", ":"), sort_keys=True)
    return f"{SCHEME}:{hashlib.sha256(text.encode()).hexdigest()}"


def derive_seed(first: int, index: int) -> int:
    """The seed of the `index`-th picture of one request; index 0 keeps `first`. 32 bits."""
    if index == 0:
        return first
    return int.from_bytes(hashlib.sha256(f"{first}:{index}".encode()).digest()[:4], "big")
