"""The Lua scripts of core/lua: one file per transition; at load what it needs of the prelude is put before each."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from functools import cache
from importlib.resources import files
from typing import Any

import redis
from redis.exceptions import NoScriptError, ResponseError

from core.redis_client import PREFIX, redis_errors

#: What scripts share, each part after what it uses: the prelude.
SHARED = ("shared_records", "shared_queues", "shared_ends", "shared_followers")


def sources() -> Mapping[str, str]:
    """Name -> text as it stands in core/lua."""
    folder = files("core") / "lua"
    return {
        entry.name.removesuffix(".lua"): entry.read_text(encoding="utf-8")
        for entry in folder.iterdir()
        if entry.name.endswith(".lua")
    }


@cache
def script_texts() -> Mapping[str, str]:
    """Name -> text as sent to the server."""
    return assembled(sources())


def assembled(texts: Mapping[str, str]) -> Mapping[str, str]:
    """Each of the sources with what it needs of the prelude before it."""
    shared, own = prelude(texts), {name: text for name, text in texts.items() if name not in SHARED}
    return {name: f"{needed(shared, text)}\n-- {name}.lua\n{text}" for name, text in own.items()}


def prelude(texts: Mapping[str, str]) -> str:
    """What scripts share, in its order."""
    return "\n".join(texts[name] for name in SHARED)


def needed(shared: str, text: str) -> str:
    """The parts of the prelude that a script uses, and those that these use. A part begins with `local` at its margin.

    The server makes every function of a script anew at each call and keeps every script: what is not used would be
    most of what its garbage collector has to do, and it does that in the middle of other scripts.
    """
    kept: list[str] = []
    used = _words(text)
    for part in reversed(re.split(r"^(?=local )", shared, flags=re.MULTILINE)):  # what is used stands before its user
        name = re.match(r"local (?:function )?(\w+)", part)
        if name is None or name[1] in used:
            kept.append(part)
            used |= _words(part)
    return "".join(reversed(kept))


def _words(text: str) -> set[str]:
    return set(re.findall(r"\w+", re.sub(r"--.*", "", text)))


#: What a script may do beyond the usual, told to the server in its first line. While the server is out of memory no
#: work is taken in or begun (the broker could not carry it, and an ended job needs more than one that waits);
#: everything that ends work, frees memory or shuts somebody out goes on, and workers still say that they live.
READING = frozenset({"crowd", "finished", "place", "usage", "waiting"})
TAKING_IN = frozenset({"submit", "release"})


def first_line(name: str) -> str:
    """The script's shebang (Redis 7, Valkey)."""
    if name in READING:
        return "#!lua flags=no-writes\n"
    return "#!lua\n" if name in TAKING_IN else "#!lua flags=allow-oom\n"


class Scripts:
    """Runs scripts by name; a server that forgot them (restart, SCRIPT FLUSH) is sent the text again."""

    def __init__(self, client: redis.Redis) -> None:
        texts = script_texts()
        self._client = client
        self._flagged = {name: client.register_script(first_line(name) + text) for name, text in texts.items()}
        self._plain = {name: client.register_script(text) for name, text in texts.items()}
        self._knows_flags = True

    def run(self, name: str, *arguments: Any) -> Any:
        """The script's answer. Raises RedisUnavailable on connection trouble or when the server can not take it."""
        with redis_errors():
            if self._knows_flags:
                try:
                    return self._flagged[name](keys=[PREFIX], args=list(arguments))
                except ResponseError as error:
                    if not _is_unknown_flag(error):
                        raise
                    self._knows_flags = False
            return self._plain[name](keys=[PREFIX], args=list(arguments))

    def queue(self, pipeline: Any, name: str, *arguments: Any) -> None:
        """Put a script among the commands of `pipeline`; `settled` reads its answer."""
        script = (self._flagged if self._knows_flags else self._plain)[name]
        pipeline.evalsha(script.sha, 1, PREFIX, *arguments)

    def settled(self, answer: Any, name: str, *arguments: Any) -> Any:
        """What a pipeline, executed without raising, answered to a queued script. Raises as `run` does.

        A server that had forgotten the script, or does not know its first line, did nothing of it and is asked again.
        """
        if isinstance(answer, NoScriptError) or (isinstance(answer, ResponseError) and _is_unknown_flag(answer)):
            return self.run(name, *arguments)
        if isinstance(answer, Exception):
            with redis_errors():
                raise answer
        return answer

    def run_all(self, calls: Sequence[tuple[str, Sequence[Any]]]) -> list[Any]:
        """The answers of several scripts, (name, arguments), asked in one call but not as one step."""
        with redis_errors():
            pipeline = self._client.pipeline(transaction=False)
            for name, arguments in calls:
                self.queue(pipeline, name, *arguments)
            answers = pipeline.execute(raise_on_error=False)
        return [
            self.settled(answer, name, *arguments) for answer, (name, arguments) in zip(answers, calls, strict=True)
        ]


def _is_unknown_flag(error: ResponseError) -> bool:
    """An older server, or fakeredis, takes the first line for Lua and can not compile it."""
    return "near '#'" in str(error)
