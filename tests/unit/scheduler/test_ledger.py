"""The ledger leaves Redis whole, day by day, and an export that broke off goes on where it ended."""

import csv
import io
import json
import sys
from datetime import UTC, datetime

import pytest

import scheduler.ledger
from core.redis_client import PREFIX
from scheduler.ledger import Ledger, export, main
from tests.queue_kit import Kit

MIDNIGHT = int(datetime(2026, 11, 28, tzinfo=UTC).timestamp() * 1000)


@pytest.fixture
def kit(fake_redis):
    return Kit(fake_redis)


@pytest.fixture
def ledger(fake_redis, monkeypatch):
    """Entries of three days, more than a page, one of a key with limits of its own."""
    monkeypatch.setattr(scheduler.ledger, "PAGE", 2)
    for number, at in enumerate((MIDNIGHT - 1, MIDNIGHT, MIDNIGHT + 5, MIDNIGHT + 86_399_999, MIDNIGHT + 86_400_000)):
        add(fake_redis, at, number)
    return Ledger(fake_redis)


def add(client, at, number):
    entry = {"job": f"j{number}", "tenant": "a", "kind": "charge", "cost": number, "day": "20261128"}
    client.xadd(f"{PREFIX}ledger", {**entry, **({"key": "k1"} if number == 2 else {})}, id=f"{at}-0")


@pytest.fixture
def run(ledger, fake_redis, monkeypatch):
    """The command; its exit status."""
    monkeypatch.setattr(scheduler.ledger, "connect", lambda _url: fake_redis)

    def run(*arguments):
        monkeypatch.setattr(sys, "argv", ["ledger", "export", *map(str, arguments)])
        return main()

    return run


def jobs_in(text):
    return [json.loads(line)["job"] for line in text.splitlines()]


def test_all_entries_come_out_as_json_lines(ledger):
    out = io.StringIO()

    assert export(ledger, out) == 5

    assert json.loads(out.getvalue().splitlines()[2]) == {
        "entry": f"{MIDNIGHT + 5}-0",
        "ended": "2026-11-28T00:00:00.005Z",
        "job": "j2",
        "tenant": "a",
        "kind": "charge",
        "cost": 2,
        "day": "20261128",
        "key": "k1",
    }


def test_a_day_is_from_midnight_to_midnight(ledger):
    out = io.StringIO()

    export(ledger, out, day="2026-11-28")

    assert jobs_in(out.getvalue()) == ["j1", "j2", "j3"]


def test_a_table_has_the_same(ledger):
    out = io.StringIO()

    export(ledger, out, form="csv", after=f"{MIDNIGHT}-0", day="2026-11-28")

    rows = list(csv.DictReader(io.StringIO(out.getvalue())))
    assert [(row["job"], row["cost"], row["key"]) for row in rows] == [("j2", "2", "k1"), ("j3", "3", "")]


def test_without_a_file_it_goes_to_standard_output(run, capsys):
    assert run("--day", "2026-11-28", "--after", f"{MIDNIGHT}-0") == 0

    told = capsys.readouterr()
    assert (jobs_in(told.out), told.err) == (["j2", "j3"], "2 entries\n")


@pytest.mark.parametrize("form", ["jsonl", "csv"])
def test_a_file_goes_on_where_it_ends_and_nothing_comes_twice(run, fake_redis, tmp_path, form):
    path = tmp_path / "ledger"
    assert run("--format", form, "--output", path) == 0
    assert run("--format", form, "--output", path) == 0
    add(fake_redis, MIDNIGHT + 86_400_001, 5)

    assert run("--format", form, "--output", path) == 0

    text = path.read_text()
    jobs = jobs_in(text) if form == "jsonl" else [row["job"] for row in csv.DictReader(io.StringIO(text))]
    assert jobs == ["j0", "j1", "j2", "j3", "j4", "j5"]


@pytest.mark.parametrize("form", ["jsonl", "csv"])
@pytest.mark.parametrize("kept", [1, 30, 150, 260, 300])
def test_a_file_that_broke_off_in_the_middle_of_a_line_becomes_whole(run, tmp_path, form, kept):
    whole, broken = tmp_path / "whole", tmp_path / "broken"
    run("--format", form, "--output", whole)
    broken.write_bytes(whole.read_bytes()[:kept])

    assert run("--format", form, "--output", broken) == 0

    assert broken.read_text() == whole.read_text()


def test_a_file_of_one_day_after_another_is_the_whole(run, tmp_path):
    path = tmp_path / "days"
    for day in ("2026-11-27", "2026-11-28", "2026-11-29"):
        run("--day", day, "--output", path)

    assert jobs_in(path.read_text()) == ["j0", "j1", "j2", "j3", "j4"]


@pytest.mark.parametrize("text", ["my notes\n", "my notes", '{"entry": "1-0", "cost": 1}\n'])
def test_a_file_that_is_no_such_export_is_left_alone(run, tmp_path, capsys, text):
    path = tmp_path / "notes"
    path.write_text(text)

    assert run("--format", "csv", "--output", path) == 1

    assert path.read_text() == text
    assert "is no export as csv" in capsys.readouterr().err


def test_a_day_that_is_none_is_wrong_usage(run):
    with pytest.raises(SystemExit) as ended:
        run("--day", "tomorrow")

    assert ended.value.code == 2


def test_what_is_trimmed_was_exported(kit, run, tmp_path):
    path = tmp_path / "ledger"
    run("--output", path)

    Ledger(kit.redis).trim(45)

    assert len(jobs_in(path.read_text())) == 5
