"""Keys, sessions, and who may reach a service without them."""

from dataclasses import replace

import pytest

from api.app import create_app

ADMIN = {"Authorization": "Bearer the-operators-own-key"}
BODY = {"prompt": "a", "size": "256x256"}
OWNED_ROUTES = [
    ("POST", "/v1/jobs"),
    ("GET", "/v1/jobs"),
    ("GET", "/v1/models"),
    ("POST", "/v1/images/generations"),
    ("POST", "/v1/batches"),
    ("GET", "/v1/keys"),
    ("GET", "/v1/usage"),
]


def make_key(client, tenant="shop", **more):
    answer = client.post("/v1/keys", json={"tenant": tenant, **more}, headers=ADMIN)
    assert answer.status_code == 201, answer.text
    return {"Authorization": f"Bearer {answer.json['key']}"}, answer.json


def test_where_keys_are_required_nothing_works_without_one(keyed, worker):
    for method, path in OWNED_ROUTES:
        answer = keyed.open(path, method=method, json=BODY)

        assert (answer.status_code, answer.json["code"]) == (401, "invalid_api_key"), path
        assert answer.headers["WWW-Authenticate"].startswith("Bearer")
        assert answer.json["error"]["type"] == "authentication_error"


@pytest.mark.parametrize(
    "header", ["Bearer wrong", "Bearer ", "Basic dXNlcjpwYXNz", "Bearer zimg_" + "x" * 43, "zimg_abc"]
)
def test_a_wrong_key_is_refused_and_not_repeated(keyed, worker, header):
    answer = keyed.post("/v1/jobs", json=BODY, headers={"Authorization": header})

    assert answer.status_code == 401
    assert "xxxx" not in answer.text


def test_a_key_works_until_it_is_revoked_and_is_never_shown_again(keyed, worker):
    headers, made = make_key(keyed, label="till")

    used = keyed.post("/v1/jobs", json=BODY, headers=headers)
    listed = keyed.get("/v1/keys", headers=ADMIN)
    revoked = keyed.delete(f"/v1/keys/{made['id']}", headers=ADMIN)
    refused = keyed.get("/v1/jobs", headers=headers)

    assert used.status_code == 202
    assert made["key"].startswith("zimg_")
    assert made["key"] not in listed.text
    assert listed.json["data"][0]["hint"] == made["key"][-4:]
    assert (revoked.status_code, refused.status_code) == (204, 401)


def test_a_key_is_not_kept_in_redis(keyed, worker, valkey):
    _, made = make_key(keyed)

    held = b"".join(valkey.dump(key) or b"" for key in valkey.scan_iter("*"))

    assert made["key"].encode() not in held


def test_only_the_admin_key_makes_keys(keyed, worker):
    headers, _ = make_key(keyed)

    answer = keyed.post("/v1/keys", json={"tenant": "evil"}, headers=headers)

    assert (answer.status_code, answer.json["code"]) == (403, "forbidden")


@pytest.mark.parametrize("tenant", ["", "A B", "../x", "a|b", "x" * 100, "a\nb"])
def test_a_tenant_name_that_could_do_harm_is_refused(keyed, parts, tenant):
    answer = keyed.post("/v1/keys", json={"tenant": tenant}, headers=ADMIN)

    assert (answer.status_code, answer.json["field"]) == (400, "tenant")


def test_one_tenant_never_sees_anothers_jobs(keyed, worker):
    mine, _ = make_key(keyed, "mine")
    other, _ = make_key(keyed, "other")
    job = keyed.post("/v1/jobs", json=BODY, headers=mine).json

    for method, tail in [("GET", ""), ("DELETE", ""), ("POST", "/cancel"), ("GET", "/events")]:
        assert keyed.open(f"/v1/jobs/{job['id']}{tail}", method=method, headers=other).status_code == 404
    assert keyed.get(f"/v1/jobs?ids={job['id']}", headers=other).json["data"] == []
    assert keyed.get("/v1/jobs", headers=other).json["data"] == []
    assert keyed.get(f"/v1/jobs/{job['id']}", headers=mine).status_code == 200


def test_the_same_idempotency_key_of_two_tenants_makes_two_jobs(keyed, worker):
    jobs = [
        keyed.post("/v1/jobs", json=BODY, headers={**make_key(keyed, name)[0], "Idempotency-Key": "k"}).json["id"]
        for name in ("one", "two")
    ]

    assert len(set(jobs)) == 2


def test_the_page_exchanges_its_key_for_a_session_no_script_can_read(keyed, worker):
    _, made = make_key(keyed)

    answer = keyed.post("/v1/session", json={"key": made["key"]}, headers={"Origin": "http://localhost"})

    cookie = answer.headers["Set-Cookie"]
    assert "HttpOnly" in cookie
    assert "SameSite=Strict" in cookie
    assert made["key"] not in cookie
    assert keyed.get("/v1/session").json["tenant"] == "shop"
    assert keyed.post("/v1/jobs", json=BODY).status_code == 202


