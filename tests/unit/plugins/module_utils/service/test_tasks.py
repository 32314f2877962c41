# Copyright: (c) 2026, compute_plane.vllm contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Whole runs of the modules that start servers, on a host whose systemd a test tells what to do."""

from __future__ import annotations

import dataclasses
import inspect
import json
import os
import threading
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from ansible_collections.compute_plane.vllm.plugins.module_utils.common import files
from ansible_collections.compute_plane.vllm.plugins.module_utils.common.lock import Asking, held
from ansible_collections.compute_plane.vllm.plugins.module_utils.deploy.deployment import (
    Deployment,
    Record,
    proved_text,
)
from ansible_collections.compute_plane.vllm.plugins.module_utils.service import services
from ansible_collections.compute_plane.vllm.plugins.module_utils.service.installed import Installed
from ansible_collections.compute_plane.vllm.plugins.module_utils.service.supervisors import (
    content_name,
    is_whole,
)
from ansible_collections.compute_plane.vllm.plugins.module_utils.supervisor import process
from ansible_collections.compute_plane.vllm.plugins.modules import vllm_rollback, vllm_service
from ansible_collections.compute_plane.vllm.plugins.plugin_utils import code, supervisor

from .conftest import GROUP, UNIT, Asked, Host

if TYPE_CHECKING:
    import contextlib

    Task = Callable[..., dict[str, Any]]


class Ended(Exception):
    """What the fake module ends with."""


class Module:
    """As much of AnsibleModule as these tasks need."""

    def __init__(self, host: Host, check: bool, **params: Any) -> None:
        self.check_mode = check
        self.warnings: list[str] = []
        self.params = {
            **{name: option.get("default") for name, option in services.ARGUMENTS.items()},
            **dataclasses.asdict(host.paths),
            "user": GROUP,
            "batch": [],
            **params,
        }

    def run_command(self, command: list[str]) -> None:
        raise AssertionError(command)

    def warn(self, message: str) -> None:
        self.warnings.append(message)

    def exit_json(self, **result: Any) -> None:
        raise Ended(result)

    fail_json = exit_json


def tell(host: Host, monkeypatch: pytest.MonkeyPatch) -> None:
    """Put what the test tells in the place of systemd, the time and the servers."""
    monkeypatch.setattr(services, "Manager", lambda _run: host.systemd)
    monkeypatch.setattr(services, "Clock", lambda: host.time.clock)
    monkeypatch.setattr(services, "Prover", lambda *_: host.prover)
    monkeypatch.setattr(Installed, "endpoint", lambda _, wanted, __: Asked(host, wanted))
    monkeypatch.setattr(host.prover, "suite", lambda _: [])


@pytest.fixture
def task(host: Host, monkeypatch: pytest.MonkeyPatch) -> Task:
    """Runs a module's task."""
    folder = os.path.join(host.paths.supervisors_dir, "0")
    tell(host, monkeypatch)
    monkeypatch.setattr(Installed, "supervisor", lambda _: (folder, {"__main__.py": "\n"}))

    def run(kind: Any, check: bool = False, warns: bool = False, **params: Any) -> dict[str, Any]:
        module = Module(host, check, **params)
        with pytest.raises(Ended) as ended:
            services.run(module, kind, alone=True)  # type: ignore[arg-type]
        result: dict[str, Any] = ended.value.args[0]
        assert bool(module.warnings) == warns, module.warnings
        return {**result, "warnings": module.warnings} if warns else result

    return run


def site(length: int = 1024, venv: str = "/opt/vllm/releases/r1", **changes: Any) -> dict[str, Any]:
    """The parameters that the role gives the module."""
    instance = {
        "name": "m",
        "kind": "chat",
        "venv": venv,
        "repository": None,
        "revision": None,
        "config": {"model": "/srv/m", "port": 8000, "max-model-len": length},
        "environment": {},
        "limits": {},
        "attention": None,
        "url": "http://127.0.0.1:8000",
        "served_model_name": "m",
    }
    return {
        "release": "0.14.1",
        "accelerator": "cpu",
        "unit": UNIT,
        "instances": [instance],
        "removed_instances": [],
        "known_instances": None,
        "keep_releases": 2,
        "start_stall": 120,
        "starts": 5,
        "keep_supervisor": True,
        "truthful_health": True,
        "gpu_lost": "fail",
        "device_policy": "closed",
        **changes,
    }


