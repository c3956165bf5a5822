"""The operator's page in a real browser, on the service's own state."""

from dataclasses import replace
from datetime import UTC, datetime

import pytest
from playwright.sync_api import expect

from core.job import Progress
from core.redis_client import PREFIX
from core.webhook_store import Attempt, Endpoint
from core.workers import WorkerInfo
from scheduler.submission import Wish
from scheduler.tenants import hash_key
from scheduler.traffic import Flow, Kind, Traffic

OPERATOR = "the-operators-own-key"
SHOP = "shop"
DAY_MS = 86_400_000


def queue(parts, count=1, prompt="a red mug", tenant=SHOP):
    wish = Wish(prompt=prompt, width=256, height=256)
    return [one.job_id for one in parts.submission.submit_pictures(parts.tenants.get(tenant), wish, count)]


def enter(page, api):
    page.goto(f"{api.url}/admin")
    page.fill("#admin-key", OPERATOR)
    page.press("#admin-key", "Enter")
    expect(page.locator("#alive")).to_have_text("live")


@pytest.fixture
def admin(page, inviting_api, parts, worker, complaints):
    enter(page, inviting_api)
    yield page
    assert complaints.lines == []


def tile(page, name):
    return page.locator(".tile", has_text=name).locator("strong")


def test_a_wrong_key_opens_nothing_and_a_right_one_stays_in_this_tab_alone(page, inviting_api, parts, worker):
    page.goto(f"{inviting_api.url}/admin")
    page.fill("#admin-key", "zimg_wrong")
    page.press("#admin-key", "Enter")
    expect(page.locator("#gate-error")).to_contain_text("not known")
    expect(page.locator("#content")).to_be_hidden()

    enter(page, inviting_api)
    page.reload()
    expect(page.locator("#content")).to_be_visible()
    other = page.context.new_page()
    other.goto(f"{inviting_api.url}/admin")
    expect(other.locator("#gate")).to_be_visible()
    assert page.evaluate("() => [document.cookie, JSON.stringify(localStorage).includes('operators')]") == ["", False]
    page.get_by_role("button", name="Sign out").click()
    expect(page.locator("#gate")).to_be_visible()


def test_queue_and_workers_are_live(admin, parts, worker):
    queue(parts, 3)
    expect(admin.locator("#tenant-queues tr")).to_contain_text([SHOP])
    expect(tile(admin, "Waiting")).to_have_text("3")

    lease = worker.claim()[0]
    worker.step(lease, 2)
    gauges = {"gpu_memory_used_bytes": 5.5 * 2**30, "gpu_memory_total_bytes": 8 * 2**30}
    parts.jobs.heartbeat(WorkerInfo(name=worker.name, slots=8, device="cuda:0", plan="ring 2 x 0.32", gauges=gauges))

    card = admin.locator(".worker")
    expect(card).to_contain_text("5.5 GiB / 8.0 GiB")
    expect(card).to_contain_text("Step 2 of 4")
    expect(card).to_contain_text("1 of 8 seats, 2 next")
    card.get_by_text("Memory plan").click()
    expect(card.locator("pre")).to_have_text("ring 2 x 0.32")
    worker.step(lease, 3)
    expect(card).to_contain_text("Step 3 of 4")
    expect(card.locator("pre")).to_be_visible()


def test_jobs_that_no_worker_has_taken_up_yet_are_named_beside_those_that_wait(admin, parts, worker):
    worker.alive(slots=4)
    queue(parts, 3)
    parts.jobs.release(2)

    expect(tile(admin, "Waiting")).to_have_text("1")
    expect(admin.locator(".tile", has_text="Waiting")).to_contain_text("and 2 on their way to a worker")


def test_seats_are_those_of_jobs_that_ride_and_others_are_named_beside_them(admin, parts, worker):
    queue(parts, 7)
    leases = worker.claim()
    worker.alive(slots=4)
    for lease in leases[:4]:
        worker.step(lease, 2)
    worker.store.report_progress(leases[4].job_id, leases[4].token, Progress(stage="upload", step=4, steps=4))

    expect(admin.locator(".worker")).to_contain_text("4 of 4 seats, 2 next, 1 saving")
    expect(admin.locator(".held li").last).to_contain_text("Saving")
    expect(tile(admin, "Drawing")).to_have_text("4")
    expect(admin.locator(".tile", has_text="Drawing")).to_contain_text("4 seats, 2 next")
    worker.alive(slots=2)  # riders beyond the seats have stepped aside for others
    expect(admin.locator(".worker")).to_contain_text("2 of 2 seats, 2 stepped aside, 2 next, 1 saving")


