# Copyright: (c) 2026, compute_plane.vllm contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Every metric that rules, dashboard and page name is told by something real.

The fixtures are the names that servers and exporters have: tests/fixtures/monitoring/README.md.
"""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import jinja2
import pytest
import yaml

from ansible_collections.compute_plane.vllm.plugins.module_utils.monitoring import collector

ROOT = Path(__file__).parents[3]
ROLE = ROOT / "roles" / "vllm_monitoring"
FIXTURES = ROOT / "tests" / "fixtures" / "monitoring"
SERVERS = sorted(FIXTURES.glob("vllm-*.names"))
# What Prometheus makes itself: of each scrape, and of its rules' alerts.
PROMETHEUS = {"up", "ALERTS"}
# Functions and words of PromQL, https://prometheus.io/docs/prometheus/latest/querying/.
PROMQL = {
    *("and", "or", "unless", "on", "by", "ignoring", "without", "bool", "offset"),
    *("sum", "avg", "min", "max", "count", "rate", "increase", "deriv", "avg_over_time"),
    *("histogram_quantile", "time", "label_values"),
}


def names(expression: str) -> set[str]:
    """The metrics that a PromQL expression asks for."""
    bare = re.sub(r'"(?:\\.|[^"\\])*"', "", expression)
    bare = re.sub(r"\{[^{}]*\}|\[[^\[\]]*\]", "", bare)
    bare = re.sub(r"\b(?:by|on|ignoring|without) *\([^()]*\)", "", bare)
    return set(re.findall(r"(?<![\w.:$])[A-Za-z_:][\w:]*", bare)) - PROMQL


def told(path: Path) -> set[str]:
    """The metrics of a fixture."""
    return set(path.read_text(encoding="utf-8").splitlines())


def rules() -> list[dict[str, Any]]:
    """The rules, made from the role's defaults."""
    text = (ROLE / "templates" / "rules.yml.j2").read_text(encoding="utf-8")
    made = jinja2.Environment(
        variable_start_string="[[",
        variable_end_string="]]",
        trim_blocks=True,
        undefined=jinja2.StrictUndefined,
        autoescape=False,
    ).from_string(text.partition("\n")[2])
    variables: dict[str, Any] = {}
    for part in ("defaults", "vars"):
        variables |= yaml.safe_load((ROLE / part / "main.yml").read_text(encoding="utf-8"))
    groups = yaml.safe_load(made.render(variables))["groups"]
    return [rule for group in groups for rule in group["rules"]]


def own() -> set[str]:
    """What our collector tells, of a host with everything."""
    instance = collector.Instance(
        "a", {}, {}, {}, {"state": "verified", "verification": {"at": "2026-11-29"}}, None
    )
    card = {"uuid": "GPU-1", "name": "n"}
    now = {key: 1 for key, *_rest in collector._GAUGES} | {"throttle_reasons": 0}
    families = [
        *collector.instance_families([instance]),
        *collector.gpu_families([{"gpus": [card]}, {"gpus": {"GPU-1": now}}]),
        collector.xids(["3,1,1,-;NVRM: Xid (PCI:0000:01:00): 79, x"], 0.0),
    ]
    return {family.name for family in families if family.samples}


def known() -> set[str]:
    """Everything that there is to ask for."""
    recorded = {rule["record"] for rule in rules() if "record" in rule}
    told_by_others = {name for path in FIXTURES.glob("*.names") for name in told(path)}
    return own() | recorded | PROMETHEUS | told_by_others


@pytest.mark.parametrize(
    ("expression", "found"),
    [
        ('sum by (host, le) (rate(vllm:a_total{x=~"b.*"}[5m]))', {"vllm:a_total"}),
        ("a / on (host) b > 0.5 and c:d == 1", {"a", "b", "c:d"}),
        ('label_values(up{job="node"}, host)', {"up", "host"}),
        ("(time() - x) / 3600", {"x"}),
    ],
)
def test_names_of_an_expression(expression: str, found: set[str]) -> None:
    assert names(expression) == found


def test_what_the_rules_ask_for_is_told() -> None:
    asked = {name for rule in rules() for name in names(rule["expr"])}
    assert len(asked) > 20
    assert asked - known() == set()


def test_what_the_dashboard_asks_for_is_told() -> None:
    text = (ROLE / "files" / "grafana" / "vllm.json").read_text(encoding="utf-8")
    dashboard = json.loads(text)
    queries = [one["expr"] for panel in dashboard["panels"] for one in panel.get("targets", ())]
    variables = [
        one["query"]["query"].split("(", 1)[1].rpartition(",")[0]
        for one in dashboard["templating"]["list"]
        if one["type"] == "query"
    ]
    asked = {name for query in [*queries, *variables] for name in names(query)}
    assert len(asked) > 30
    assert asked - known() == set()


def test_what_the_page_asks_for_is_told() -> None:
    text = (ROLE / "files" / "vllm.html").read_text(encoding="utf-8")
    asked = set(
        re.findall(r"\b(?:vllm_\w+(?::\w+)*|ALERTS|probe_\w+)", text.partition("<body>")[2])
    )
    # The name of a job.
    asked -= {"vllm_health"}
    assert len(asked) > 12
    assert asked - known() == set()


@pytest.mark.parametrize("path", SERVERS, ids=lambda path: path.stem)
def test_each_release_tells_what_the_rules_need(path: Path) -> None:
    metrics = yaml.safe_load((ROLE / "vars" / "main.yml").read_text(encoding="utf-8"))[
        "vllm_monitoring_metrics"
    ]
    there = told(path)
    assert [concept for concept, given in metrics.items() if not there & set(given)] == []


def test_there_is_a_fixture_of_each_release() -> None:
    releases = {path.parent.name for path in (ROOT / "releases").glob("*/release.yml")}
    assert {path.stem.removeprefix("vllm-") for path in SERVERS} == releases


def test_no_name_is_one_that_no_release_has() -> None:
    metrics = yaml.safe_load((ROLE / "vars" / "main.yml").read_text(encoding="utf-8"))[
        "vllm_monitoring_metrics"
    ]
    there = {name for path in SERVERS for name in told(path)}
    assert {name for given in metrics.values() for name in given} - there == set()


def test_an_instance_that_was_never_verified_has_no_such_series() -> None:
    never = collector.Instance("a", {}, {}, {}, {}, None)
    filled = [family.name for family in collector.instance_families([never]) if family.samples]
    assert [name for name in filled if "verified" in name] == []


def test_every_alert_and_metric_of_ours_is_documented() -> None:
    text = (ROOT / "docs" / "monitoring.md").read_text(encoding="utf-8")
    alerts = {rule["alert"] for rule in rules() if "alert" in rule}
    assert set(re.findall(r"(?m)^\| `(Vllm\w+)` \|", text)) == alerts
    told_of = set(re.findall(r"`(vllm_(?:instance|gpu)_\w+)(?:\{[\w,]+\})?`", text))
    assert told_of == own()
