"""The command's two outputs where they are no terminal."""

import json
import os
import sys
from pathlib import Path

import pytest

from client.client import Job, Zimg
from client.command import main
from client.watching import watch, watch_batch

JOB = {"id": "a" * 32, "object": "job", "status": "succeeded", "prompt": "a", "seed": 7, "images": [], "error": None}
BATCH = {"id": "b", "name": "list", "status": "in_progress", "request_counts": {"total": 1}}


def test_nothing_but_messages_goes_to_standard_error(stranger, capsys):
    stranger.answer = (200, {}, json.dumps(JOB))
    with Zimg(stranger.url) as zimg:
        (ended,) = watch(zimg, [Job.of({**JOB, "status": "queued"})])
        made = watch_batch(zimg, {**BATCH, "status": "completed"}, Path("list.csv"))

    assert (ended.status, made["status"]) == ("succeeded", "completed")
    assert capsys.readouterr() == ("", "")


def test_who_has_read_enough_ends_a_command_without_a_word(stranger, monkeypatch, capsys):
    stranger.answer = (200, {}, json.dumps({"object": "list", "data": [JOB] * 20, "next_cursor": None}))
    reader, writer = os.pipe()
    os.close(reader)
    monkeypatch.setattr(sys, "argv", ["zimg", "jobs", "--url", stranger.url])
    with os.fdopen(writer, "w") as closed:
        monkeypatch.setattr(sys, "stdout", closed)
        with pytest.raises(SystemExit) as ended:
            main()

    assert ended.value.code == 141
    assert capsys.readouterr().err == ""
