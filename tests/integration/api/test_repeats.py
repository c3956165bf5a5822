"""What is sent twice: by an Idempotency-Key, a double click; and what only looks like it."""


def test_the_same_idempotency_key_and_body_gives_the_same_job(http, worker):
    headers = {"Idempotency-Key": "order-17"}
    first = http.post("/v1/jobs", json={"prompt": "a", "n": 2}, headers=headers)
    again = http.post("/v1/jobs", json={"n": 2, "prompt": "a"}, headers=headers)
    other = http.post("/v1/jobs", json={"prompt": "b", "n": 2}, headers=headers)

    assert [job["id"] for job in first.json["data"]] == [job["id"] for job in again.json["data"]]
    assert "Idempotency-Replayed" not in first.headers
    assert again.headers["Idempotency-Replayed"] == "true"
    assert (other.status_code, other.json["code"]) == (422, "idempotency_key_reuse")
    assert len(http.get("/v1/jobs").json["data"]) == 2


def test_a_key_is_free_again_after_a_refused_request(http, worker):
    headers = {"Idempotency-Key": "order-18"}

    refused = http.post("/v1/jobs", json={"prompt": ""}, headers=headers)
    taken = http.post("/v1/jobs", json={"prompt": "a"}, headers=headers)

    assert (refused.status_code, taken.status_code) == (400, 202)


def test_a_double_click_gets_the_same_job_with_or_without_a_seed(http, worker):
    body = {"prompt": "a red mug", "size": "256x256"}

    clicks = [http.post("/v1/jobs", json=body) for _ in range(2)]
    seeded = [http.post("/v1/jobs", json={**body, "seed": 7, "n": 2}).json["data"] for _ in range(2)]

    assert clicks[0].json["id"] == clicks[1].json["id"]
    assert "Idempotency-Replayed" not in clicks[0].headers
    assert clicks[1].headers["Idempotency-Replayed"] == "true"
    assert [job["id"] for job in seeded[0]] == [job["id"] for job in seeded[1]]
    assert len(http.get("/v1/jobs").json["data"]) == 3


def let_two_seconds_pass(valkey):
    (kept,) = valkey.scan_iter("*repeat:*")
    at, job_id = valkey.get(kept).split("|")
    valkey.set(kept, f"{int(at) - 2_001}|{job_id}")


def test_a_click_two_seconds_later_draws_anew(http, worker, valkey):
    body = {"prompt": "a red mug", "size": "256x256"}
    first = http.post("/v1/jobs", json=body).json
    let_two_seconds_pass(valkey)

    second = http.post("/v1/jobs", json=body).json

    assert first["id"] != second["id"]
    assert first["seed"] != second["seed"]


def test_what_differs_is_no_double_click(http, keyed, worker, parts):
    body = {"prompt": "a red mug", "size": "256x256"}
    own = [{"Idempotency-Key": name} for name in ("go-1", "go-2")]

    jobs = [http.post("/v1/jobs", json=body).json["id"], http.post("/v1/jobs", json={**body, "n": 1}).json["id"]]
    jobs += [http.post("/v1/jobs", json=body, headers=headers).json["id"] for headers in own]
    jobs += [
        keyed.post(
            "/v1/jobs", json=body, headers={"Authorization": f"Bearer {parts.tenants.create_key(name)[0]}"}
        ).json["id"]
        for name in ("one", "two")
    ]

    assert len(set(jobs)) == 6


def test_a_job_says_its_priority_its_fingerprint_and_whose_work_it_shares(http, worker):
    first = http.post("/v1/jobs", json={"prompt": "a", "seed": 7, "priority": "high"}).json
    same = http.post("/v1/jobs", json={"prompt": "a", "seed": 7, "priority": "low"}).json
    fresh = http.post("/v1/jobs", json={"prompt": "a"}).json

    assert [job["priority"] for job in (first, same, fresh)] == ["high", "low", "normal"]
    assert first["fingerprint"].startswith("fp1:")
    assert [same["fingerprint"], fresh["fingerprint"]] == [first["fingerprint"], None]
    assert (first["dedup"], same["dedup"]) == ({"hit": False, "of": None}, {"hit": True, "of": first["id"]})


def test_a_hit_costs_nothing_and_both_routes_say_so_in_a_header(http, worker):
    first = http.post("/v1/jobs", json={"prompt": "a", "seed": 7})
    worker.draw_all()

    again = http.post("/v1/jobs", json={"prompt": "a", "seed": 7, "priority": "low"})  # no double click
    drawn = http.post("/v1/images/generations", json={"prompt": "a", "seed": 7})

    assert "X-Zimg-Dedup-Of" not in first.headers
    assert again.headers["X-Zimg-Dedup-Of"] == first.json["id"]
    assert drawn.headers["X-Zimg-Dedup-Of"] in (first.json["id"], again.json["id"])
    assert http.get("/v1/usage").json["daily_used"] == 1


def test_who_draws_in_the_place_of_a_canceled_leader_is_no_hit(http, worker):
    first = http.post("/v1/jobs", json={"prompt": "a", "seed": 7}).json["id"]
    follower = http.post("/v1/jobs", json={"prompt": "a", "seed": 7, "priority": "low"})
    assert follower.headers["X-Zimg-Dedup-Of"] == first
    http.post(f"/v1/jobs/{first}/cancel")

    with worker.at_work():
        told = http.get(f"/v1/jobs/{follower.json['id']}?wait=30").json
        other = http.post("/v1/images/generations", json={"prompt": "b", "seed": 8})

    assert told["dedup"] == {"hit": False, "of": None}
    assert "X-Zimg-Dedup-Of" not in other.headers
    assert http.get("/v1/usage").json["daily_used"] == 2
