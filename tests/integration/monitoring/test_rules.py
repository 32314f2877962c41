# Copyright: (c) 2026, compute_plane.vllm contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Prometheus's own tools read what vllm_monitoring makes, and every alert fires when it should."""

from __future__ import annotations

import importlib.util
import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import yaml

HERE = Path(__file__).parent
ROOT = HERE.parents[2]
ROLE = ROOT / "roles" / "vllm_monitoring"
FILES = ("rules.yml", "prometheus.yml", "alertmanager.yml", "blackbox.yml")
TESTS = yaml.safe_load((HERE / "rules_test.yml").read_text(encoding="utf-8"))


def program(name: str) -> str:
    spec = importlib.util.spec_from_file_location("programs", HERE / "programs.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return str(module.program(name))


def render(folder: Path, **variables: Any) -> None:
    """Write the role's files as Ansible does."""
    play = {
        "hosts": "all",
        "connection": "local",
        "gather_facts": False,
        "vars_files": [str(ROLE / part / "main.yml") for part in ("defaults", "vars")],
        "tasks": [
            {
                "name": "Write",
                "ansible.builtin.template": {
                    "src": str(ROLE / "templates" / f"{name}.j2"),
                    "dest": str(folder / name),
                },
            }
            for name in FILES
        ],
    }
    (folder / "play.yml").write_text(json.dumps([play]), encoding="utf-8")
    given = {
        "ansible_python_interpreter": sys.executable,
        "role_path": str(ROLE),
        "vllm_monitoring_etc": str(folder),
        "vllm_monitoring_hosts": ["gpu1"],
        **variables,
    }
    done = subprocess.run(
        [
            *(sys.executable, "-m", "ansible", "playbook"),
            folder / "play.yml",
            "--inventory=gpu1,",
            f"--extra-vars={json.dumps(given)}",
        ],
        env={
            **os.environ,
            "ANSIBLE_CONFIG": str(ROOT / "ansible.cfg"),
            "ANSIBLE_HOME": str(folder / "ansible"),
        },
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stdout


def run(*command: object) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [str(word) for word in command],
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        check=False,
    )


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The role's files with its defaults."""
    folder = tmp_path_factory.mktemp("defaults")
    render(folder)
    return folder


def alerts(folder: Path) -> list[str]:
    groups = yaml.safe_load((folder / "rules.yml").read_text(encoding="utf-8"))["groups"]
    return [rule["alert"] for group in groups for rule in group["rules"] if "alert" in rule]


def test_the_rules_fire_when_they_should(made: Path) -> None:
    (made / "rules_test.yml").write_text(json.dumps(TESTS), encoding="utf-8")
    done = run(program("promtool"), "test", "rules", made / "rules_test.yml")
    assert done.returncode == 0, done.stdout


def test_every_alert_has_a_case_in_which_it_fires_and_one_in_which_it_does_not(made: Path) -> None:
    cases = [case for one in TESTS["tests"] for case in one["alert_rule_test"]]
    fires = {case["alertname"] for case in cases if case["exp_alerts"]}
    silent = {case["alertname"] for case in cases if not case["exp_alerts"]}
    assert fires == silent == set(alerts(made))


def test_a_wrong_expectation_is_found(made: Path) -> None:
    wrong = json.loads(json.dumps(TESTS))
    wrong["tests"][0]["alert_rule_test"][0]["exp_alerts"] = []
    (made / "wrong.yml").write_text(json.dumps(wrong), encoding="utf-8")
    assert run(program("promtool"), "test", "rules", made / "wrong.yml").returncode != 0


EVERYTHING: dict[str, Any] = {
    "vllm_monitoring_haproxy_targets": ["10.0.0.5:8405"],
    "vllm_monitoring_router_targets": ["10.0.0.5:29000"],
    "vllm_monitoring_probe_urls": ["https://llm.example/health"],
    "vllm_monitoring_ca_file": "/etc/ssl/certs/ca-certificates.crt",
    "vllm_monitoring_scrape_configs": [
        {"job_name": "ups", "static_configs": [{"targets": ["ups:9995"]}]}
    ],
    "vllm_monitoring_receivers": [
        {"name": "me", "email_configs": [{"to": "me@example.org"}]},
        {"name": "hook", "webhook_configs": [{"url": "http://127.0.0.1:1/"}]},
    ],
    "vllm_monitoring_route": {"receiver": "hook", "routes": [{"receiver": "me"}]},
    "vllm_monitoring_alertmanager_global": {
        "smtp_smarthost": "mail.example.org:587",
        "smtp_from": "llm@example.org",
    },
}


@pytest.mark.parametrize("variables", [{}, EVERYTHING], ids=["defaults", "everything"])
def test_prometheus_and_alertmanager_read_their_files(
    variables: dict[str, Any], tmp_path: Path
) -> None:
    render(tmp_path, **variables)
    for tool, words, name in (
        ("promtool", ["check", "rules"], "rules.yml"),
        ("promtool", ["check", "config"], "prometheus.yml"),
        ("amtool", ["check-config"], "alertmanager.yml"),
    ):
        done = run(program(tool), *words, tmp_path / name)
        assert done.returncode == 0, done.stdout


def jobs(folder: Path) -> list[str]:
    config = yaml.safe_load((folder / "prometheus.yml").read_text(encoding="utf-8"))
    return [job["job_name"] for job in config["scrape_configs"]]


def test_what_is_given_is_asked(made: Path, tmp_path: Path) -> None:
    render(tmp_path, **EVERYTHING)
    assert jobs(made) == ["prometheus", "alertmanager", "vllm", "vllm_health", "node"]
    assert set(jobs(tmp_path)) - set(jobs(made)) == {"probe", "haproxy", "vllm_router", "ups"}
    alertmanager = yaml.safe_load((tmp_path / "alertmanager.yml").read_text(encoding="utf-8"))
    assert alertmanager["route"] == EVERYTHING["vllm_monitoring_route"]
    assert alertmanager["receivers"] == EVERYTHING["vllm_monitoring_receivers"]


def test_nobody_is_told_by_default_and_the_first_receiver_where_there_is_one(
    made: Path, tmp_path: Path
) -> None:
    default = yaml.safe_load((made / "alertmanager.yml").read_text(encoding="utf-8"))
    assert default["receivers"] == [{"name": "nobody"}]
    render(tmp_path, vllm_monitoring_receivers=EVERYTHING["vllm_monitoring_receivers"][1:])
    given = yaml.safe_load((tmp_path / "alertmanager.yml").read_text(encoding="utf-8"))
    assert given["route"]["receiver"] == "hook"


@pytest.mark.parametrize(
    ("tool", "words", "name", "variables", "told"),
    [
        (
            "promtool",
            ["check", "config"],
            "prometheus.yml",
            {"vllm_monitoring_scrape_configs": [{"job_name": "vllm"}]},
            'multiple scrape configs with job name "vllm"',
        ),
        (
            "amtool",
            ["check-config"],
            "alertmanager.yml",
            {
                "vllm_monitoring_receivers": [{"name": "me"}],
                "vllm_monitoring_route": {"receiver": "you"},
            },
            "undefined receiver",
        ),
        (
            "promtool",
            ["check", "rules"],
            "rules.yml",
            {"vllm_monitoring_patience": "soon"},
            "not a valid duration",
        ),
    ],
)
def test_a_mistake_is_found_before_a_service_reads_it(
    tool: str, words: list[str], name: str, variables: dict[str, Any], told: str, tmp_path: Path
) -> None:
    render(tmp_path, **variables)
    done = run(program(tool), *words, tmp_path / name)
    assert done.returncode != 0
    assert told in done.stdout