def test_a_session_ends_by_signing_out_and_when_its_key_is_revoked(keyed, worker):
    _, made = make_key(keyed)
    keyed.post("/v1/session", json={"key": made["key"]})
    token = keyed.get_cookie("zimg_session").value

    keyed.delete("/v1/session")
    keyed.set_cookie("zimg_session", token)
    after_sign_out = keyed.get("/v1/jobs").status_code
    keyed.post("/v1/session", json={"key": made["key"]})
    keyed.delete(f"/v1/keys/{made['id']}", headers=ADMIN)
    after_revocation = keyed.get("/v1/jobs").status_code

    assert (after_sign_out, after_revocation) == (401, 401)


def test_a_session_of_another_sites_page_is_refused(keyed, worker):
    _, made = make_key(keyed)
    keyed.post("/v1/session", json={"key": made["key"]})

    for headers in ({"Origin": "https://evil.example"}, {"Origin": "null"}, {"Sec-Fetch-Site": "cross-site"}):
        answer = keyed.post("/v1/jobs", json=BODY, headers=headers)
        assert (answer.status_code, answer.json["code"]) == (403, "forbidden")


def test_signing_in_with_a_wrong_key_is_refused(keyed, parts):
    assert keyed.post("/v1/session", json={"key": "zimg_nope"}).status_code == 401
    assert keyed.get("/v1/session").json == {
        "object": "session", "signed_in": False, "tenant": None, "admin": False, "key_required": True
    }  # fmt: skip


@pytest.mark.parametrize("host", ["localhost", "localhost:8080", "127.0.0.1:8080", "[::1]:8080"])
def test_without_keys_the_machine_itself_is_served(http, worker, host):
    assert http.post("/v1/jobs", json=BODY, headers={"Host": host}).status_code == 202


@pytest.mark.parametrize(
    "host", ["evil.example", "127.0.0.1.evil.example", "localhost.evil.example:8080", "10.0.0.5", "0.0.0.0"]
)
def test_without_keys_a_rebound_name_is_refused(http, worker, host):
    answer = http.get("/v1/jobs", headers={"Host": host})

    assert (answer.status_code, answer.json["code"]) == (403, "forbidden")


@pytest.mark.parametrize(
    "origin", ["https://evil.example", "null", "http://localhost.evil.example", "http://127.0.0.1:1"]
)
def test_without_keys_no_other_page_can_draw(http, worker, origin):
    answer = http.post("/v1/jobs", json=BODY, headers={"Origin": origin})

    assert answer.status_code == 403
    assert "Access-Control-Allow-Origin" not in answer.headers
    assert http.get("/v1/jobs").json["data"] == []


def test_without_keys_a_placeholder_is_taken_but_a_key_of_ours_must_be_real(http, worker):
    assert http.post("/v1/jobs", json=BODY, headers={"Authorization": "Bearer none"}).status_code == 202
    assert http.post("/v1/jobs", json=BODY, headers={"Authorization": "Bearer zimg_revoked"}).status_code == 401


def test_a_page_of_another_origin_is_told_that_its_key_is_unknown_not_that_it_sent_none(parts, worker):
    settings = replace(parts.settings, cors_origins=("null",))
    client = create_app(replace(parts, settings=settings)).test_client()

    wrong = client.get("/v1/jobs", headers={"Origin": "null", "Authorization": "Bearer mistyped"})
    none = client.get("/v1/jobs", headers={"Origin": "null"})

    assert (wrong.status_code, wrong.json["code"]) == (401, "invalid_api_key")
    assert "key is not known here" in wrong.json["detail"]
    assert wrong.headers["Access-Control-Allow-Origin"] == "null"
    assert none.status_code == 403


def test_the_first_key_closes_the_open_door(http, worker, parts):
    before = http.get("/v1/jobs").status_code
    key, _ = parts.tenants.create_key("shop")

    assert before == 200
    assert http.get("/v1/jobs").status_code == 401
    assert http.get("/v1/jobs", headers={"Authorization": f"Bearer {key}"}).status_code == 200


def test_configured_origins_may_use_the_api_with_a_key_even_null(parts, worker):
    settings = replace(parts.settings, host="0.0.0.0", admin_key="the-operators-own-key", cors_origins=("null",))
    client = create_app(replace(parts, settings=settings)).test_client()
    headers, _ = make_key(client)

    preflight = client.options(
        "/v1/jobs",
        headers={
            "Origin": "null",
            "Access-Control-Request-Method": "POST",
            "Access-Control-Request-Headers": "authorization,content-type,idempotency-key",
        },
    )
    drawn = client.post("/v1/jobs", json=BODY, headers={**headers, "Origin": "null"})

    assert preflight.status_code == 200
    assert preflight.headers["Access-Control-Allow-Origin"] == "null"
    assert "authorization" in preflight.headers["Access-Control-Allow-Headers"].lower()
    assert drawn.status_code == 202
    assert drawn.headers["Access-Control-Allow-Origin"] == "null"
    assert "Retry-After" in drawn.headers["Access-Control-Expose-Headers"]