def schema_1(one: Deployment) -> dict[str, Any]:
    """A deployment as records of schema 1 had it, whose texts were the same (deploy/)."""
    same = ("name", "release", "venv", "unit", "fingerprint", "url", "served_model_name")
    texts = {"config": one.config_text, "drop_in": one.drop_in_text}
    return {
        **{name: getattr(one, name) for name in same},
        **texts,
        "max_model_len": one.max_model_len,
    }


SITE, ROLLBACK = vllm_service.bring_about, vllm_rollback.roll_back


def fingerprint_of(task: Task, wanted: dict[str, Any]) -> str:
    """What a configuration will be known by: from the difference that check mode shows."""
    texts = [one["after"] for one in task(SITE, check=True, **wanted)["diff"]]
    (drop_in,) = (text for text in texts if "COMPUTE_PLANE_FINGERPRINT=" in text)
    return str(drop_in.split("COMPUTE_PLANE_FINGERPRINT=")[1][:16])


def test_a_first_run_starts_and_a_second_changes_nothing(host: Host, task: Task) -> None:
    before = task(SITE, check=True, **site())
    assert (before["changed"], before["instances"][0]["started"]) == (True, "it is inactive")
    assert host.systemd.done == []
    assert not Path(host.paths.etc_dir).exists()

    first = task(SITE, **site())
    assert first["changed"]
    assert first["instances"][0]["ready_seconds"] == 40.0
    assert {os.path.basename(one["after_header"]) for one in first["diff"]} >= {
        *("m.yaml", "10-compute-plane.conf", "vllm@.service", "__main__.py"),
        "compute_plane.vllm.conf",
    }

    host.prover.brief = {"name": "m"}
    done = list(host.systemd.done)
    second = task(SITE, **site())
    assert (second["changed"], second["diff"], second["verified"]) == (False, [], [{"name": "m"}])
    assert second["instances"][0]["started"] is None
    assert host.systemd.done == done


def test_a_server_makes_room_on_its_gpu_before_another_starts_there(host: Host, task: Task) -> None:
    def wants(*instances: tuple[str, float]) -> dict[str, Any]:
        (pattern,) = site()["instances"]
        rows = [
            {
                **pattern,
                "name": name,
                "config": {**pattern["config"], "gpu-memory-utilization": share},
                "environment": {"CUDA_VISIBLE_DEVICES": "GPU-1"},
            }
            for name, share in instances
        ]
        return site(accelerator="cuda", instances=rows)

    def restarted() -> list[str]:
        return [done.split()[-1] for done in host.systemd.done if done.startswith("restart")]

    task(SITE, **wants(("m", 0.85)))
    assert "After=" not in Path(host.paths.drop_in("m")).read_text()
    task(SITE, **wants(("a", 0.4), ("m", 0.4)))
    assert restarted() == ["vllm@m.service", "vllm@m.service", "vllm@a.service"]
    assert "After=" not in Path(host.paths.drop_in("a")).read_text()
    assert "After=vllm@a.service\n" in Path(host.paths.drop_in("m")).read_text()


def test_a_host_of_schema_1_is_not_touched_and_can_go_back(host: Host, task: Task) -> None:
    release = Path(host.paths.releases_dir, "r1")
    release.mkdir(parents=True)
    (release / ".proved.json").write_text('{"proved_at": "2026-01-01T00:00:00+00:00"}')
    task(SITE, **site(venv=str(release)))
    task(SITE, **site(2048, venv=str(release)))
    record = host.changes.record("m")
    assert record is not None
    assert record.previous is not None
    path = Path(host.paths.proved("m"))
    old = {"current": schema_1(record.current), "previous": schema_1(record.previous)}
    path.write_text(json.dumps({"schema": 1, **old}))

    host.prover.brief = {"name": "m"}
    done = list(host.systemd.done)
    again = task(SITE, **site(2048, venv=str(release)))
    assert (again["changed"], again["diff"]) == (False, [])
    assert host.systemd.done == done
    assert json.loads(path.read_text())["schema"] == 1

    back = task(ROLLBACK, instances=[])
    assert back["changed"]
    assert back["instances"][0]["ready_seconds"] == 40.0
    assert host.on_disk() == 1024
    assert path.read_text() == proved_text(Record(record.previous, record.current))


