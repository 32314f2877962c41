# Copyright: (c) 2026, compute_plane.vllm contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The oldest and the newest ansible-core that are promised, each on a Debian whose Python runs it.

A throwaway host is controller and managed host at once, which this machine cannot always be: the
newest needs Python 3.12, and preflight a host that systemd runs. The playbooks are run by their
names and without a configuration, as from the installed artifact.
"""

from __future__ import annotations

import hashlib
import json
import os
import platform
import shutil
import struct
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[3]
TOOL = ROOT / "tests" / "hosts" / "testhosts.py"
CACHE = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "compute_plane.vllm"
NEVER = "small was never proved here; run the site playbook first"
# What the modules and actions are made of is ansible-core's; the rest of the unit tests is not.
# Bundles are made by pip, which takes a minute.
UNIT_TESTS = (
    "tests/unit/plugins/action",
    "tests/unit/plugins/filter",
    "tests/unit/plugins/modules",
    "--ignore=tests/unit/plugins/modules/test_vllm_bundle.py",
    "tests/unit/roles",
)

pytestmark = [
    pytest.mark.timeout(900),
    pytest.mark.skipif(os.geteuid() != 0, reason="throwaway hosts need root"),
]


@dataclass
class Core:
    """An ansible-core on a throwaway host.

    Attributes:
        name: What requirements/ calls it.
        version: How its version begins.
        python: The host's Python.
        exchange: A directory of this machine that the host sees as /exchange.
    """

    name: str
    version: str
    python: str
    exchange: Path
    environment: dict[str, str]

    def tool(self, *words: str) -> subprocess.CompletedProcess[str]:
        """Run the hosts' own tool."""
        return subprocess.run(
            [sys.executable, str(TOOL), *words],
            env=self.environment,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            check=False,
        )

    def __call__(self, *argv: str, folder: str = "/") -> tuple[int, str]:
        """Run the environment's Python on the host; returns its exit status and what it said."""
        variables = {
            "ANSIBLE_COLLECTIONS_PATH": "/src/collections",
            "ANSIBLE_NOCOLOR": "1",
            "CI": "1",
            "LC_ALL": "C.UTF-8",
            "PYTEST_DISABLE_PLUGIN_AUTOLOAD": "1",
            # The sources are mounted read-only.
            "PYTHONPYCACHEPREFIX": "/var/tmp/pycache",
        }
        done = self.tool(
            *("exec", "core", "--", "env", f"--chdir={folder}"),
            *(f"{name}={value}" for name, value in variables.items()),
            *("/venv/bin/python", *argv),
        )
        return done.returncode, done.stdout

    def playbook(self, name: str, *options: str) -> tuple[int, str]:
        """Run a playbook of the collection."""
        return self(
            *("-m", "ansible", "playbook", "--inventory=/exchange/hosts.yml"),
            *(f"compute_plane.vllm.{name}", *options),
        )


def packages(name: str, python: str) -> Path:
    """The packages of an ansible-core, kept in the user's cache: a directory for one lock."""
    lock = ROOT / "requirements" / f"core-{name}.txt"
    directory = CACHE / "cores" / f"{name}-{hashlib.sha256(lock.read_bytes()).hexdigest()[:12]}"
    if directory.exists():
        return directory
    directory.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=directory.parent, prefix=f".{name}-") as scratch:
        # For another Python than this one, so uv only unpacks.
        done = subprocess.run(
            [
                *(ROOT / "scripts" / "uv", "pip", "install", "--quiet", "--no-build"),
                *("--target", f"{scratch}/packages", "--python-version", python),
                *("--python-platform", f"{platform.machine()}-manylinux_2_36"),
                *("--require-hashes", "--requirement", lock),
            ],
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            check=False,
        )
        assert done.returncode == 0, done.stdout
        for old in directory.parent.glob(f"{name}-*"):
            shutil.rmtree(old)
        Path(scratch, "packages").rename(directory)
    return directory


def write_model(directory: Path) -> None:
    """A Llama of four weights: enough to plan it, not to serve it."""
    config = {
        "architectures": ["LlamaForCausalLM"],
        "model_type": "llama",
        "hidden_size": 576,
        "head_dim": 64,
        "num_attention_heads": 9,
        "num_hidden_layers": 30,
        "num_key_value_heads": 3,
        "max_position_embeddings": 8192,
        "torch_dtype": "float16",
        "vocab_size": 49152,
    }
    header = json.dumps({"w": {"dtype": "F16", "shape": [4], "data_offsets": [0, 8]}}).encode()
    directory.mkdir()
    (directory / "config.json").write_text(json.dumps(config))
    (directory / "tokenizer.json").write_text("{}")
    (directory / "model.safetensors").write_bytes(
        struct.pack("<Q", len(header)) + header + bytes(8)
    )