@pytest.mark.parametrize(
    ("path", "detail"),
    [
        ("/v1/jobs/of-the-wrong-length", "There is no job with this id."),
        ("/v1/picture", "There is nothing at this address; /docs lists what there is."),
    ],
)
def test_a_page_of_a_configured_origin_can_read_that_there_is_nothing_at_an_address(parts, worker, path, detail):
    settings = replace(parts.settings, cors_origins=("null",))
    client = create_app(replace(parts, settings=settings)).test_client()

    preflight, known = (
        client.options(
            one,
            headers={
                "Origin": "null",
                "Access-Control-Request-Method": "GET",
                "Access-Control-Request-Headers": "authorization",
            },
        )
        for one in (path, "/v1/jobs")
    )
    answer = client.get(path, headers={"Origin": "null"})

    assert (preflight.status_code, preflight.data) == (known.status_code, known.data) == (200, b"")
    allowed = [name for name in known.headers.keys() if name.startswith("Access-Control-")]  # noqa: SIM118
    assert len(allowed) >= 4
    assert [preflight.headers[name] for name in allowed] == [known.headers[name] for name in allowed]
    assert (answer.status_code, answer.json["code"]) == (404, "not_found")
    assert answer.json["detail"].startswith(detail)
    assert answer.headers["Access-Control-Allow-Origin"] == "null"


@pytest.mark.parametrize(
    ("path", "sent", "status"),
    [
        ("/v1/picture", {"Origin": "https://evil.example", "Access-Control-Request-Method": "GET"}, 200),
        ("/v1/picture", {"Origin": "https://evil.example"}, 404),
        ("/nothing", {"Origin": "null", "Access-Control-Request-Method": "GET"}, 404),
    ],
)
def test_what_no_configured_page_asks_of_an_unknown_address_allows_nothing(parts, worker, path, sent, status):
    settings = replace(parts.settings, cors_origins=("null",))
    client = create_app(replace(parts, settings=settings)).test_client()

    answer = client.options(path, headers=sent)

    assert answer.status_code == status
    assert "Access-Control-Allow-Origin" not in answer.headers


def test_a_service_without_an_admin_key_says_how_one_is_set(http, worker):
    answer = http.get("/v1/keys").json

    assert "started without an admin key" in answer["detail"]
    assert "ZIMG_ADMIN_KEY=" in answer["detail"]


@pytest.mark.parametrize(("language", "words"), [("en", "This needs an admin key"), ("zh", "管理员密钥")])
def test_a_service_that_made_an_admin_key_at_its_first_start_names_the_file_and_not_the_key(
    parts, worker, tmp_path, language, words
):
    (tmp_path / "admin.key").write_text("zimg_thekeyitself")
    client = create_app(replace(parts, settings=replace(parts.settings, data_dir=tmp_path))).test_client()

    answer = client.get("/v1/keys", headers={"Accept-Language": language})

    assert (answer.status_code, words in answer.json["detail"]) == (401, True)
    assert "`admin.key`" in answer.json["detail"]
    assert "thekeyitself" not in answer.text
    assert str(tmp_path) not in answer.text


#: What openai-node 6 sends from a page.
OPENAI_IN_A_BROWSER = (
    "authorization, content-type, openai-organization, openai-project, user-agent, x-stainless-arch, x-stainless-lang, "
    "x-stainless-os, x-stainless-package-version, x-stainless-retry-count, x-stainless-runtime, "
    "x-stainless-runtime-version, x-stainless-timeout"
)


def test_openais_own_client_may_call_from_a_page_of_a_configured_origin(parts, worker):
    settings = replace(parts.settings, cors_origins=("null",))
    client = create_app(replace(parts, settings=settings)).test_client()

    answer = client.options(
        "/v1/images/generations",
        headers={
            "Origin": "null",
            "Access-Control-Request-Method": "POST",
            "Access-Control-Request-Headers": OPENAI_IN_A_BROWSER,
        },
    )

    assert set(answer.headers["Access-Control-Allow-Headers"].split(", ")) == set(OPENAI_IN_A_BROWSER.split(", "))
    assert "x-should-retry" in answer.headers["Access-Control-Expose-Headers"]


def test_a_header_cannot_be_smuggled_through_a_request_id(http, parts):
    for sent in ("a b", "x" * 100, "<script>", "ü"):
        assert http.get("/healthz", headers={"X-Request-Id": sent}).headers["X-Request-Id"].startswith("req_")
    assert http.get("/healthz", headers={"X-Request-Id": "from-nginx.1"}).headers["X-Request-Id"] == "from-nginx.1"
