# Copyright: (c) 2026, compute_plane.vllm contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Where what is deployed is on the host."""

from __future__ import annotations

import dataclasses
import glob
import os
from collections.abc import Mapping
from typing import Any

DROP_IN = "10-compute-plane.conf"
"""Our part of an instance's unit; other drop-ins are the user's."""

LOCK = ".lock"


@dataclasses.dataclass(frozen=True)
class Paths:
    """The folders, and what is in them; those of the parameters of the same names.

    Attributes:
        etc_dir: Configurations, secrets and endpoint records.
        state_dir: What was proved and verified.
        unit_dir: Units.
        run_dir: What supervisors have found.
        releases_dir: The releases' virtual environments.
        supervisors_dir: Supervisors, each in a folder named by its content.
        sysusers_dir: The system users that systemd-sysusers makes.
        needrestart_dir: What needrestart leaves alone.
    """

    etc_dir: str
    state_dir: str
    unit_dir: str
    run_dir: str = "/run/vllm"
    releases_dir: str = "/opt/vllm/releases"
    supervisors_dir: str = "/opt/vllm/supervisor"
    sysusers_dir: str = "/etc/sysusers.d"
    needrestart_dir: str = "/etc/needrestart/conf.d"

    @classmethod
    def of(cls, params: Mapping[str, Any]) -> Paths:
        """Those that a module was given."""
        names = [field.name for field in dataclasses.fields(cls)]
        return cls(**{name: params[name] for name in names if name in params})

    def config(self, name: str) -> str:
        """An instance's `--config` file."""
        return os.path.join(self.etc_dir, f"{name}.yaml")

    def environment(self, name: str) -> str:
        """An instance's secrets."""
        return os.path.join(self.etc_dir, f"{name}.env")

    @property
    def template(self) -> str:
        """The template unit."""
        return os.path.join(self.unit_dir, "vllm@.service")

    def drop_in(self, name: str) -> str:
        """Our part of an instance's unit."""
        return os.path.join(self.unit_dir, f"vllm@{name}.service.d", DROP_IN)

    def configured(self) -> set[str]:
        """The names of the instances that have a configuration."""
        paths = glob.glob(os.path.join(glob.escape(self.etc_dir), "*.yaml"))
        return {os.path.basename(path)[: -len(".yaml")] for path in paths}

    def is_enabled(self, name: str) -> bool:
        """Whether an instance is started at boot."""
        wants = os.path.join(self.unit_dir, "multi-user.target.wants")
        return os.path.islink(os.path.join(wants, f"vllm@{name}.service"))

    def proved(self, name: str) -> str:
        """What was proved of an instance."""
        return os.path.join(self.state_dir, "proved", f"{name}.json")

    @property
    def trials(self) -> str:
        """Which attention backend works on this host."""
        return os.path.join(self.state_dir, "attention.json")

    @property
    def lock(self) -> str:
        """The lock of those who change what serves."""
        return os.path.join(self.run_dir, LOCK)

    def verdict(self, name: str) -> str:
        """What an instance's supervisor said last of a server that failed."""
        return os.path.join(self.run_dir, name, "verdict.json")

    def failed_starts(self, name: str) -> str:
        """What an instance's supervisor remembers of failed starts."""
        return os.path.join(self.run_dir, name, "failed-starts.json")
