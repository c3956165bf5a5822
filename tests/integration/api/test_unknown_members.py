"""A member that an operator's route does not know is an error: a limit passed over would be missed too late."""

import pytest

ADMIN = {"Authorization": "Bearer the-operators-own-key"}


@pytest.mark.parametrize(
    ("method", "path", "body"),
    [
        ("post", "/v1/keys", {"tenant": "t1", "dayly_units": 3}),
        ("patch", "/v1/admin/tenants/t1", {"dayly_units": 3}),
        ("post", "/v1/admin/tenants/t1/ban", {"reason": "spam", "dayly_units": 3}),
        ("post", "/v1/admin/invites", {"uses": 1, "dayly_units": 3}),
    ],
)
def test_an_operator_is_told_of_a_member_that_is_not_known(keyed, method, path, body):
    answer = getattr(keyed, method)(path, json=body, headers=ADMIN)

    assert (answer.status_code, answer.json["code"]) == (400, "invalid_request")
    assert [error["pointer"] for error in answer.json["errors"]] == ["/dayly_units"]
    assert "dayly_units is not known here" in answer.json["errors"][0]["detail"]
    assert keyed.get("/v1/keys", headers=ADMIN).json["data"] == []
    assert keyed.get("/v1/admin/invites", headers=ADMIN).json["data"] == []


def test_a_picture_is_drawn_all_the_same_and_names_what_changed_nothing(http, worker):
    answer = http.post("/v1/jobs", json={"prompt": "a mug", "size": "256x256", "stile": "oil"})

    assert (answer.status_code, answer.headers["X-Zimg-Ignored"]) == (202, "stile")
