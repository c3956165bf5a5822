"""Which finished pictures a submit would share, and how one is shared no more."""

from core.job import JobState
from core.scripts import Scripts
from tests.queue_kit import make_job


def finished(kit, *fingerprints, tenant="a"):
    answer = Scripts(kit.redis).run("finished", tenant, *fingerprints)
    return list(zip(answer[::2], answer[1::2], strict=True))


def forget(kit, *pairs, tenant="a"):
    return Scripts(kit.redis).run("forget_picture", tenant, *(value for pair in pairs for value in pair))


def test_only_a_picture_that_is_there_to_share_is_named(kit):
    done = kit.succeeded(fingerprint="done")
    removed = kit.succeeded(fingerprint="removed")
    kit.redis.hset(f"{{zimg}}:job:{removed}", "picture_removed", "1")
    kit.dead(fingerprint="dead")
    kit.submit(fingerprint="queued")

    named = finished(kit, "done", "removed", "dead", "queued", "unknown")

    assert named == [(done, kit.job(done).picture.key), ("", ""), ("", ""), ("", ""), ("", "")]
    assert finished(kit, "done", tenant="b") == [("", "")]


def test_after_its_picture_was_forgotten_the_next_job_draws_and_others_follow_it(kit):
    kit.succeeded(fingerprint="f")
    assert kit.submit(fingerprint="f").state is JobState.SUCCEEDED
    named = finished(kit, "f")[0][0]

    assert forget(kit, ("f", named)) == 1

    again = kit.submit(fingerprint="f")
    assert (again.state, again.leader) == (JobState.QUEUED, "")
    assert kit.submit(fingerprint="f").leader == again.job_id


def test_a_job_that_began_to_draw_meanwhile_is_not_forgotten(kit):
    done = kit.succeeded(fingerprint="f")
    forget(kit, ("f", done))
    drawing = kit.submit(fingerprint="f").job_id

    assert forget(kit, ("f", done)) == 0

    assert kit.submit(fingerprint="f").leader == drawing


def test_a_picture_is_forgotten_for_its_tenant_alone(kit):
    own = make_job(fingerprint="f")
    kit.succeeded(fingerprint="f")

    assert forget(kit, ("f", own.id), tenant="b") == 0
    assert finished(kit, "f")[0][0]