def test_the_pace_is_that_of_a_picture_of_the_usual_size(admin, parts, worker):
    parts.redis.hset(f"{PREFIX}pace", mapping={"run_ms": "7600", "gap_ms": "1900"})

    expect(tile(admin, "Pace when busy")).to_have_text("1.9 s")
    expect(admin.locator(".tile", has_text="Pace when busy")).to_contain_text("per 1024 × 1024")


def test_a_lane_is_paused_and_resumed_by_keyboard_and_the_focus_stays(admin, parts, worker):
    queue(parts)
    admin.get_by_role("button", name="Pause Interactive").focus()
    admin.keyboard.press("Enter")
    expect(admin.locator("#toast")).to_contain_text("Interactive is paused")
    assert worker.claim() == []
    expect(admin.get_by_role("button", name="Resume Interactive")).to_be_focused()

    admin.keyboard.press("Enter")

    expect(admin.locator("#lanes tr").first).to_contain_text("open")
    assert len(worker.claim()) == 1


def test_a_drained_tenant_without_jobs_stays_in_sight_and_can_be_resumed(admin, parts, worker):
    Traffic(parts.jobs).set(Kind.TENANT, SHOP, Flow.DRAINING)
    row = admin.locator("#tenant-queues tr", has=admin.get_by_role("rowheader", name=SHOP))
    expect(row.locator(".num")).to_have_text(["0", "0", "0"])
    expect(row.locator(".pill")).to_have_text("draining")

    row.get_by_role("button", name=f"Resume {SHOP}").click()

    expect(admin.locator("#no-tenant-queue")).to_be_visible()
    assert Traffic(parts.jobs).stops() == []


def test_a_waiting_job_is_moved_to_the_front_by_keyboard(admin, parts, worker):
    first, second, third = queue(parts, 3)
    admin.get_by_role("button", name=f"Order of {SHOP}").press("Enter")
    rows = admin.locator("#waiting-jobs tr th")
    expect(rows).to_have_text([one[:8] for one in (first, second, third)])

    admin.get_by_role("button", name=f"To the front: {third[:8]}").press("Enter")

    expect(rows).to_have_text([one[:8] for one in (third, first, second)])
    expect(admin.get_by_role("button", name=f"To the front: {third[:8]}")).to_be_focused()
    admin.get_by_role("button", name=f"To the back: {first[:8]}").press("Enter")
    expect(rows).to_have_text([one[:8] for one in (third, second, first)])
    admin.keyboard.press("Escape")
    expect(admin.locator("#waiting-dialog")).to_be_hidden()
    assert [lease.job_id for lease in worker.claim()] == [third, second, first]


def test_the_order_of_waiting_jobs_speaks_chinese_and_a_job_that_left_is_told(page, inviting_api, parts, worker):
    enter(page, inviting_api)
    admin = page
    queue(parts, 1)
    admin.get_by_role("button", name="中文").click()
    admin.get_by_role("button", name=f"{SHOP} 的排序").click()
    expect(admin.locator("#waiting-title")).to_have_text(f"{SHOP} 等待中的任务")
    worker.claim()

    admin.get_by_role("button", name="移到最后").click()

    expect(admin.locator("#toast")).to_have_text("该任务已不在等待")
    expect(admin.locator("#no-waiting")).to_be_visible()


def test_a_worker_drains_until_it_may_be_stopped(admin, parts, worker):
    queue(parts)
    (lease,) = worker.claim()
    admin.get_by_role("button", name=f"Drain {worker.name}").click()
    expect(admin.locator(".worker")).to_contain_text("draining")
    worker.finish(lease)

    expect(admin.locator(".worker")).to_contain_text("may be stopped")


