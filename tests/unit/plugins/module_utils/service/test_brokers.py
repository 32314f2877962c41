# Copyright: (c) 2026, compute_plane.vllm contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The brokers of a host, with real files and a systemd that holds ports and knows who runs."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from ansible_collections.compute_plane.vllm.plugins.module_utils.deploy.deployment import Deployment
from ansible_collections.compute_plane.vllm.plugins.module_utils.deploy.systemd import (
    FINGERPRINT,
    listen_stream,
)
from ansible_collections.compute_plane.vllm.plugins.module_utils.service import change
from ansible_collections.compute_plane.vllm.plugins.module_utils.service.brokers import Brokers
from ansible_collections.compute_plane.vllm.plugins.module_utils.service.failures import TaskFailed
from ansible_collections.compute_plane.vllm.plugins.module_utils.service.manager import Manager
from ansible_collections.compute_plane.vllm.plugins.module_utils.service.paths import Paths

if TYPE_CHECKING:
    from .conftest import Host


class Systemd(Manager):
    """As much of systemd as sockets and brokers need.

    Attributes:
        listening: What each socket unit that is active listens on.
        brokers: The fingerprint of each broker that runs.
        servers: Ports that servers hold by themselves, by their unit.
        enabled: Units that start at boot.
        done: The commands, in order.
    """

    def __init__(self, paths: Paths) -> None:
        super().__init__(lambda *_arguments, **_more: (0, "", ""))
        self.paths = paths
        self.listening: dict[str, str] = {}
        self.brokers: dict[str, str] = {}
        self.servers: dict[str, str] = {}
        self.enabled: set[str] = set()
        self.done: list[str] = []

    def systemctl(self, *arguments: str, check: bool = True) -> str:
        verb, unit = arguments[0], arguments[-1]
        if verb == "show":
            listens = self.listening.get(unit)
            shown = "" if listens is None else f"Listen={listens} (Stream)\n"
            state = "inactive" if listens is None else "active"
            return f"Id={unit}\nActiveState={state}\n{shown}"
        self.done.append(f"{verb} {unit}")
        if verb == "enable":
            self.enabled.add(unit)
        elif verb == "disable":
            self.enabled.discard(unit)
            self._stop(unit)
        elif verb == "stop":
            self._stop(unit)
        elif verb in ("start", "restart") and unit.endswith(".socket"):
            text = Path(self.paths.unit_dir, unit).read_text()
            wanted = re.search("^ListenStream=(.*)$", text, re.MULTILINE)
            service = re.search("^Service=(.*)$", text, re.MULTILINE)
            assert wanted
            assert service
            self._stop(unit)
            if wanted[1] not in self.servers.values() and service[1] not in self.brokers:
                self.listening[unit] = wanted[1]
            elif check:
                raise TaskFailed(f"{unit}: it is in use")
        elif verb == "start":
            sockets, fingerprint = self._broker(unit)
            assert all(socket in self.listening for socket in sockets), "a socket is missing"
            self.brokers[unit] = fingerprint
        else:
            assert verb in ("daemon-reload", "reset-failed", "clean")
        return ""

    def _broker(self, unit: str) -> tuple[list[str], str]:
        text = Path(self.paths.unit_dir, f"{unit}.d", "10-compute-plane.conf").read_text()
        sockets = re.search("^Sockets=(.*)$", text, re.MULTILINE)
        fingerprint = re.search(f"{FINGERPRINT}=([0-9a-f]+)", text)
        assert sockets
        assert fingerprint
        return sockets[1].split(), fingerprint[1]

    def _stop(self, unit: str) -> None:
        self.listening.pop(unit, None)
        self.brokers.pop(unit, None)
        self.servers.pop(unit, None)

    def show(self, units: Any) -> dict[str, dict[str, str]]:
        active = {*self.listening, *self.brokers, *self.servers}
        return {
            unit: {"Id": unit, "ActiveState": "active" if unit in active else "inactive"}
            for unit in units
        }

    def environ(self, state: dict[str, str]) -> bytes | None:
        fingerprint = self.brokers.get(state["Id"])
        return None if fingerprint is None else f"{FINGERPRINT}={fingerprint}\0".encode()


class Place:
    """A host of which only brokers are of interest."""

    def __init__(self, host: Host) -> None:
        self.host = host
        self.systemd = Systemd(host.paths)
        self.brokers = Brokers(host.paths, self.systemd, "[Service]\nType=notify\n")

    def deployment(
        self, name: str, port: int = 8000, share: str = "gpu0", **more: Any
    ) -> Deployment:
        uds = f"/run/vllm/{name}/server.sock"
        told = {"share": share, "idle_after": 900, "wake_timeout": 300}
        told |= {"size": {"cpu": 1}, "room": {"cpu": 1}, **more}
        return self.host.deployment(
            name=name,
            config={"model": "/srv/m", "host": "127.0.0.1", "port": port, "uds": uds},
            on_demand=told,
        )

    def install(self, *deployments: Deployment) -> list[str]:
        """Write their files and arrange; returns what systemd was told."""
        for wanted in deployments:
            for file in self.host.installed.instance(wanted):
                file.write()
        self.systemd.done.clear()
        self.brokers.arrange()
        return self.systemd.done


@pytest.fixture
def place(host: Host) -> Place:
    return Place(host)


