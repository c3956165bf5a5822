"""What `zimg` reads and writes: a place that can not be written is told before anything is drawn."""

import json

import httpx
import pytest

from tests.integration.api.conftest import ended, eventually

PNG = b"\x89PNG"


@pytest.fixture
def zimg(command):
    """Starts the command in an empty folder against the live api; its process."""
    return command


@pytest.fixture
def folder(tmp_path):
    (tmp_path / "afile").write_text("mine")
    (tmp_path / "list.csv").write_text("sku,title\nA,Red mug\n")
    return tmp_path


@pytest.mark.parametrize(
    "arguments",
    [
        ("gen", "a", "-o", "/proc/nope/x.png"),
        ("gen", "a", "-o", "/proc/nope"),
        ("gen", "a", "-o", "afile"),
        ("gen", "a", "-o", "afile/x.png"),
        ("gen", "a", "-n", "2", "-o", "afile/x.png"),
        ("gen", "a", "-o", f"{'x' * 300}.png"),
        ("batch", "list.csv", "-o", "/proc/x/y.csv"),
        ("batch", "list.csv", "-o", "afile/y.csv"),
    ],
)
def test_a_place_that_can_not_be_written_is_told_before_anything_is_drawn(zimg, worker, parts, folder, arguments):
    code, out, err = ended(zimg(*arguments, COLUMNS="400"))

    assert (code, out) == (2, "")
    assert "Traceback" not in err
    assert arguments[-1].removesuffix(".png") in err
    assert parts.jobs.list_jobs("local") == []
    assert sorted(path.name for path in folder.iterdir()) == ["afile", "list.csv"]


def test_a_refused_request_leaves_no_folder_and_no_file(zimg, worker, folder):
    for target in ("new/deep/x.png", "new/pictures", "x.png"):
        assert ended(zimg("gen", "a", "--size", "17x5000", "-o", target))[0] == 3

    assert sorted(path.name for path in folder.iterdir()) == ["afile", "list.csv"]


def block(folder, parts):
    """The folder of the result is a file by the time that the result comes; the jobs."""
    jobs = eventually(lambda: parts.jobs.list_jobs("local"))
    (folder / "later").write_text("in the way")
    return jobs


def test_a_picture_that_can_not_be_saved_in_the_end_is_told_with_its_id_and_its_address(zimg, worker, parts, folder):
    process = zimg("gen", "a", "--size", "256x256", "-o", "later/x.png")
    (job,) = block(folder, parts)
    worker.draw_all()

    code, out, err = ended(process)

    assert (code, "Traceback" in err) == (1, False)
    assert job.id in err
    address = err.split(" is at ")[1].strip()
    assert address in out
    assert httpx.get(address, timeout=20).content.startswith(PNG)


def test_a_list_that_can_not_be_saved_in_the_end_is_told_with_its_id_and_its_address(zimg, worker, parts, folder):
    process = zimg("batch", "list.csv", "--size", "256x256", "-o", "later/y.csv")
    jobs = block(folder, parts)
    with worker.at_work():
        code, _, err = ended(process)

    assert (code, "Traceback" in err) == (1, False)
    assert jobs[0].batch_id in err
    address = err.split(" is at ")[1].strip()
    assert b"succeeded" in httpx.get(address, timeout=20).content


def test_a_minus_reads_the_list_from_standard_input(zimg, worker, folder):
    with worker.at_work():
        code, out, err = ended(zimg("batch", "-", "--size", "256x256"), b"sku,title\nA,Red mug\n")
    nothing, _, told = ended(zimg("batch", "-"))

    assert (code, out.strip()) == (0, "products-with-pictures.csv"), err
    assert len((folder / "products-with-pictures.csv").read_text("utf-8-sig").splitlines()) == 2
    assert (nothing, "nothing came from standard input" in told) == (2, True)


def test_a_batch_is_waited_for_again_and_not_drawn_again(zimg, worker, parts, folder):
    _, made, _ = ended(zimg("batch", "list.csv", "--size", "256x256", "--no-wait"))
    with worker.at_work():
        code, out, err = ended(zimg("batch", "--resume", made.strip()))

    assert (code, out.strip()) == (0, "list-with-pictures.csv"), err
    assert len((folder / "list-with-pictures.csv").read_text("utf-8-sig").splitlines()) == 2
    assert len(parts.jobs.list_jobs("local")) == 2


@pytest.mark.parametrize("arguments", [(), ("list.csv", "--resume", "b"), ("--resume", "b", "--size", "256x256")])
def test_a_batch_is_either_new_or_goes_on(zimg, folder, arguments):
    code, _, err = ended(zimg("batch", *arguments))

    assert (code, "--resume" in err) == (2, True)


@pytest.mark.parametrize("data", ["一只红色的杯子\n".encode(), b"\xef\xbb\xbf" + "一只红色的杯子".encode()])
def test_a_minus_reads_the_prompt_from_standard_input(zimg, worker, parts, data):
    code, _, err = ended(zimg("gen", "-", "--no-wait"), data)

    assert code == 0, err
    assert [job.request.prompt for job in parts.jobs.list_jobs("local")] == ["一只红色的杯子"]


@pytest.mark.parametrize(
    ("data", "said"), [(b"", "nothing came"), (b" \n", "nothing came"), (b"\xff\xfe", "not UTF-8")]
)
def test_a_standard_input_without_a_prompt_is_told(zimg, worker, parts, data, said):
    code, out, err = ended(zimg("gen", "-"), data)

    assert (code, out, parts.jobs.list_jobs("local")) == (2, "", [])
    assert said in err


def test_how_long_a_picture_is_kept_is_asked_for(zimg, worker, parts):
    code, out, _ = ended(zimg("gen", "a", "--size", "256x256", "--no-wait", "--json", "--expires-in", "3600"))
    refused, _, _ = ended(zimg("gen", "a", "--no-wait", "--expires-in", "5"))

    assert (code, refused) == (0, 2)
    assert parts.jobs.get(json.loads(out)[0]["id"]).retention_seconds == 3600


def test_messages_of_the_service_come_in_the_terminals_language(zimg, worker):
    chinese = ended(zimg("gen", "a", "--size", "17x5000", LC_ALL="", LANG="zh_CN.UTF-8", PYTHONUTF8="1"))
    english = ended(zimg("gen", "a", "--size", "17x5000", LC_ALL="", LANG="en_US.UTF-8", PYTHONUTF8="1"))

    assert (chinese[0], english[0]) == (3, 3)
    assert "须" in chinese[2]
    assert "must" in english[2]