def test_a_newer_supervisor_comes_with_the_next_change(
    host: Host, task: Task, monkeypatch: pytest.MonkeyPatch
) -> None:
    def brings(text: str) -> str:
        texts = {"__main__.py": text, "supervisor/__init__.py": ""}
        folder = os.path.join(host.paths.supervisors_dir, content_name(texts))
        monkeypatch.setattr(Installed, "supervisor", lambda _: (folder, texts))
        return folder

    def runs() -> str:
        record = host.changes.record("m")
        assert record is not None
        return record.current.supervisor

    old = brings("old\n")
    task(SITE, **site())
    host.prover.brief = {"name": "m"}
    new = brings("new\n")
    again = task(SITE, **site())
    assert (again["changed"], again["diff"], runs()) == (False, [], old)
    assert not Path(new).exists()

    assert task(SITE, **site(keep_supervisor=False))["changed"]
    assert runs() == new
    newer = brings("newer\n")
    task(SITE, **site(2048))
    assert (runs(), Path(newer, "__main__.py").read_text()) == (newer, "newer\n")

    # One that is not whole any more is replaced, and the server starts with one that is.
    newest = brings("newest\n")
    Path(newer, "__main__.py").write_text("cut o")
    assert task(SITE, **site(2048))["instances"][0]["started"] == "its configuration has changed"
    assert runs() == newest


