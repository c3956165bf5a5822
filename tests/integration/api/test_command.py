"""The `zimg` command as a person uses it: a process, its two outputs, and its exit code."""

import csv
import io
import json
import os
import subprocess
import sys

import pytest
from PIL import Image

from tests.fixtures.redis import free_port
from tests.integration.api.conftest import ROOT, live_api


@pytest.fixture
def zimg(live, tmp_path):
    """Runs the command in an empty folder against the live api."""

    def run(*arguments, **environ):
        made = subprocess.run(
            [sys.executable, "-m", "client", *arguments],
            cwd=tmp_path,
            env={
                **os.environ,
                "PYTHONPATH": f"{ROOT}:{os.environ.get('PYTHONPATH', '')}",
                "ZIMG_URL": live.url,
                **environ,
            },
            capture_output=True,
            text=True,
            timeout=60,
            check=False,
        )
        return made.returncode, made.stdout, made.stderr

    return run


def test_gen_saves_the_picture_and_prints_where(zimg, worker, tmp_path):
    with worker.at_work():
        code, out, _ = zimg("gen", "a red mug", "--size", "512x256", "--seed", "7", "--out", "pictures")

    (path,) = (tmp_path / "pictures").glob("*.png")
    assert code == 0
    assert f"pictures/{path.name}" in out
    with Image.open(path) as picture:
        assert picture.size == (512, 256)


def test_gen_prints_json_on_stdout_and_nothing_else(zimg, worker):
    with worker.at_work():
        code, out, _ = zimg("gen", "a", "--size", "256x256", "-n", "2", "--json")

    made = json.loads(out)
    assert code == 0
    assert [job["status"] for job in made] == ["succeeded", "succeeded"]


def test_gen_without_waiting_prints_the_job(zimg, worker, parts):
    code, out, _ = zimg("gen", "a", "--no-wait", "--json")

    assert code == 0
    assert parts.jobs.get(json.loads(out)[0]["id"]) is not None


def test_a_refused_request_says_why_and_ends_with_3(zimg, worker):
    code, out, err = zimg("gen", "a", "--size", "17x5000")

    assert (code, out) == (3, "")
    assert "size" in err


def test_a_service_that_is_not_there_ends_with_4(zimg):
    code, _, err = zimg("jobs", ZIMG_URL=f"http://127.0.0.1:{free_port()}")

    assert code == 4
    assert "Is zimg running there?" in err


def test_jobs_and_cancel_show_one_line_each(zimg, worker):
    zimg("gen", "a", "--no-wait")
    _, listed, _ = zimg("jobs", "--status", "queued")
    job_id = listed.split("\t")[0]

    code, out, _ = zimg("cancel", job_id)

    assert code == 0
    assert out.split("\t")[:2] == [job_id, "canceled"]


def test_batch_writes_the_list_with_links_beside_it(zimg, worker, tmp_path):
    (tmp_path / "list.csv").write_text("sku,title\nA,Red mug\nB,Blue bowl\n")

    with worker.at_work():
        code, out, err = zimg("batch", "list.csv", "--size", "256x256", "--white", "{title} on white")

    rows = list(csv.DictReader(io.StringIO((tmp_path / "list-with-pictures.csv").read_text("utf-8-sig"))))
    assert code == 0, err
    assert out.strip() == "list-with-pictures.csv"
    assert [row["white_status"] for row in rows] == ["succeeded", "succeeded"]


def test_a_wrong_list_names_every_wrong_row(zimg, worker, tmp_path):
    (tmp_path / "list.csv").write_text("sku,title\nA,\n,mug\n")

    code, _, err = zimg("batch", "list.csv")

    assert code == 3
    assert "/rows/2/title" in err
    assert "/rows/3/sku" in err


def test_keys_are_made_listed_and_revoked(settings, parts, worker, zimg, tmp_path):
    with live_api(settings, tmp_path, ZIMG_HOST="0.0.0.0", ZIMG_ADMIN_KEY="the-operators-own-key") as api:
        environ = {"ZIMG_URL": api.url, "ZIMG_ADMIN_KEY": "the-operators-own-key"}
        _, key, _ = zimg("keys", "create", "shop", "--label", "till", **environ)
        used, _, _ = zimg("jobs", **environ, ZIMG_API_KEY=key.strip())
        _, listed, _ = zimg("keys", "list", **environ)
        zimg("keys", "revoke", listed.split("\t")[0], **environ)
        refused, _, _ = zimg("jobs", **environ, ZIMG_API_KEY=key.strip())

    assert key.startswith("zimg_")
    assert key.strip() not in listed
    assert (used, refused) == (0, 3)