def write_inventory(path: Path) -> None:
    """The host itself, with values that templates give: before 2.19 most of them are text."""
    instance = {
        "name": "small",
        "model": "/exchange/model",
        "port": "{{ 18000 + 1 }}",
        "max_num_seqs": "{{ [16, 32] | max }}",
        "enforce_eager": "{{ 1 == 1 }}",
        "served_model_name": "{{ 'model' ~ 7 }}",
    }
    question = {"name": "sum", "prompt": "1+1?", "expect": "2", "max_tokens": "{{ 4 * 4 }}"}
    host = {
        "ansible_connection": "local",
        "ansible_python_interpreter": "{{ ansible_playbook_python }}",
        "vllm_accelerator": "cpu",
        "vllm_instances": [instance],
        "vllm_verify_questions": [question],
        "vllm_verify_timeout": "{{ 6 * 10 }}",
        "vllm_benchmark_sweep": [
            {"concurrency": ["{{ 1 + 1 }}"], "input_tokens": 16, "output_tokens": "{{ 4 * 2 }}"}
        ],
    }
    path.write_text(json.dumps({"vllm": {"hosts": {"here": host}}}))


@pytest.fixture(
    scope="module",
    params=[("oldest", "2.16.", "3.11", "bookworm"), ("newest", "2.21.", "3.13", "trixie")],
    ids=lambda param: param[0],
)
def core(request: pytest.FixtureRequest) -> Iterator[Core]:
    """A host with that ansible-core in a virtual environment."""
    name, version, python, image = request.param
    site = packages(name, python)
    with tempfile.TemporaryDirectory(prefix="cores-", dir="/var/tmp") as directory:
        exchange = Path(directory) / "exchange"
        exchange.mkdir()
        write_model(exchange / "model")
        write_inventory(exchange / "hosts.yml")
        environment = {**os.environ, "TESTHOSTS_STATE": f"{directory}/state"}
        environment.pop("TESTHOSTS_SUBNET", None)
        core = Core(name, version, python, exchange, environment)
        try:
            binds = [
                *(f"--bind-ro={ROOT}:/src", f"--bind-ro={site}:/site"),
                f"--bind={exchange}:/exchange",
            ]
            up = core.tool("up", "core", f"--image={image}", *binds)
            assert up.returncode == 0, up.stdout
            script = (
                "python3 -m venv --without-pip /venv"
                f" && echo /site >/venv/lib/python{python}/site-packages/site.pth"
            )
            made = core.tool("exec", "core", "--", "sh", "-c", script)
            assert made.returncode == 0, made.stdout
            yield core
        finally:
            core.tool("clean")


def test_it_is_that_version(core: Core) -> None:
    status, said = core("-c", "import ansible.release as r; print(r.__version__)")
    assert (status, said.startswith(core.version)) == (0, True), said


def test_preflight_passes_and_its_report_is_lines(core: Core) -> None:
    out = core.exchange / "preflight.json"
    status, said = core.playbook(
        "preflight", f"--extra-vars=vllm_preflight_json=/exchange/{out.name}"
    )
    assert status == 0, said
    lines = [line.strip().strip('",') for line in said.splitlines()]
    assert {"Found", "No problems."} <= set(lines), said
    assert "\\n" not in said
    text = out.read_text()
    document = json.loads(text)
    assert text == json.dumps(document, indent=4, sort_keys=True) + "\n"
    assert document["ok"] is True
    (instance,) = document["plan"]["instances"]
    assert instance["url"] == "http://127.0.0.1:18001"
    wanted = {"port": 18001, "max-num-seqs": 16 * 2, "enforce-eager": True}
    assert {**instance["config"], **wanted, "served-model-name": "model7"} == instance["config"]


def test_all_that_is_wrong_is_told_before_anything_changes(core: Core) -> None:
    wrong = {
        "vllm_verify_suite": ["helth"],
        "vllm_endpoint_registry_retries": -1,
        "vllm_verify_ability": "loud",
    }
    status, said = core.playbook("verify", "--check", f"--extra-vars={json.dumps(wrong)}")
    assert status == 2, said
    for where in ("vllm_verify_suite[0].check: ", "vllm_verify_ability: ", "_registry_retries: "):
        assert where in said, said


@pytest.mark.parametrize(
    ("name", "status", "ends"),
    [
        ("site", 0, "failed=0"),
        ("verify", 2, "small: /opt/vllm/tools/bin/python cannot be run: "),
        ("benchmark", 2, NEVER),
        ("tune", 2, NEVER),
        ("status", 2, "here small: stopped: it is not deployed"),
        ("uninstall", 0, "Instances: none"),
    ],
)
def test_nothing_is_deployed_and_that_is_told(
    core: Core, name: str, status: int, ends: str
) -> None:
    found, said = core.playbook(name, "--check")
    assert (found, ends in said) == (status, True), said
    assert "\\n" not in said


def test_unit_tests(core: Core) -> None:
    status, said = core(
        *("-m", "pytest", "-q", "-p", "no:cacheprovider", "-p", "pytest_timeout", *UNIT_TESTS),
        folder="/src",
    )
    assert status == 0, said