def test_ports_are_held_and_the_broker_of_the_share_is_given_them(place: Place) -> None:
    place.install(place.deployment("a"), place.deployment("b", 8001))
    assert place.systemd.listening == {
        "vllm@a.socket": "127.0.0.1:8000",
        "vllm@b.socket": "127.0.0.1:8001",
    }
    assert list(place.systemd.brokers) == ["vllm-broker@gpu0.service"]
    assert place.systemd.enabled == {
        "vllm@a.socket",
        "vllm@b.socket",
        "vllm-broker@gpu0.service",
    }
    told = json.loads(Path(place.host.paths.demand("a")).read_text())
    assert (told["uds"], told["share"], told["idle_after"]) == (
        "/run/vllm/a/server.sock",
        "gpu0",
        900,
    )


def test_what_is_as_it_should_be_is_left_alone(place: Place) -> None:
    place.install(place.deployment("a"), place.deployment("b", 8001))
    assert place.brokers.wrong() == []
    assert place.install(place.deployment("a"), place.deployment("b", 8001)) == []


def test_a_broker_that_was_stopped_is_started_again(place: Place) -> None:
    place.install(place.deployment("a"))
    place.systemd.brokers.clear()
    assert place.brokers.wrong() == ["gpu0"]
    place.install()
    assert list(place.systemd.brokers) == ["vllm-broker@gpu0.service"]


def test_another_time_restarts_the_broker_and_moves_no_port(place: Place) -> None:
    place.install(place.deployment("a"))
    before = dict(place.systemd.brokers)
    done = place.install(place.deployment("a", idle_after=60))
    assert place.systemd.brokers != before
    assert not any("socket" in command for command in done)


def test_another_port_is_held_instead(place: Place) -> None:
    place.install(place.deployment("a"))
    place.install(place.deployment("a", 8005))
    assert place.systemd.listening == {"vllm@a.socket": "127.0.0.1:8005"}


def test_a_server_that_held_the_port_by_itself_is_stopped_for_it(place: Place) -> None:
    place.systemd.servers["vllm@a.service"] = "127.0.0.1:8000"
    done = place.install(place.deployment("a"))
    assert "stop vllm@a.service" in done
    assert place.systemd.listening == {"vllm@a.socket": "127.0.0.1:8000"}


def test_the_last_of_a_share_takes_its_broker_along(place: Place) -> None:
    wanted = place.deployment("a")
    place.install(wanted, place.deployment("b", 8001, share="b"))
    place.brokers.release("a")
    for file in place.host.installed.demand(place.host.deployment(name="a")):
        file.write()
    place.install()
    assert list(place.systemd.brokers) == ["vllm-broker@b.service"]
    assert place.systemd.enabled == {"vllm@b.socket", "vllm-broker@b.service"}
    assert not Path(place.host.paths.broker_drop_in("gpu0")).exists()


@pytest.mark.parametrize(
    ("host", "stream"),
    [
        ("127.0.0.1", "127.0.0.1:8000"),
        ("localhost", "127.0.0.1:8000"),
        ("::", "[::]:8000"),
        ("0.0.0.0", "0.0.0.0:8000"),
    ],
)
def test_an_address_as_systemd_writes_it(host: str, stream: str) -> None:
    assert listen_stream(host, 8000) == stream


# -- what a run of the site playbook asks of one that is asleep ------------------------------------


def told(host: Host, name: str, state: str) -> None:
    path = Path(host.paths.run_dir, name, "state.json")
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps({"state": state, "summary": "x"}))


def test_one_that_is_asleep_is_not_woken_to_be_confirmed(
    place: Place, host: Host, monkeypatch: pytest.MonkeyPatch
) -> None:
    wanted = place.deployment("a")
    told(host, "a", "asleep")
    monkeypatch.setattr(host.prover, "verified_before", lambda one: {"name": one.name})
    host.prover.brief = AssertionError("it was asked")
    assert host.changes.confirm(wanted, is_proved=True) == (0.0, {"name": "a"})


@pytest.mark.parametrize("state", ["serving", "starting"])
def test_one_that_is_awake_is_asked(place: Place, host: Host, state: str) -> None:
    told(host, "a", state)
    host.prover.brief = {"name": "a", "asked": True}
    assert host.changes.confirm(place.deployment("a"), is_proved=True)[1] == host.prover.brief


def test_one_whose_suite_is_due_is_woken(
    place: Place, host: Host, monkeypatch: pytest.MonkeyPatch
) -> None:
    told(host, "a", "asleep")
    monkeypatch.setattr(host.prover, "verified_before", lambda _one: None)
    host.prover.brief = {"name": "a", "asked": True}
    assert host.changes.confirm(place.deployment("a"), is_proved=True)[1] == host.prover.brief


def test_it_is_kept_awake_while_it_is_proved_and_no_longer(
    place: Place, host: Host, monkeypatch: pytest.MonkeyPatch
) -> None:
    wanted, seen = place.deployment("a"), []
    path = Path(host.paths.kept_awake("a"))
    path.parent.mkdir(parents=True, exist_ok=True)
    monkeypatch.setattr(host.prover, "prove", lambda _one: seen.append(path.exists()))
    monkeypatch.setattr(host.changes, "accept", lambda *_: None)
    told(host, "a", "serving")
    monkeypatch.setattr(change, "compute_once", lambda *_: None)
    host.changes.confirm(wanted, is_proved=False)
    assert (seen, path.exists()) == ([True], False)