def test_a_stopped_worker_that_fell_silent_stays_in_sight_and_its_stop_is_lifted(admin, parts, worker):
    """It may only be cut off: if it comes back, it takes up nothing while the stop stands."""
    Traffic(parts.jobs).set(Kind.WORKER, "gpu-1-41-a0c3", Flow.PAUSED)
    silent = admin.locator(".worker", has_text="gpu-1-41-a0c3")
    expect(silent.locator(".pill")).to_have_text("paused")
    expect(silent).to_contain_text("Not heard of any more")
    expect(tile(admin, "Workers")).to_have_text("1")

    silent.get_by_role("button", name="Resume gpu-1-41-a0c3").click()

    expect(silent).to_have_count(0)
    assert Traffic(parts.jobs).stops() == []


def test_dead_letters_are_read_narrowed_and_tried_again(admin, parts, worker):
    for code in ("poison", "storage_failed", "storage_failed"):
        queue(parts, prompt=f"ended by {code}")
        worker.fail(worker.claim()[0], code)
    expect(admin.locator("#letters tr")).to_have_count(3)
    expect(tile(admin, "Dead letters")).to_have_text("3")
    admin.select_option("#letter-code", "poison")
    expect(admin.locator("#letters tr")).to_have_count(1)
    expect(admin.locator("#letters")).to_contain_text("It did not work.")

    admin.get_by_role("button", name="Try again: ended by poison").click()
    expect(tile(admin, "Dead letters")).to_have_text("2")
    admin.select_option("#letter-code", "")
    admin.get_by_role("button", name="Try all of these again").click()

    expect(admin.locator("#no-letters")).to_be_visible()
    assert len(worker.draw_all()) == 3


def test_letters_are_tried_again_though_the_first_call_found_none_yet(admin, parts, worker):
    empty = {"object": "list", "data": [], "next_cursor": f"9000000000000.0-{'f' * 32}"}
    queue(parts, prompt="ended by poison")
    worker.fail(worker.claim()[0], "poison")
    admin.route("**/requeue", lambda route: route.fulfill(json=empty), times=1)

    admin.get_by_role("button", name="Try all of these again").click()

    expect(admin.locator("#no-letters")).to_be_visible()
    assert len(worker.draw_all()) == 1


def test_limits_are_edited_and_a_tenant_is_banned_with_a_reason(admin, parts, worker):
    key, _ = parts.tenants.create_key(SHOP)
    admin.get_by_role("button", name=f"Limits of {SHOP}").click()
    admin.get_by_label("Pictures a day").fill("77")
    admin.get_by_role("button", name="Save").click()
    expect(admin.locator("#limits-dialog")).to_be_hidden()
    assert parts.tenants.get(SHOP).limits.daily_units == 77

    admin.get_by_role("button", name=f"Ban {SHOP}").click()
    admin.fill("#ban-reason", "unpaid")
    admin.press("#ban-reason", "Enter")
    expect(admin.locator("#tenants")).to_contain_text("banned: unpaid")
    assert parts.tenants.get(SHOP).ban_reason == "unpaid"
    admin.get_by_role("button", name=f"End the ban of {SHOP}").click()
    expect(admin.locator("#tenants")).not_to_contain_text("banned")
    assert parts.tenants.find(hash_key(key)).name == SHOP


def test_the_second_click_of_a_double_click_presses_nothing_that_has_come_under_it(admin, parts, worker):
    drain = admin.get_by_role("button", name="Drain Interactive")
    place = drain.bounding_box()
    at = (place["x"] + place["width"] - 5, place["y"] + 5)
    admin.mouse.click(*at)
    expect(admin.get_by_role("button", name="Resume Interactive")).to_be_visible()
    admin.mouse.down(click_count=2)
    admin.mouse.up(click_count=2)

    admin.get_by_role("button", name="Drain Batch").click()
    expect(admin.get_by_role("button", name="Resume Batch")).to_be_visible()
    expect(admin.get_by_role("button", name="Resume Interactive")).to_be_visible()


