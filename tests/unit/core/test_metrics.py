"""The exported metrics: names, units, and what a dead Redis looks like."""

from prometheus_client import CollectorRegistry, generate_latest

from core.metrics import REGISTRY, ModelReading, ServiceCollector, ServiceReading, StageReading
from core.model_queues import ModelDepth


def scrape(reading: ServiceReading | None) -> str:
    registry = CollectorRegistry()
    registry.register(ServiceCollector(lambda: reading))
    return generate_latest(registry).decode()


def test_outstanding_counts_waiting_released_and_running_jobs_for_each_model_and_runnable_those_that_no_pause_holds():
    depth = ModelDepth(waiting=12, paused=5, released=3, running=4)
    models = {
        "tiny": ModelReading(
            outstanding=depth.outstanding, paused=depth.paused, runnable=depth.runnable, worker_slots=8
        ),
        "painter": ModelReading(outstanding=2),
    }
    text = scrape(ServiceReading(waiting={"interactive": 2, "batch": 10}, models=models))

    assert 'zimg_jobs_outstanding{model="tiny"} 19.0' in text
    assert 'zimg_jobs_paused{model="tiny"} 5.0' in text
    assert 'zimg_jobs_runnable{model="tiny"} 14.0' in text
    assert 'zimg_jobs_outstanding{model="painter"} 2.0' in text
    assert 'zimg_jobs_runnable{model="painter"} 0.0' in text, "told where there is none, or the autoscaler stands still"
    assert 'zimg_model_slots{model="tiny"} 8.0' in text
    assert 'zimg_jobs_waiting{lane="batch"} 10.0' in text


def test_worker_gauges_are_labelled_by_worker_and_totals_are_counters():
    text = scrape(
        ServiceReading(workers=1, worker_gauges={"w1": {"gpu_memory_working_bytes": 5.0, "black_images_total": 1}})
    )

    assert 'zimg_gpu_memory_working_bytes{worker="w1"} 5.0' in text
    assert 'zimg_black_images_total{worker="w1"} 1.0' in text


def test_job_seconds_is_a_histogram_for_each_stage():
    stage = StageReading(buckets=[("0.5", 2), ("1", 3), ("+Inf", 4)], seconds=9.5)
    text = scrape(ServiceReading(stages={"queue": stage}))

    assert 'zimg_job_seconds_bucket{le="1",stage="queue"} 3.0' in text
    assert 'zimg_job_seconds_count{stage="queue"} 4.0' in text
    assert 'zimg_job_seconds_sum{stage="queue"} 9.5' in text


def test_attempts_to_deliver_and_shared_pictures_are_counted_from_nothing_on():
    text = scrape(ServiceReading(dedup_hits=3, webhook_attempts={"delivered": 2}))

    assert "zimg_dedup_hits_total 3.0" in text
    assert 'zimg_webhook_attempts_total{outcome="delivered"} 2.0' in text
    assert 'zimg_webhook_attempts_total{outcome="unreachable"} 0.0' in text


def test_what_was_put_aside_is_counted_from_nothing_on():
    text = scrape(ServiceReading(put_aside={"message": 2}))

    assert 'zimg_put_aside_total{kind="message"} 2.0' in text
    assert 'zimg_put_aside_total{kind="job"} 0.0' in text


def test_what_the_last_audit_found_is_shown_by_kind_once_there_was_one():
    text = scrape(ServiceReading(audit={"place": 2, "at": 5000}, audited_ms=5000))

    assert 'zimg_audit_differences{kind="place"} 2.0' in text
    assert 'zimg_audit_differences{kind="usage"} 0.0' in text
    assert "zimg_audit_timestamp_seconds 5.0" in text
    assert "zimg_audit" not in scrape(ServiceReading())


def test_a_dead_redis_shows_as_down_instead_of_as_an_empty_queue():
    text = scrape(None)

    assert "zimg_redis_up 0.0" in text
    assert "zimg_jobs_outstanding" not in text


def test_every_process_says_its_version():
    assert "zimg_build_info" in generate_latest(REGISTRY).decode()


def test_the_memory_of_redis_is_shown_where_it_is_known():
    text = scrape(ServiceReading(redis_used_bytes=7, redis_most_bytes=10))

    assert "zimg_redis_memory_used_bytes 7.0" in text
    assert "zimg_redis_memory_max_bytes 10.0" in text
    assert "zimg_redis_memory" not in scrape(ServiceReading())
