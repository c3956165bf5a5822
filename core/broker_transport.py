"""Kombu's Redis transports, less what nobody could read.

Kombu parses a message in the middle of a worker's event loop, where one that is broken ends the worker, and with no
hook before that. So each is looked at as it leaves the queue, in the Redis client's own callback for the command: what
is no message of ours counts as none. It left the queue, so it comes to no other worker either.
"""

from __future__ import annotations

from typing import Any

from kombu.transport import TRANSPORT_ALIASES
from kombu.transport import redis as kombu_redis
from kombu.utils.encoding import bytes_to_str
from kombu.utils.json import dumps, loads

#: Of the options of a transport: called with the text of what was left out, and why.
ON_UNREADABLE = "on_unreadable"
ACCEPTED = frozenset({"application/json"})
#: Celery reads more headers than these, in that same loop, and a hint needs none of them.
HEADERS = ("lang", "task", "id")


class Sieve:
    """Mixed into a channel: its client gives out no message that Celery could stumble over."""

    def _create_client(self, asynchronous: bool = False) -> Any:
        client: Any = super()._create_client(asynchronous)  # type: ignore[misc]
        client.set_response_callback("BRPOP", self._sifted)
        return client

    def _sifted(self, reply: Any, **_: Any) -> Any:
        """The answer of BRPOP, or None as if nothing had come."""
        if not reply:
            return None
        queue, item = reply
        try:
            return queue, self._checked(item)
        except Exception as error:  # whatever is wrong with it, it is the message's fault
            self._on_unreadable(bytes(item).decode(errors="replace"), error)
            return None

    def _checked(self, item: bytes) -> bytes:
        """The message as Celery shall read it. Raises anything for what is none."""
        raw: dict[str, Any] = loads(bytes_to_str(item))
        message: Any = self.Message(raw, channel=self)  # type: ignore[attr-defined]
        if message.errors:
            raise ValueError("it is compressed by nothing that is known")
        message.accept = ACCEPTED
        args, kwargs, embed = message.decode()
        headers = {name: message.headers[name] for name in HEADERS if name in message.headers}
        where = message.delivery_info
        texts = (headers["task"], headers["id"], message.delivery_tag, where["exchange"], where["routing_key"])
        if not all(isinstance(one, str) for one in texts):
            raise ValueError("a name in it is no text")
        if not (isinstance(args, list) and isinstance(kwargs, dict) and isinstance(embed, dict | None)):
            raise ValueError("its body is no call of a task")
        encoded: str = dumps({**raw, "headers": headers})
        return encoded.encode()

    def _on_unreadable(self, text: str, error: Exception) -> None:
        tell = self.connection.client.transport_options.get(ON_UNREADABLE)  # type: ignore[attr-defined]
        if tell is not None:
            tell(text, error)


class Channel(Sieve, kombu_redis.Channel):  # type: ignore[misc, unused-ignore]
    """Of one server."""


class SentinelChannel(Sieve, kombu_redis.SentinelChannel):  # type: ignore[misc, unused-ignore]
    """Of the master that sentinels name."""


class Transport(kombu_redis.Transport):  # type: ignore[misc, unused-ignore]
    """redis:// and rediss://."""

    Channel = Channel


class SentinelTransport(kombu_redis.SentinelTransport):  # type: ignore[misc, unused-ignore]
    """sentinel://."""

    Channel = SentinelChannel


def register() -> None:
    """Let this process's URLs lead here; after a failover kombu asks again by the URL's scheme alone."""
    ours = {"redis": "Transport", "rediss": "Transport", "sentinel": "SentinelTransport"}
    TRANSPORT_ALIASES.update({scheme: f"{__name__}:{name}" for scheme, name in ours.items()})