def test_keys_and_invites_are_made_shown_once_replaced_and_ended(admin, parts, worker):
    admin.on("dialog", lambda dialog: dialog.accept())
    admin.fill("#key-tenant", SHOP)
    admin.press("#key-tenant", "Enter")
    expect(admin.locator("#secret-dialog")).to_be_visible()
    first = admin.locator("#secret").input_value()
    admin.get_by_role("button", name="Done").click()
    admin.get_by_role("button", name=f"Replace the key …{first[-4:]} of {SHOP}").click()
    expect(admin.locator("#secret-dialog")).to_be_visible()
    second = admin.locator("#secret").input_value()
    admin.get_by_role("button", name="Done").click()
    assert parts.tenants.find(hash_key(first)) is None
    assert parts.tenants.find(hash_key(second)).name == SHOP
    admin.get_by_role("button", name=f"Revoke the key …{second[-4:]} of {SHOP}").click()
    expect(admin.locator("#keys tr")).to_have_count(0)

    admin.fill("#invite-uses", "3")
    admin.get_by_role("button", name="Make an invite").click()
    expect(admin.locator("#secret-dialog")).to_be_visible()
    code = admin.locator("#secret").input_value()
    admin.get_by_role("button", name="Done").click()
    expect(admin.locator("#invites")).to_contain_text("3 / 3")
    parts.invites.take(code, "ada")
    admin.get_by_role("button", name=f"Withdraw the invite …{code[-4:]}").click()
    expect(admin.locator("#invites-table")).to_be_hidden()


def test_a_key_with_limits_of_its_own_is_made_and_shown_with_them(admin, parts, worker):
    admin.fill("#key-tenant", SHOP)
    admin.fill("#key-label", "till")
    admin.fill("#key-daily", "50")
    admin.fill("#key-burst", "5")
    admin.press("#key-burst", "Enter")
    admin.get_by_role("button", name="Done").click()

    expect(admin.locator("#keys tr")).to_contain_text("till · Pictures a day: 50 · Pictures at once: 5")
    (key,) = (one for one in parts.tenants.list_keys() if one.tenant == SHOP)
    assert (key.daily_units, key.burst) == (50, 5)


def test_a_key_that_ends_and_a_key_of_an_operator_are_made_and_shown_as_such(admin, parts, worker):
    before = parts.tenants.now_ms()
    admin.fill("#key-tenant", SHOP)
    admin.get_by_label("Ends after … days").fill("3")
    admin.get_by_label("Admin: it opens this page").check()
    admin.get_by_role("button", name="Make a key").click()
    admin.get_by_role("button", name="Done").click()

    (key,) = (one for one in parts.tenants.list_keys() if one.tenant == SHOP)
    assert key.is_admin
    assert 0 <= key.expires_ms - before - 3 * DAY_MS < DAY_MS
    ends = datetime.fromtimestamp(key.expires_ms / 1000, UTC).astimezone()
    row = admin.locator("#keys tr")
    expect(row).to_contain_text("admin")
    expect(row).to_contain_text(f"{ends:%b} {ends.day}")
    expect(admin.locator("#keys-table th")).to_contain_text(["Ends"])
    expect(admin.get_by_label("Admin: it opens this page")).not_to_be_checked()

    admin.fill("#key-tenant", "cafe")
    admin.press("#key-tenant", "Enter")
    admin.get_by_role("button", name="Done").click()
    plain = admin.locator("#keys tr", has_text="cafe")
    expect(plain).to_contain_text("never")
    expect(plain).not_to_contain_text("admin")


def test_a_failed_delivery_is_shown(admin, parts, worker):
    endpoint = Endpoint(id="wh_1", tenant=SHOP, url="https://shop.example/hooks")
    parts.webhooks.save(endpoint)
    sent = parts.webhooks.enqueue(endpoint, {"id": "evt_1", "type": "job.succeeded"})
    parts.webhooks.record(replace(sent, attempts=(Attempt(at_ms=5_000, status=502, duration_ms=3),)))

    expect(admin.locator("#hooks")).to_contain_text("https://shop.example/hooks")
    expect(admin.locator("#hooks")).to_contain_text("502")


def test_what_a_tenant_wrote_is_shown_as_text(admin, parts, worker):
    queue(parts, prompt="<img src=x onerror=alert(1)>")
    worker.fail(worker.claim()[0], "poison")

    expect(admin.locator("#letters")).to_contain_text("<img src=x onerror=alert(1)>")
    assert admin.locator("#letters img").count() == 0
