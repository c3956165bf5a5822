"""The Lua scripts of core/lua: one file per transition, the prelude put before each at load."""

from __future__ import annotations

from collections.abc import Mapping
from functools import cache
from importlib.resources import files
from typing import Any

import redis

from core.redis_client import PREFIX, redis_errors

PRELUDE = "prelude"


@cache
def script_texts() -> Mapping[str, str]:
    """Name -> text as sent to the server."""
    folder = files("core") / "lua"
    texts = {
        entry.name.removesuffix(".lua"): entry.read_text(encoding="utf-8")
        for entry in folder.iterdir()
        if entry.name.endswith(".lua")
    }
    prelude = texts.pop(PRELUDE)
    return {name: f"{prelude}\n-- {name}.lua\n{text}" for name, text in texts.items()}


class Scripts:
    """Runs scripts by name; a server that forgot them (restart, SCRIPT FLUSH) is sent the text again."""

    def __init__(self, client: redis.Redis) -> None:
        self._scripts = {name: client.register_script(text) for name, text in script_texts().items()}

    def run(self, name: str, *arguments: Any) -> Any:
        """The script's answer. Raises RedisUnavailable on connection trouble or when the server takes no writes."""
        with redis_errors():
            return self._scripts[name](keys=[PREFIX], args=list(arguments))
