"""Without a key on the service's own machine: the command names the file that holds the first admin key."""

import json
from pathlib import Path

import pytest
from typer.testing import CliRunner

from client.command import app
from client.first_key import find_first_key, own_name

ROOT = Path(__file__).parents[3]
KEY = "zimg_thekeyitself"
REFUSAL = json.dumps({"status": 401, "code": "unauthenticated", "detail": "This needs an admin key."})


@pytest.fixture
def refusing(stranger, tmp_path, monkeypatch):
    """A service of this machine that wants a key; the command runs in the folder that it was started in."""
    for name in ("ZIMG_ADMIN_KEY", "ZIMG_API_KEY", "ZIMG_DATA_DIR"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.chdir(tmp_path)
    stranger.answer = (401, {"Content-Type": "application/problem+json"}, REFUSAL)
    return stranger


def put_key(folder):
    folder.mkdir()
    (folder / "admin.key").write_text(KEY)


def said(*words, **environ):
    return " ".join(CliRunner().invoke(app, words, env={"NO_COLOR": "1", **environ}).output.split())


def test_the_file_is_named_with_how_to_use_it_and_the_key_is_not_read_out(refusing, tmp_path):
    put_key(tmp_path / "data")

    told = said("keys", "create", "team1", "--url", refusing.url)

    assert "This needs an admin key." in told
    assert f"ZIMG_ADMIN_KEY=$(cat data/admin.key) {ROOT}/zimg keys create team1 --url {refusing.url}" in told
    assert KEY not in told


def test_the_data_folder_is_the_one_that_the_service_was_given(refusing, tmp_path):
    put_key(tmp_path / "my data")

    told = said("keys", "list", "--url", refusing.url, ZIMG_DATA_DIR=str(tmp_path / "my data"))

    assert f"ZIMG_ADMIN_KEY=$(cat '{tmp_path}/my data/admin.key')" in told


def test_who_sent_a_key_is_not_told_of_the_file(refusing, tmp_path):
    put_key(tmp_path / "data")

    told = said("keys", "list", "--url", refusing.url, "--admin-key", "zimg_another")

    assert "admin.key" not in told


def test_where_no_such_file_lies_nothing_is_said_of_one(refusing):
    assert "admin.key" not in said("keys", "list", "--url", refusing.url)


def test_from_another_folder_the_one_beside_the_command_is_found(tmp_path, monkeypatch):
    put_key(tmp_path / "data")
    (tmp_path / "elsewhere").mkdir()
    monkeypatch.chdir(tmp_path / "elsewhere")

    assert find_first_key("http://127.0.0.1:8080", {}, beside=tmp_path) == tmp_path / "data" / "admin.key"


def test_in_the_clone_itself_the_command_is_called_by_its_short_name(monkeypatch):
    monkeypatch.chdir(ROOT)

    assert own_name() == "./zimg"


def test_for_a_service_on_another_machine_no_file_of_this_one_is_named(tmp_path):
    put_key(tmp_path / "data")

    assert find_first_key("https://pictures.example", {"ZIMG_DATA_DIR": str(tmp_path / "data")}) is None
