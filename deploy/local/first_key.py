"""What the terminal says of the admin key that the first start made: where it lies, never the key itself."""

from __future__ import annotations

import shlex
from dataclasses import dataclass

from core.settings import Settings

USUAL_URL = "http://127.0.0.1:8080"  # where `zimg` looks by itself


@dataclass(slots=True)
class FirstKeyNote:
    """Said once a start. The api makes the key as soon as Redis answers: it may come a moment after the rest is up."""

    settings: Settings
    _is_said: bool = False

    def lines(self) -> list[str]:
        """What to say now: nothing on a loopback address, before the key lies there, or when it was said."""
        if self._is_said or self.settings.is_loopback or not self.settings.has_first_key:
            return []
        self._is_said = True
        path, url = self.settings.first_key_file, self.settings.own_url
        where = "" if url == USUAL_URL else f" --url {url}"
        return [
            f"a key is needed here; the admin key that the first start made lies in {path}",
            f"  make keys with it: ZIMG_ADMIN_KEY=$(cat {shlex.quote(str(path))}) ./zimg keys create team1{where}",
        ]
