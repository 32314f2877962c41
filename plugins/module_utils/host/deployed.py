# Copyright: (c) 2026, compute_plane.vllm contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What this collection has put on the host before: tools, proved releases, instances."""

from __future__ import annotations

import json
import re
from typing import Any
from urllib.parse import urlsplit

from ansible_collections.compute_plane.vllm.plugins.module_utils.common.directories import PROVED
from ansible_collections.compute_plane.vllm.plugins.module_utils.host.machine import Host, Running
from ansible_collections.compute_plane.vllm.plugins.module_utils.host.units import parse_show

UNIT_DIR = "/etc/systemd/system"
POWER_UNIT = f"{UNIT_DIR}/vllm-power.service"
RECOVERY_UNIT = f"{UNIT_DIR}/vllm-gpu-recovery.service"
"""The unit of the role vllm_gpu."""
MEASURED = "measured.json"
_SYSTEMCTL = ("/usr/bin/systemctl", "/bin/systemctl")
_UNIT = re.compile(r"^vllm@(?P<name>.+)\.service$")
_PROPERTIES = "Id,LoadState,ActiveState,SubState,MainPID,UnitFileState,ExecStart,Environment,User"


def unit_name(instance: str) -> str:
    """Name of an instance's unit."""
    return f"vllm@{instance}.service"


def port_in_config(text: str) -> int | None:
    """The port in an instance's vLLM configuration, a flat YAML mapping that we wrote."""
    match = re.search(r"^port:\s*[\"']?(\d+)[\"']?\s*(?:#.*)?$", text, re.MULTILINE)
    return int(match.group(1)) if match else None


def port_in_record(text: str) -> int | None:
    """The port in an instance's endpoint record, which other users than root may read too."""
    try:
        port: int | None = urlsplit(json.loads(text)["url"]).port
    except (ValueError, LookupError, TypeError, AttributeError):
        return None
    return port


def venv_in(text: str, opt_dir: str) -> str | None:
    """The first release directory that a command line or unit file mentions, else None."""
    match = re.search(re.escape(opt_dir.rstrip("/")) + r"/releases/[^/\s\"';:=]+", text)
    return match.group(0) if match else None


class Deployed:
    """Reads what is deployed; systemd is asked in the background while other facts are read.

    Args:
        host: The machine.
        opt_dir: Where tools and releases are, /opt/vllm by default.
        etc_dir: Where the instances' configurations are, /etc/vllm by default.
        state_dir: Where it is kept what engines measured, /var/lib/vllm by default.
    """

    def __init__(
        self,
        host: Host,
        opt_dir: str = "/opt/vllm",
        etc_dir: str = "/etc/vllm",
        state_dir: str = "/var/lib/vllm",
    ) -> None:
        self._host = host
        self._state_dir = state_dir.rstrip("/")
        self._opt_dir = opt_dir.rstrip("/")
        self._etc_dir = etc_dir.rstrip("/")
        self._enabled = set()
        for unit in host.listdir(f"{UNIT_DIR}/multi-user.target.wants"):
            match = _UNIT.match(unit)
            if match:
                self._enabled.add(match.group("name"))
        configured = {
            name[: -len(".yaml")]
            for name in host.listdir(self._etc_dir)
            if name.endswith(".yaml") and not name.startswith(".")
        }
        self._names = self._enabled | configured
        self._show: Running | None = None
        # A host without instances starts no program for them.
        if self._names and host.is_dir("/run/systemd/system"):
            units = [unit_name(name) for name in sorted(self._names)]
            for path in _SYSTEMCTL:
                if host.is_executable(path):
                    # The pattern adds units that run although their files are gone.
                    argv = [path, "show", "--property", _PROPERTIES, "--", *units, "vllm@*.service"]
                    self._show = host.start(argv, timeout=15.0)
                    break

    def _releases(self) -> list[dict[str, Any]]:
        """Every release's virtual environment with its proof."""
        found = []
        directory = f"{self._opt_dir}/releases"
        for name in self._host.listdir(directory):
            path = f"{directory}/{name}"
            if name.startswith(".") or not self._host.is_dir(path):
                continue
            manifest = None
            try:
                read = json.loads(self._host.read_text(f"{path}/{PROVED}") or "")
                manifest = read if isinstance(read, dict) else None
            except ValueError:
                pass  # absent or half-written: not proved
            found.append(
                {"path": path, "name": name, "proved": manifest is not None, "manifest": manifest}
            )
        return found

    def _instance(self, name: str, shown: dict[str, str]) -> dict[str, Any]:
        """One entry of `instances`."""
        unit = unit_name(name)
        read = self._host.read_text
        config = read(f"{self._etc_dir}/{name}.yaml") or ""
        drop_ins = f"{UNIT_DIR}/{unit}.d"
        texts = [shown.get("ExecStart", ""), shown.get("Environment", "")]
        texts += [read(f"{drop_ins}/{entry}") or "" for entry in self._host.listdir(drop_ins)]
        venvs = [venv for venv in (venv_in(text, self._opt_dir) for text in texts) if venv]
        pid = shown.get("MainPID", "0")
        return {
            "unit": unit,
            "active_state": shown.get("ActiveState"),
            "sub_state": shown.get("SubState"),
            "enabled": name in self._enabled or shown.get("UnitFileState") == "enabled",
            "main_pid": int(pid) if pid.isdigit() and pid != "0" else None,
            "user": shown.get("User") or None,
            "port": port_in_config(config)
            or port_in_record(read(f"{self._etc_dir}/{name}.endpoint.json") or ""),
            "venv": venvs[0] if venvs else None,
        }

    def _measured(self) -> list[dict[str, Any]]:
        """What engines measured, oldest first (`deploy/measured.py`)."""
        try:
            rows = json.loads(self._host.read_text(f"{self._state_dir}/{MEASURED}") or "")["rows"]
        except (ValueError, LookupError, TypeError):
            return []
        return [row for row in rows if isinstance(row, dict)] if isinstance(rows, list) else []

    def result(self) -> dict[str, Any]:
        """Reads `facts.deployed`.

        Returns:
            tools (path, None unless its Python is there), releases [{path, name, proved,
            manifest}], instances by name: unit, active_state, sub_state (None where systemd does
            not run), enabled, main_pid, user, port, venv; measured, what engines measured;
            power_unit and recovery_unit, whether a unit of ours limits the power of cards or
            brings them back.
        """
        units = parse_show(self._show.result().stdout) if self._show is not None else {}
        names = set(self._names)
        for unit in units:
            match = _UNIT.match(unit)
            if match:
                names.add(match.group("name"))
        tools = f"{self._opt_dir}/tools"
        return {
            "tools": tools if self._host.is_executable(f"{tools}/bin/python") else None,
            "releases": self._releases(),
            "measured": self._measured(),
            "power_unit": self._host.is_file(POWER_UNIT),
            "recovery_unit": self._host.is_file(RECOVERY_UNIT),
            "instances": {
                name: self._instance(name, units.get(unit_name(name), {})) for name in sorted(names)
            },
        }
