"""One call of several pictures leads to one address, and that waits for all of them, as a single job's does."""

import threading

from tests.integration.api.conftest import eventually


def submit(http, count):
    """The address that a call of `count` pictures leads to, and the ids of its jobs."""
    made = http.post("/v1/jobs", json={"prompt": "a red mug", "size": "256x256", "n": count})
    return made.headers["Location"], [job["id"] for job in made.json["data"]]


def statuses(answer):
    return [job["status"] for job in answer.json["data"]]


def test_wait_holds_the_answer_until_the_last_of_them_has_ended(http, worker, parts):
    url, ids = submit(http, 3)
    first, *others = worker.claim()
    worker.finish(first)

    def finish_once_awaited():
        eventually(lambda: parts.long_waits.held("local"), seconds=10)
        for lease in others:
            worker.finish(lease)

    drawing = threading.Thread(target=finish_once_awaited)
    drawing.start()
    done = http.get(f"{url}&wait=15")
    drawing.join()

    assert statuses(done) == ["succeeded"] * 3
    assert [job["id"] for job in done.json["data"]] == ids
    assert parts.long_waits.held("local") == 0


def test_when_the_time_is_over_they_are_shown_as_they_stand(http, worker):
    url, _ = submit(http, 2)
    worker.finish(worker.claim()[0])

    told = http.get(url, headers={"Prefer": "wait=1"})

    assert sorted(statuses(told)) == ["running", "succeeded"]
    assert told.headers["Preference-Applied"] == "wait=1"


def test_what_has_ended_or_is_not_ones_own_is_not_waited_for_and_needs_no_place(http, worker, parts):
    url, ids = submit(http, 2)
    worker.draw_all()
    places = [parts.long_waits.enter(f"shop-{number}") for number in range(parts.settings.long_waits)]

    done = http.get(f"{url},{'0' * 32}&wait=60")
    for leave in places:
        leave()

    assert (done.status_code, statuses(done)) == (200, ["succeeded"] * 2)
    assert [job["id"] for job in done.json["data"]] == ids


def test_without_a_place_to_wait_it_is_refused_as_a_single_jobs_wait_is(http, worker, parts):
    url, _ = submit(http, 2)
    places = [parts.long_waits.enter(f"shop-{number}") for number in range(parts.settings.long_waits)]

    refused = http.get(f"{url}&wait=5")
    short = http.get(url)
    for leave in places:
        leave()

    assert (refused.status_code, refused.json["code"], refused.headers["Retry-After"]) == (503, "overloaded", "5")
    assert short.status_code == 200


def test_a_key_that_is_revoked_meanwhile_ends_the_wait_and_gets_nothing(keyed, worker, parts):
    key, shown = parts.tenants.create_key("shop")
    headers = {"Authorization": f"Bearer {key}"}
    made = keyed.post("/v1/jobs", json={"prompt": "a", "n": 2}, headers=headers)

    def revoke_and_draw():
        eventually(lambda: parts.long_waits.held("shop"), seconds=10)
        parts.tenants.revoke_key(shown.id)
        worker.draw_all()

    other = threading.Thread(target=revoke_and_draw)
    other.start()
    answer = keyed.get(f"{made.headers['Location']}&wait=30", headers=headers)
    other.join()

    assert answer.status_code == 401


def test_a_page_of_the_list_is_not_waited_for_and_the_answer_says_so(http, worker):
    submit(http, 2)

    page = http.get("/v1/jobs?wait=60")
    plain = http.get("/v1/jobs")

    assert (page.status_code, page.headers["X-Zimg-Ignored"]) == (200, "wait")
    assert statuses(page) == ["queued"] * 2
    assert "X-Zimg-Ignored" not in plain.headers
