# Copyright: (c) 2026, compute_plane.vllm contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""gpu_info, nvcc_info and vllm_probe as Ansible runs them."""

from __future__ import annotations

import importlib
import json
from pathlib import Path

import pytest
import yaml

from ansible_collections.compute_plane.vllm.plugins.doc_fragments import code
from ansible_collections.compute_plane.vllm.plugins.module_utils.common import late
from ansible_collections.compute_plane.vllm.plugins.module_utils.host.machine import Completed
from ansible_collections.compute_plane.vllm.plugins.plugin_utils.probing import finished
from ansible_collections.compute_plane.vllm.tests.unit.plugins.module_args import (
    asked_for,
    patch_module_args,
)
from ansible_collections.compute_plane.vllm.tests.unit.plugins.module_utils.fake_host import (
    FakeHost,
    answered,
    ok,
)

UTILS = "ansible_collections.compute_plane.vllm.plugins.module_utils"
MODULES = "ansible_collections.compute_plane.vllm.plugins.modules"
ABSENT = {"ok": False, "code": None, "error": "none", "version": None, "devices": []}
NAMES = ["gpu_info", "nvcc_info", "vllm_probe"]


def documented(name):
    """What a module documents: DOCUMENTATION, EXAMPLES, RETURN."""
    module = importlib.import_module(f"{MODULES}.{name}")
    beside = Path(module.__file__).with_suffix(".yml")
    if beside.exists():
        said = yaml.safe_load(beside.read_text())
        said["EXAMPLES"] = yaml.safe_load(said["EXAMPLES"])
    else:
        parts = ("DOCUMENTATION", "EXAMPLES", "RETURN")
        said = {part: yaml.safe_load(getattr(module, part)) for part in parts}
    if "compute_plane.vllm.code" in said["DOCUMENTATION"].get("extends_documentation_fragment", ()):
        shared = yaml.safe_load(code.ModuleDocFragment.DOCUMENTATION)
        said["DOCUMENTATION"]["options"].update(shared["options"])
    return said


def machine(files=None, **more):
    isolated = {"cuInit": answered(ABSENT), "NVML version": answered(None)}
    return FakeHost(files, isolated=isolated, **more)


@pytest.fixture
def run(monkeypatch, capsys):
    """Runs a module on a machine; its result."""

    def run(name, host, **params):
        module = importlib.import_module(f"{MODULES}.{name}")
        monkeypatch.setattr(module, "Host", lambda: host)
        with patch_module_args(params), pytest.raises(SystemExit) as ended:
            module.main()
        result = json.loads(capsys.readouterr().out)
        assert bool(ended.value.code) == bool(result.get("failed", False))
        return result

    return run


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("check", [False, True])
def test_nothing_changes(run, name, check):
    result = run(name, machine(), _ansible_check_mode=check)
    assert result["changed"] is False


def test_check_mode_returns_the_same(run):
    for name in NAMES:
        assert run(name, machine(), _ansible_check_mode=True) == run(name, machine())


def test_gpu_info(run):
    smi = "<nvidia_smi_log><driver_version>590.48.01</driver_version></nvidia_smi_log>"
    result = run("gpu_info", machine(programs={"/usr/bin/nvidia-smi": ok(smi)}))
    assert result["driver"]["version"] == "590.48.01"
    assert result["source"] == "nvidia-smi"


@pytest.mark.parametrize("timeout", [0, -1, "nan"])
def test_gpu_info_refuses_a_time_limit_that_is_none(run, timeout):
    result = run("gpu_info", machine(), timeout=timeout)
    assert result["failed"]
    assert result["msg"].startswith("timeout: ")


def test_gpu_info_refuses_another_source(run):
    assert "source" in run("gpu_info", machine(), source="dmidecode")["msg"]


