"""The alert rules: what Prometheus' operator takes, of metrics that are exported, and what the document promises."""

import re
from pathlib import Path

import pytest
import yaml

from core.settings import Settings
from tests.deploy.test_documents import exported

ROOT = Path(__file__).parent.parent.parent
FILE = ROOT / "k8s" / "prometheus-rules.yaml"
SEVERITIES = {"critical", "warning"}
DURATION = r"\d+(s|m|h|d)"


@pytest.fixture(scope="module")
def document():
    return yaml.safe_load(FILE.read_text())


@pytest.fixture(scope="module")
def rules(document):
    return [rule for group in document["spec"]["groups"] for rule in group["rules"]]


def metrics_in(expression):
    """Names of series; of a histogram's parts the histogram's own."""
    return {re.sub(r"_(bucket|count|sum)$", "", name) for name in re.findall(r"\bzimg_\w+", expression)}


def test_the_file_is_one_that_the_operator_loads(document, rules):
    assert (document["apiVersion"], document["kind"]) == ("monitoring.coreos.com/v1", "PrometheusRule")
    assert set(document) == {"apiVersion", "kind", "metadata", "spec"}
    assert [set(group) for group in document["spec"]["groups"]] == [{"name", "rules"}] * len(document["spec"]["groups"])
    for rule in rules:
        assert (
            {"alert", "expr", "labels", "annotations"} <= set(rule) <= {"alert", "expr", "for", "labels", "annotations"}
        )
        assert re.fullmatch(r"Zimg\w+", rule["alert"])
        assert re.fullmatch(DURATION, rule.get("for", "0s"))
        assert rule["labels"]["severity"] in SEVERITIES
        assert set(rule["annotations"]) == {"summary", "description"}
    assert len({rule["alert"] for rule in rules}) == len(rules)


def test_every_expression_uses_exported_metrics_alone(rules):
    for rule in rules:
        used = metrics_in(rule["expr"])
        assert used, rule["alert"]
        assert used <= exported(), rule["alert"]


def test_what_every_api_process_tells_of_the_whole_service_is_not_counted_once_for_each(rules):
    """A bare comparison would fire for each pod, and a sum would grow with them; of requests each tells its own."""
    for rule in rules:
        found = re.findall(r"(\w+)( by \(namespace(?:, \w+)?\) )?\((?:\w+\()?(zimg_\w+)", rule["expr"])
        assert [name for *_, name in found] == re.findall(r"zimg_\w+", rule["expr"]), rule["alert"]
        for aggregation, by, name in found:
            wanted = "sum" if name.startswith("zimg_http_") else "max"
            assert (aggregation, bool(by)) in {(wanted, True), ("absent", False)}, rule["alert"]


def test_all_that_the_document_calls_worth_a_page_has_a_rule(rules):
    text = (ROOT / "docs/operations.md").read_text()
    table = text.partition("Worth a page:\n\n")[2].partition("\n\n")[0]
    worth = metrics_in(" ".join(line.split("|")[1] for line in table.splitlines()))

    assert len(worth) >= 15
    assert worth - {name for rule in rules for name in metrics_in(rule["expr"])} == set()


def test_the_limits_in_the_rules_follow_from_the_settings(rules):
    expressions = {rule["alert"]: rule["expr"] for rule in rules}

    assert expressions["ZimgNobodyAudits"].endswith(f"> {3 * Settings().audit_seconds:.0f}")
    assert expressions["ZimgJobsNearTheirDeadline"].endswith(f"> {Settings().batch_deadline_seconds // 2}")
