# Copyright: (c) 2026, compute_plane.vllm contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The brokers of instances on demand, brought to what the host's files say of these.

A broker is given its sockets when it starts, so a change of its share restarts it; systemd holds
the ports meanwhile.
"""

from __future__ import annotations

import glob
import json
import os
from collections.abc import Mapping
from typing import Any

from ansible_collections.compute_plane.vllm.plugins.module_utils.common.files import File
from ansible_collections.compute_plane.vllm.plugins.module_utils.common.texts import read
from ansible_collections.compute_plane.vllm.plugins.module_utils.deploy.systemd import (
    FINGERPRINT,
    broker_drop_in,
    variable,
)
from ansible_collections.compute_plane.vllm.plugins.module_utils.host.units import parse_show
from ansible_collections.compute_plane.vllm.plugins.module_utils.service.manager import Manager
from ansible_collections.compute_plane.vllm.plugins.module_utils.service.paths import Paths


def shares(texts: Mapping[str, str]) -> dict[str, list[dict[str, Any]]]:
    """The instances on demand by their share, and in it by their name.

    Args:
        texts: The files that say what a broker is told, with the unit of its socket as `socket`.
    """
    found: dict[str, list[dict[str, Any]]] = {}
    for text in texts.values():
        told = json.loads(text)
        found.setdefault(told["share"], []).append(told)
    return {
        share: sorted(members, key=lambda one: str(one["name"]))
        for share, members in sorted(found.items())
    }


class Brokers:
    """The brokers of this host.

    Args:
        paths: Where the files are.
        manager: systemd.
        template: The text of their template unit; `None` leaves the one that there is.
    """

    def __init__(self, paths: Paths, manager: Manager, template: str | None) -> None:
        self.paths = paths
        self.manager = manager
        self.template = template

    def _members(self) -> dict[str, list[dict[str, Any]]]:
        pattern = os.path.join(glob.escape(self.paths.etc_dir), "*.demand.json")
        found = shares({path: read(path) or "" for path in glob.glob(pattern)})
        for members in found.values():
            for one in members:
                one["socket"] = read(self.paths.socket(one["name"])) or ""
        return found

    def _files(self, members: Mapping[str, list[dict[str, Any]]]) -> list[File]:
        files = [
            File(self.paths.broker_drop_in(share), broker_drop_in(share, these))
            for share, these in members.items()
        ]
        if members and self.template is not None:
            files.append(File(self.paths.broker_template, self.template))
        gone = [File(self.paths.broker_drop_in(one), None) for one in self.paths.brokers()]
        return [*files, *(one for one in gone if one.path not in {file.path for file in files})]

    def _runs(self, share: str) -> bool:
        """Whether a broker runs as its unit says."""
        unit = f"vllm-broker@{share}.service"
        environ = self.manager.environ(self.manager.show([unit])[unit])
        text = read(self.paths.broker_drop_in(share)) or ""
        running = variable(environ, FINGERPRINT)
        return running is not None and f'"{FINGERPRINT}={running}"' in text

    def wrong(self) -> list[str]:
        """What of the brokers is not as the files of the instances say; empty for nothing."""
        members = self._members()
        told = [file.path for file in self._files(members) if not file.is_right()]
        return told + [share for share in members if not self._runs(share)]

    def release(self, name: str) -> None:
        """Give the port of an instance back that is no longer on demand, or goes."""
        if os.path.exists(self.paths.socket(name)):
            socket = os.path.basename(self.paths.socket(name))
            self.manager.systemctl("disable", "--quiet", "--now", socket)

    def arrange(self) -> None:
        """Bring all about: brokers that go, files, and each that does not run as it should."""
        if not self.wrong():
            return
        members = self._members()
        for share in sorted(self.paths.brokers() - set(members)):
            self.manager.systemctl("disable", "--quiet", "--now", f"vllm-broker@{share}.service")
        for file in self._files(members):
            if not file.is_right():
                file.write()
        self.manager.systemctl("daemon-reload")
        going = [share for share in members if not self._runs(share)]
        for share in going:
            # systemd opens no socket of a service that runs.
            self.manager.systemctl("stop", f"vllm-broker@{share}.service")
        for share in going:
            self._open(members[share])
            self.manager.systemctl("enable", "--quiet", f"vllm-broker@{share}.service")
            self.manager.systemctl("reset-failed", f"vllm-broker@{share}.service", check=False)
            self.manager.systemctl("start", f"vllm-broker@{share}.service")

    def _open(self, members: list[dict[str, Any]]) -> None:
        """Have systemd hold the ports, as the units say now."""
        for one in members:
            socket = os.path.basename(self.paths.socket(one["name"]))
            shown = parse_show(
                self.manager.systemctl("show", "--property", "Id,ActiveState,Listen", socket)
            )[socket]
            # ListenStream=127.0.0.1:8000 is shown as 127.0.0.1:8000 (Stream).
            listens = shown.get("Listen", "").partition(" ")[0]
            if shown.get("ActiveState") == "active" and f"={listens}\n" in one["socket"]:
                continue
            self.manager.systemctl("restart", socket, check=False)
            state = self.manager.show([socket])[socket]
            if state.get("ActiveState") != "active":
                # A server that listens on the port by itself, until now.
                self.manager.systemctl("stop", f"vllm@{one['name']}.service")
                self.manager.systemctl("reset-failed", socket, check=False)
                self.manager.systemctl("restart", socket)
            self.manager.systemctl("enable", "--quiet", socket)