def test_nvcc_info(run):
    python = ok("3.12.3\n/usr/include/python3.12\nTrue\n/usr/bin/python3.12\n")
    host = machine(
        {"/usr/include/python3.12/Python.h": ""},
        programs={"/usr/bin/python3.12": python, "/srv/bin/gcc": ok("gcc (GCC) 14.2.1\n")},
    )
    result = run("nvcc_info", host, python="/usr/bin/python3.12", service_path="/srv/bin")
    assert result["nvcc"]["c_compiler"] == {"path": "/srv/bin/gcc", "version": "14.2.1"}
    assert result["python"]["headers"] == "/usr/include/python3.12/Python.h"
    # Ansible adds the attributes of a file to a result with a top-level `path`.
    assert "mode" not in result


def test_nvcc_info_without_a_python(run):
    assert run("nvcc_info", machine())["python"] is None
    broken = machine(programs={"/p": Completed(1, "", "", None)})
    assert run("nvcc_info", broken, python="/p")["python"] is None


def test_nvcc_info_refuses_a_relative_path(run):
    result = run("nvcc_info", machine(), python="bin/python3")
    assert result["msg"] == "python: bin/python3 is not an absolute path"


def test_vllm_probe_hands_on_what_it_is_asked(run):
    host = machine(
        {"/srv/etc/a.yaml": "port: 1\n", "/m/config.json": "{}"},
        programs={"/p": ok("3.10.1\n/i\nFalse\n/p\n")},
    )
    facts = run(
        "vllm_probe",
        host,
        paths=["/opt"],
        packages=["gcc"],
        models=["/m"],
        python=["/p"],
        opt_dir="/srv/opt",
        etc_dir="/srv/etc",
        service_path="/bin",
    )["facts"]
    assert list(facts["mounts"]) == ["/opt"]
    assert list(facts["packages"]) == ["gcc"]
    assert facts["models"]["/m"]["config"] == {}
    assert [entry["version"] for entry in facts["pythons"]] == ["3.10.1"]
    assert list(facts["deployed"]["instances"]) == ["a"]
    assert facts["nvcc"]["service_path"] == "/bin"


def test_vllm_probe_names_every_relative_path_at_once(run):
    result = run("vllm_probe", machine(), paths=["a", "/b"], models=["c"], etc_dir="d")
    assert result["msg"] == "Give absolute paths. Not absolute: paths: a, models: c, etc_dir: d"


@pytest.mark.parametrize("name", NAMES)
def test_documentation_and_arguments_agree(name):
    spec = asked_for(importlib.import_module(f"{MODULES}.{name}"))
    options = documented(name)["DOCUMENTATION"]["options"]
    assert options.keys() == spec["argument_spec"].keys()
    for option, argument in spec["argument_spec"].items():
        assert options[option]["type"] == argument["type"]
        assert options[option].get("default") == argument.get("default")
        assert options[option].get("elements") == argument.get("elements")
        assert list(options[option].get("choices", [])) == argument.get("choices", [])
    assert spec["supports_check_mode"] is True


@pytest.mark.parametrize("name", NAMES)
def test_what_is_returned_is_documented(run, name):
    result = finished(run(name, machine()))
    said = documented(name)
    assert said["RETURN"].keys() == result.keys() - {"changed", "invocation"}
    assert any(f"compute_plane.vllm.{name}" in task for task in said["EXAMPLES"])


def test_the_parts_of_facts_are_documented(run):
    for name, key in (("vllm_probe", "facts"), ("nvcc_info", "nvcc")):
        parts = documented(name)["RETURN"][key]["contains"]
        assert parts.keys() == finished(run(name, machine()))[key].keys()
    told = documented("gpu_info")["RETURN"]
    assert told["driver"]["contains"].keys() == run("gpu_info", machine())["driver"].keys()
    from ansible_collections.compute_plane.vllm.plugins.module_utils.gpu import nvml

    assert told["gpus"]["contains"].keys() == nvml.empty_gpu(0).keys()


def test_vllm_probe_asks_for_what_reads_nvidia_smi_where_that_was_not_sent(run, monkeypatch):
    def not_sent(name):
        raise late.CodeNeeded(name)

    monkeypatch.setattr(f"{UTILS}.probe.late", not_sent)
    assert "needs_code" not in run("vllm_probe", machine())
    host = machine(programs={"/usr/bin/nvidia-smi": ok("")})
    assert run("vllm_probe", host).items() >= {**late.ASKS, "failed": True}.items()