def test_a_host_without_the_supervisor_asks_for_it_once_and_has_changed_nothing(
    host: Host, task: Task, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.undo()
    monkeypatch.setattr(files, "OWNER", os.geteuid())
    monkeypatch.setattr(files, "GROUP", GROUP)
    tell(host, monkeypatch)
    sent = tmp_path / "code.zip"
    sent.write_bytes(code.archive())
    newest = {"supervisor": supervisor.name(), "code_archive": None}
    for check in (True, False):
        asks = task(SITE, check=check, **site(), **newest)
        assert asks["needs_code"]
    assert (host.systemd.done, Path(host.paths.etc_dir).exists()) == ([], False)

    release = Path(host.paths.releases_dir, "r1")
    release.mkdir(parents=True)
    (release / ".proved.json").write_text("{}")
    venv = str(release)
    with_it = {**newest, "code_archive": str(sent)}
    assert task(SITE, **site(venv=venv), **with_it)["changed"]
    folder = Path(host.paths.supervisors_dir, supervisor.name())
    assert is_whole(str(folder))
    assert (folder / "supervisor" / "process.py").read_text() == inspect.getsource(process)

    host.prover.brief = {"name": "m"}
    assert not task(SITE, **site(venv=venv), **newest)["changed"]
    # What is damaged is asked for again, and a rollback asks before it stops anything.
    task(SITE, **site(2048, venv=venv), **newest)
    (folder / "supervisor" / "port.py").write_text("cut o")
    done = list(host.systemd.done)
    assert task(ROLLBACK, instances=[], **newest)["needs_code"]
    assert task(SITE, **site(2048, venv=venv), **newest)["needs_code"]
    assert host.systemd.done == done
    assert task(ROLLBACK, instances=[], **with_it)["changed"]
    assert is_whole(str(folder))


def test_what_does_not_come_up_ends_the_task_with_the_former_serving(
    host: Host, task: Task
) -> None:
    task(SITE, **site())
    host.prover.untrue.add(fingerprint_of(task, site(2048)))
    failed = task(SITE, **site(2048))
    assert failed["msg"].endswith("The former configuration of m is serving again (vLLM 0.14.1).")
    (instance,) = failed["instances"]
    assert (instance["started"], instance["evidence"]["url"]) == (
        "its configuration has changed",
        "http://127.0.0.1:8000",
    )
    assert host.on_disk() == 1024


def test_the_backend_that_works_is_found_once(host: Host, task: Task) -> None:
    attention = {"mechanism": "flag", "key": "attention-backend", "trial": ["A", "B"]}
    wanted = site()
    wanted["instances"][0]["attention"] = attention
    host.systemd.ends[fingerprint_of(task, wanted)] = "no_nvcc"
    found = task(SITE, **wanted)["instances"][0]
    assert [one["backend"] for one in found["attention_backends"]] == ["A", "B"]
    record = host.changes.record("m")
    assert record is not None
    assert (record.current.attention_backend, record.current.config["attention-backend"]) == (
        "B",
        "B",
    )
    starts = [one for one in host.systemd.done if one.startswith("restart")]
    host.prover.brief = {"name": "m"}
    assert task(SITE, **wanted)["changed"] is False
    assert [one for one in host.systemd.done if one.startswith("restart")] == starts


def test_an_instance_that_is_no_longer_wanted_is_removed(host: Host, task: Task) -> None:
    task(SITE, **site())
    gone = task(SITE, **site(instances=[], removed_instances=["m"]))
    assert gone["changed"]
    assert os.listdir(host.paths.etc_dir) == []
    assert host.systemd.state == "inactive"


def test_what_cannot_be_gone_back_to_is_told(host: Host, task: Task) -> None:
    assert "no instance of this host" in task(ROLLBACK, instances=[])["msg"]
    task(SITE, **site())
    assert (
        "nothing was proved before the present deployment of m"
        in (task(ROLLBACK, instances=["m"])["msg"])
    )
    task(SITE, **site(2048))
    assert "is not there any more" in task(ROLLBACK, instances=[])["msg"]
    assert host.on_disk() == 2048


def test_a_key_that_no_file_can_have_is_told_before_anything_changes(
    host: Host, task: Task
) -> None:
    message = task(SITE, **site(), api_keys={"m": "geheim\n"})["msg"]
    assert message == (
        "vllm_service_api_keys.m: control character in the value of VLLM_API_KEY; use another key"
    )
    assert not Path(host.paths.etc_dir).exists()
    assert host.systemd.done == []


# -- another run at the same time ------------------------------------------------------------------


def other_run(host: Host) -> contextlib.AbstractContextManager[Any]:
    """Another run that changes what serves on this host."""
    return held(
        host.paths.lock, "it", Asking("alice@laptop with site.yml", 0, lambda *_, **__: None)
    )


@pytest.mark.parametrize(("kind", "params"), [(SITE, site()), (ROLLBACK, {"instances": []})])
def test_while_another_run_changes_the_host_nothing_is_changed(
    host: Host, task: Task, kind: Any, params: dict[str, Any]
) -> None:
    with other_run(host):
        ended = task(kind, **params, lock_timeout=0)
        assert "the servers of this host: changed right now by alice@laptop with" in ended["msg"]
        assert "since" in ended["msg"]
        assert not Path(host.paths.etc_dir).exists()
        assert host.systemd.done == []


def test_check_mode_waits_for_nobody_and_locks_nothing(host: Host, task: Task) -> None:
    with other_run(host):
        assert task(SITE, check=True, **site(), lock_timeout=0)["changed"]
    assert not Path(host.paths.lock).read_text()


def test_what_another_run_did_meanwhile_is_seen_after_the_wait(host: Host, task: Task) -> None:
    """The second decides by what there is when its turn comes, not by what there was."""
    task(SITE, **site(1024))
    entered, done = threading.Event(), list[dict[str, Any]]()

    def second() -> None:
        done.append(task(SITE, **site(2048)))

    with other_run(host):
        waiting = threading.Thread(target=second)
        waiting.start()
        entered.wait(0.3)
        assert done == []
        # The other run deploys just that.
        services_run(host, site(2048))
    waiting.join()
    assert (done[0]["changed"], host.on_disk()) == (False, 2048)


def services_run(host: Host, params: dict[str, Any]) -> None:
    """The module's own work, by a run that has the lock."""
    with pytest.raises(Ended):
        services.run(Module(host, False, **params), SITE)  # type: ignore[arg-type]


def test_what_another_run_has_deployed_since_goes_if_it_is_not_wanted(
    host: Host, task: Task
) -> None:
    task(SITE, **site())
    wanted = site(instances=[], known_instances=[])
    assert task(SITE, check=True, warns=True, **wanted)["changed"]
    gone = task(SITE, warns=True, **wanted)
    assert gone["changed"]
    assert gone["warnings"][0].startswith("m: deployed by another run since this one was planned")
    assert os.listdir(host.paths.etc_dir) == []
    # One that was there when the run was planned, and is not among the removed, is left alone.
    task(SITE, **site())
    assert not task(SITE, **site(instances=[], known_instances=["m"]))["changed"]


def test_a_release_that_another_run_has_removed_is_told(host: Host, task: Task) -> None:
    venv = f"{host.paths.releases_dir}/r2"
    ended = task(SITE, **site(venv=venv))
    assert f"{venv}: another run has removed it" in ended["msg"]
    assert "run again" in ended["msg"]
    assert not Path(host.paths.etc_dir).exists()


def test_a_result_names_the_deployment(host: Host, task: Task) -> None:
    wanted = fingerprint_of(task, site())
    assert task(SITE, **site())["instances"][0]["fingerprint"] == wanted
