# Copyright: (c) 2026, compute_plane.vllm contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What roles compute in vars/ from a plan, as Ansible does it."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import yaml

ROOT = Path(__file__).parents[3]
RELEASE = ROOT / "releases" / (ROOT / "releases" / "default").read_text(encoding="utf-8").strip()

INSTANCE = {
    "name": "m",
    "url": "http://127.0.0.1:8000",
    "served_model_name": "served",
    "answers": True,
    "max_model_len": 4096,
    "model": {"source": "hub", "repo_id": "o/m", "revision": None, "path": None},
    "lora": [],
    "config": {"max-model-len": 4096},
    "environment": {},
    "limits": {},
    "gpus": ["GPU-1"],
    "memory": {"weights_bytes": 1},
    "attention_backend": {"selected": "X", "mechanism": "flag", "key": "k", "trial": []},
}
LOCAL = {
    **INSTANCE,
    "name": "l",
    "max_model_len": None,
    "model": {"source": "local", "repo_id": None, "revision": None, "path": "/srv/l"},
    "lora": [],
    "config": {},
}
RECORD = {
    "instance": "m",
    "url": "http://0.0.0.0:8000",
    "listen_host": "0.0.0.0",
    "served_model_name": "served",
    "release": "1.2.3",
}
GIVEN = {
    "vllm_preflight_result": {
        "plan": {
            "runtime": {"venv": "/opt/v"},
            "instances": [INSTANCE, LOCAL],
            "removed_instances": ["gone"],
        }
    },
    "vllm_model_fetched": {"results": [{"path": "/hub/m"}]},
    "vllm_model_peer": {"host": "gpu1", "address": "2001:db8::7", "models": []},
    "vllm_model_scratch": {"path": "/tmp/vllm-copy-1"},
    "vllm_model_seen": {
        "ansible_facts": {
            "ansible_user_id": "admin",
            "ansible_ssh_host_key_ed25519_public": "AAAA",
            "ansible_ssh_host_key_ed25519_public_keytype": "ssh-ed25519",
        }
    },
    "ansible_failed_result": {
        "msg": "One or more items failed",
        "results": [{"failed": False}, {"failed": True, "msg": "its copy is damaged"}],
    },
    "vllm_model_paths": {"m": "/hub/m", "l": "/srv/l"},
    "vllm_model_commits": {"m": "1" * 40},
    "vllm_service_found": {
        "instances": [{"name": "m", "started": "it is new"}, {"name": "l", "started": None}]
    },
    "vllm_endpoint_results": [{"record": RECORD}, {"record": None}, {}],
    "vllm_bundle_dir": "/srv/bundle",
    "vllm_bundle_accelerator": "cpu",
    "vllm_bundle_pythons": ["3.11", "3.12"],
    "vllm_bundle_models": ["./here", "o/m@v1", "o/n"],
    "ansible_host": "10.0.0.7",
    "vllm_status_result": {"instances": [{"name": "m", "serves": False}]},
    "vllm_monitoring_hosts": ["gpu1", "gpu2"],
    "vllm_monitoring_servers": [
        {"targets": ["127.0.0.1:8000", "10.0.0.7:8000"]},
        {"targets": ["[::1]:8001", "[2001:db8::1]:8001", "localhost:1", "localhost.example:1"]},
    ],
    "vllm_monitoring_node_listen": "10.0.0.7:9200",
    "vllm_gateway_settings": {"problems": ["a key is short"]},
    "vllm_gateway_certificate": "PEM",
    "vllm_gateway_prefix_load": 100,
}
ROLES = (
    *("benchmark", "bundle", "endpoint", "gateway", "model", "monitoring", "service", "status"),
    "verify",
)
REQUEST = {
    "repo_id": "o/m",
    "revision": "main",
    "trust_remote_code": False,
    "cache_dir": "/var/lib/vllm/hub",
    "endpoint": "https://huggingface.co",
    "fetch": True,
}


@pytest.fixture(scope="module")
def computed(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    """The variables of all roles for one host."""
    folder = tmp_path_factory.mktemp("variables")
    wanted = {
        name: f"{{{{ {name} }}}}"
        for role in ROLES
        for name in yaml.safe_load((ROOT / f"roles/vllm_{role}/vars/main.yml").read_text())
        if name in EXPECTED or name == "vllm_bundle_locks"
    }
    play = {
        "hosts": "all",
        "connection": "local",
        "gather_facts": False,
        "vars": {**GIVEN, "role_path": str(ROOT / "roles" / "vllm_bundle")},
        "vars_files": [
            str(path)
            for part in ("defaults", "vars")
            for path in ROOT.glob(f"roles/*/{part}/main.yml")
        ],
        "tasks": [
            {
                "name": "Show",
                "ansible.builtin.copy": {
                    "content": "{{ wanted | to_json }}",
                    "dest": str(folder / "computed.json"),
                },
                "vars": {"wanted": wanted},
            }
        ],
    }
    # As play variables they come before those of files, which are defaults here.
    given = {**play.pop("vars"), "ansible_python_interpreter": sys.executable}
    (folder / "play.yml").write_text(json.dumps([play]), encoding="utf-8")
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
            "ANSIBLE_HOME": str(folder),
        },
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stdout
    found: dict[str, Any] = json.loads((folder / "computed.json").read_text(encoding="utf-8"))
    return found


