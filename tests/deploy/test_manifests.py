"""Kubernetes manifests: they render, validate, and agree with the code they run."""

import re
import subprocess
import sys
from pathlib import Path

import jmespath
import pytest
import yaml

from core.progress import START_SECONDS
from core.settings import Settings

ROOT = Path(__file__).parent.parent.parent
BIN = Path(sys.executable).parent


@pytest.fixture(scope="module")
def rendered() -> str:
    done = subprocess.run(
        [BIN / "kubectl", "kustomize", "k8s/base"], cwd=ROOT, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


@pytest.fixture(scope="module")
def objects(rendered: str) -> list[dict]:
    return [item for item in yaml.safe_load_all(rendered) if item]


def find(objects: list[dict], kind: str, name: str) -> dict:
    return next(item for item in objects if item["kind"] == kind and item["metadata"]["name"].startswith(name))


@pytest.mark.parametrize("version", ["1.30", "1.37"])
def test_the_base_passes_strict_validation(rendered: str, version: str):
    done = subprocess.run(
        [BIN / "kubernetes-validate", "--strict", "-k", version, "-"],
        input=rendered, capture_output=True, text=True, check=False,
    )  # fmt: skip

    assert done.returncode == 0, done.stdout + done.stderr
    assert "Deployment" in rendered


def test_a_misspelt_field_would_be_refused(rendered: str):
    done = subprocess.run(
        [BIN / "kubernetes-validate", "--strict", "-"],
        input=rendered.replace("terminationGracePeriodSeconds", "terminationGraceSeconds"),
        capture_output=True, text=True, check=False,
    )  # fmt: skip

    assert done.returncode != 0


def test_a_worker_has_one_card_and_as_much_memory_as_it_asks_for(objects):
    container = find(objects, "Deployment", "zimg-worker")["spec"]["template"]["spec"]["containers"][0]

    assert container["resources"]["limits"]["nvidia.com/gpu"] == 1
    assert container["resources"]["limits"]["memory"] == container["resources"]["requests"]["memory"]


def test_every_container_runs_unprivileged_and_without_a_token(objects):
    for deployment in (item for item in objects if item["kind"] == "Deployment"):
        pod = deployment["spec"]["template"]["spec"]
        assert pod["automountServiceAccountToken"] is False
        assert pod["securityContext"]["runAsNonRoot"] is True
        for container in pod["containers"]:
            assert container["securityContext"]["readOnlyRootFilesystem"] is True
            assert container["securityContext"]["capabilities"]["drop"] == ["ALL"]


def test_a_worker_gets_longer_to_stop_than_it_drains(objects):
    grace = find(objects, "Deployment", "zimg-worker")["spec"]["template"]["spec"]["terminationGracePeriodSeconds"]
    drain = int(find(objects, "ConfigMap", "zimg-settings")["data"]["ZIMG_DRAIN_SECONDS"])

    assert grace >= drain + 15


def test_the_settings_are_ones_that_the_code_accepts(objects):
    data = find(objects, "ConfigMap", "zimg-settings")["data"]

    settings = Settings.from_env(data)

    assert settings.model == "Tongyi-MAI/Z-Image-Turbo"
    known = {f"ZIMG_{name.upper()}" for name in Settings.__dataclass_fields__} | {"S3_BUCKET"}
    assert set(data) <= known


def test_the_public_address_is_a_place_to_fill_in_that_all_processes_read(objects):
    deployments = [item for item in objects if item["kind"] == "Deployment" and "nginx" not in item["metadata"]["name"]]
    sources = jmespath.search("[].spec.template.spec.containers[].envFrom[].configMapRef.name", deployments)

    assert find(objects, "ConfigMap", "zimg-settings")["data"]["ZIMG_PUBLIC_BASE_URL"] == ""
    assert len(sources) == len(deployments)
    assert all(name.startswith("zimg-settings") for name in sources)
    assert Settings.from_env({"ZIMG_PUBLIC_BASE_URL": ""}).public_base_url == ""


@pytest.mark.parametrize("document", ["README.md", "docs/operations.md", "k8s/README.md", "k8s/base/settings.env"])
def test_what_the_public_address_is_for_is_written_where_it_is_set(document):
    assert "ZIMG_PUBLIC_BASE_URL" in (ROOT / document).read_text()


def test_the_autoscaler_reads_metrics_that_the_code_exports(objects):
    names = jmespath.search(
        "spec.metrics[].external.metric.name", find(objects, "HorizontalPodAutoscaler", "zimg-worker")
    )

    exported = (ROOT / "core" / "metrics.py").read_text()
    assert names
    for name in names:
        assert f'"{name}"' in exported or f'"{name.removeprefix("zimg_")}"' in exported


def test_the_autoscaler_reads_what_the_adapters_rules_tell_and_no_work_that_a_pause_holds_back(objects):
    hpa = find(objects, "HorizontalPodAutoscaler", "zimg-worker")
    rules = yaml.safe_load((ROOT / "k8s" / "prometheus-adapter-rules.yaml").read_text())

    read = jmespath.search("spec.metrics[].external.metric.name", hpa)

    assert sorted(read) == sorted(rule["seriesQuery"] for rule in rules)
    assert "zimg_jobs_runnable" in read


def test_whatever_hangs_is_restarted(objects):
    for deployment in (item for item in objects if item["kind"] == "Deployment"):
        for container in deployment["spec"]["template"]["spec"]["containers"]:
            assert container.get("livenessProbe"), container["name"]


def test_a_worker_that_loads_its_model_is_not_killed_and_one_that_hangs_is(objects):
    (worker,) = find(objects, "Deployment", "zimg-worker")["spec"]["template"]["spec"]["containers"]
    start, live = worker["startupProbe"], worker["livenessProbe"]

    assert start["exec"]["command"] == ["python", "-m", "worker.health"]
    assert start["periodSeconds"] * start["failureThreshold"] == START_SECONDS
    assert live["exec"]["command"] == ["python", "-m", "worker.health", "--alive"]  # its parent may fork it anew
    assert 'CMD ["python", "-m", "worker.health", "--alive"]' in (ROOT / "deploy/docker/Dockerfile").read_text()


def test_a_pod_of_any_common_network_is_a_trusted_proxy_and_others_are_to_be_added(objects):
    trusted = find(objects, "ConfigMap", "zimg-settings")["data"]["ZIMG_TRUSTED_PROXIES"].split(",")

    assert {"10.0.0.0/8", "100.64.0.0/10", "172.16.0.0/12", "192.168.0.0/16", "fc00::/7"} <= set(trusted)
    assert "ZIMG_TRUSTED_PROXIES" in (ROOT / "k8s/README.md").read_text()


def test_a_workers_disk_is_asked_for_and_bounded(objects):
    pod = find(objects, "Deployment", "zimg-worker")["spec"]["template"]["spec"]
    (data,) = [volume["emptyDir"] for volume in pod["volumes"] if volume["name"] == "data"]
    asked = int(pod["containers"][0]["resources"]["requests"]["ephemeral-storage"].removesuffix("Gi"))
    settings = Settings.from_env(find(objects, "ConfigMap", "zimg-settings")["data"])

    assert asked >= 15 + settings.backlog_gib  # the packed model, and pictures that wait for the storage
    assert int(data["sizeLimit"].removesuffix("Gi")) >= 2 * 15 + settings.backlog_gib  # while a model replaces another


def test_the_version_that_is_named_knows_every_field_without_a_feature_gate(rendered):
    assert re.search(r"preStop:\s+sleep:", rendered)  # on by default from 1.30
    for path in ("k8s/README.md", "k8s/base/kustomization.yaml"):
        assert "Kubernetes 1.30 or newer" in (ROOT / path).read_text()


def test_no_image_is_left_without_a_version(objects):
    for deployment in (item for item in objects if item["kind"] == "Deployment"):
        for image in jmespath.search("spec.template.spec.containers[].image", deployment):
            assert ":" in image
            assert not image.endswith(":latest")


def test_the_dockerfile_passes_hadolint():
    done = subprocess.run(
        [BIN / "hadolint", "deploy/docker/Dockerfile"], cwd=ROOT, capture_output=True, text=True, check=False
    )

    assert done.returncode == 0, done.stdout


def test_the_dockerfile_has_a_target_for_the_api_and_one_for_the_worker():
    text = (ROOT / "deploy/docker/Dockerfile").read_text()

    assert " AS api\n" in text
    assert " AS worker\n" in text
