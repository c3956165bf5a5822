"""Waiting for pictures on a terminal: a bar for each on standard error, until they have ended or Ctrl-C."""

from __future__ import annotations

import queue
import shlex
import threading
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from rich.progress import BarColumn, Progress, TaskID, TextColumn, TimeElapsedColumn

from .answers import ZimgProblem
from .client import Job, Zimg
from .terminal import err

BATCH_LOOK_SECONDS = 2.0


@dataclass(frozen=True, slots=True)
class _Line:
    """A job's line on the terminal."""

    progress: Progress
    task: TaskID

    def show(self, job: Job) -> None:
        text = job.status
        if job.status == "queued" and job.queue_position:
            text = f"place {job.queue_position}{', paused by the operator' if job.raw.get('paused') else ''}"
        elif job.status == "running" and job.steps:
            text = f"step {job.step} of {job.steps}"
        self.progress.update(self.task, completed=1.0 if job.has_ended else job.share_done, state=text)


def _bars() -> Progress:
    columns = (TextColumn("{task.description}"), BarColumn(), TextColumn("{task.fields[state]}"), TimeElapsedColumn())
    # Without a terminal nothing is drawn, and the line end after it would stand alone.
    return Progress(*columns, console=err, transient=True, disable=not err.is_terminal)


def watch(zimg: Zimg, made: Sequence[Job]) -> list[Job]:
    """The jobs at their ends, with a bar each."""
    ended: queue.SimpleQueue[tuple[int, Job | Exception]] = queue.SimpleQueue()
    with _bars() as progress, _goes_on("cancel with: zimg cancel", [job.id for job in made]):

        def follow(place: int, job: Job) -> None:
            line, seen = _Line(progress, progress.add_task(job.id[:8], total=1.0, state=job.status)), job
            try:
                for seen in zimg.follow(job.id):
                    line.show(seen)
                ended.put((place, seen))
            except Exception as error:
                ended.put((place, error))

        for place, job in enumerate(made):  # daemons: Ctrl-C does not wait for what they wait for
            threading.Thread(target=follow, args=(place, job), daemon=True).start()
        return _in_order(ended, len(made))


def _in_order(ended: queue.SimpleQueue[tuple[int, Job | Exception]], count: int) -> list[Job]:
    """The jobs of as many threads; raises what the first of them that failed raised."""
    found: dict[int, Job] = {}
    while len(found) < count:
        place, seen = ended.get()
        if isinstance(seen, Exception):
            raise seen
        found[place] = seen
    return [found[place] for place in range(count)]


@contextmanager
def _goes_on(what: str, ids: Sequence[str]) -> Iterator[None]:
    """On Ctrl-C, or where the service does not answer any more, say what it goes on with."""
    try:
        yield
    except (KeyboardInterrupt, ZimgProblem) as end:
        if isinstance(end, ZimgProblem) and 0 < end.status < 500:
            raise  # an answer: of a list that was deleted, say
        err.print(f"The service goes on; {what} {' '.join(ids)}")
        raise


def watch_batch(zimg: Zimg, made: dict[str, Any], target: Path) -> dict[str, Any]:
    """The batch when all its jobs have ended; its list is to become the file `target`."""
    again = [str(made["id"]), "-o", shlex.quote(str(target))]
    with _bars() as progress, _goes_on("wait for it again with: zimg batch --resume", again):
        total = made["request_counts"]["total"]
        task = progress.add_task(made["name"], total=total, state="")
        while made["status"] == "in_progress":
            time.sleep(BATCH_LOOK_SECONDS)
            made = zimg.batch(made["id"])
            counts = made["request_counts"]
            ended = counts["completed"] + counts["failed"] + counts["canceled"]
            progress.update(task, completed=ended, state=f"{ended} of {total}, {counts['failed']} failed")
    return made