EXPECTED: dict[str, Any] = {
    "vllm_benchmark_instances": [
        {"name": name, "gpus": ["GPU-1"], "attention_backend": "X", "memory": {"weights_bytes": 1}}
        for name in ("m", "l")
    ],
    "vllm_verify_endpoints": [
        {
            "name": name,
            "url": "http://127.0.0.1:8000",
            "served_model_name": "served",
            "max_model_len": length,
        }
        for name, length in (("m", 4096), ("l", None))
    ],
    "vllm_model_from_hub": [REQUEST],
    "vllm_model_places": {"m": "/hub/m", "l": "/srv/l"},
    "vllm_model_copies": [],
    "vllm_model_copy": {
        "source": "admin@[2001:db8::7]::hub",
        "identity_file": "/tmp/vllm-copy-1/key",
        "known_hosts": "/tmp/vllm-copy-1/known_hosts",
        "port": 22,
    },
    "vllm_model_known_hosts": "2001:db8::7 ssh-ed25519 AAAA\n",
    "vllm_model_complaint": "its copy is damaged",
    "vllm_service_going": ["m", "gone"],
    "vllm_service_instances": [
        {
            "name": name,
            "repository": repository,
            "revision": revision,
            "venv": "/opt/v",
            "config": {**config, "model": path},
            "environment": {},
            "limits": {},
            "attention": None,
            "url": "http://127.0.0.1:8000",
            "served_model_name": "served",
        }
        for name, repository, revision, path, config in (
            ("m", "o/m", "1" * 40, "/hub/m", {"max-model-len": 4096}),
            ("l", None, None, "/srv/l", {}),
        )
    ],
    "vllm_monitoring_wanted_targets": [
        f"/etc/prometheus/vllm/targets/servers-{host}.json" for host in ("gpu1", "gpu2")
    ],
    "vllm_monitoring_private": ["127.0.0.1:8000", "[::1]:8001", "localhost:1"],
    "vllm_monitoring_port": "9200",
    "vllm_monitoring_used_route": {"receiver": "nobody", "group_by": ["alertname", "host"]},
    "vllm_gateway_problems": [
        "a key is short",
        "vllm_gateway_certificate and vllm_gateway_certificate_key are set together",
        "vllm_gateway_prefix_load is percent of the servers' mean: it must be more than 100",
    ],
    "vllm_status_hosts": {"gpu1": [{"name": "m", "serves": False}]},
    "vllm_status_silent": ["m"],
    "vllm_endpoint_records": [
        {**RECORD, "url": "http://10.0.0.7:8000", "openai_base_url": "http://10.0.0.7:8000/v1"}
    ],
    "vllm_endpoint_targets": [
        {
            "targets": ["10.0.0.7:8000"],
            "labels": {
                "__scheme__": "http",
                "__metrics_path__": "/metrics",
                "host": "gpu1",
                "instance_name": "m",
                "model": "served",
                "release": "1.2.3",
            },
        }
    ],
    "vllm_bundle_local_models": ["./here"],
    "vllm_bundle_hub_models": [
        {"repo_id": "o/m", "revision": "v1"},
        {"repo_id": "o/n", "revision": None},
    ],
    "vllm_bundle_hub": {
        "endpoint": "https://huggingface.co",
        "cache_dir": "/srv/bundle.work/hub",
        "tools_path": "/srv/bundle.work/tools",
    },
}


@pytest.mark.parametrize("name", EXPECTED)
def test_a_variable(computed: dict[str, Any], name: str) -> None:
    assert computed[name] == EXPECTED[name]


def test_locks_are_given_whole(computed: dict[str, Any]) -> None:
    assert computed["vllm_bundle_locks"] == [
        {
            "name": f"cpu-py{python.replace('.', '')}.txt",
            "python": python,
            "text": (RELEASE / f"cpu-py{python.replace('.', '')}.txt").read_text(encoding="utf-8"),
        }
        for python in ("3.11", "3.12")
    ]
