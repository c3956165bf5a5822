"""The command's two outputs where they are no terminal."""

import json
import os
import sys
from pathlib import Path

import pytest

from client.answers import ZimgProblem
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


ENDED = {"total": 4, "completed": 0, "failed": 0, "canceled": 0}


@pytest.mark.parametrize(
    ("status", "counts", "code", "said"),
    [
        ("completed", {"completed": 4}, 0, ""),
        ("completed", {"completed": 3, "failed": 1}, 1, "1 of 4 pictures were not drawn: 1 failed"),
        ("canceled", {"completed": 1, "canceled": 3}, 1, "3 of 4 pictures were not drawn: 0 failed, 3 were canceled"),
        ("incomplete", {"completed": 2}, 1, "broke off"),
    ],
)
def test_a_list_that_is_not_drawn_in_full_ends_with_1_and_says_why(
    stranger, monkeypatch, capsys, tmp_path, status, counts, code, said
):
    batch = {"id": "b", "name": "list.csv", "status": status, "request_counts": ENDED | counts}
    stranger.answer = (200, {}, json.dumps(batch))
    target = str(tmp_path / "drawn.csv")
    monkeypatch.setattr(sys, "argv", ["zimg", "batch", "--resume", "b", "-o", target, "--url", stranger.url])

    with pytest.raises(SystemExit) as ended:
        main()

    assert ended.value.code == code
    assert said in " ".join(capsys.readouterr().err.split())


def test_who_waits_for_a_list_that_was_deleted_is_not_told_that_it_goes_on(stranger, capsys):
    stranger.answer = (410, {}, json.dumps({"code": "gone", "detail": "The pictures of this list were deleted."}))
    with Zimg(stranger.url) as zimg, pytest.raises(ZimgProblem):
        watch_batch(zimg, BATCH, Path("list.csv"))

    assert capsys.readouterr().err == ""


def test_who_waits_for_a_service_that_answers_no_more_is_told_what_goes_on(stranger, capsys):
    stranger.answer = (503, {}, json.dumps({"code": "unavailable", "detail": "The api restarts."}))
    with Zimg(stranger.url) as zimg, pytest.raises(ZimgProblem):
        watch(zimg, [Job.of({**JOB, "status": "queued"})])

    assert f"zimg cancel {JOB['id']}" in " ".join(capsys.readouterr().err.split())
