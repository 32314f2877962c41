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

from ansible_collections.compute_plane.vllm.plugins.module_utils.common.directories import PROVED
from ansible_collections.compute_plane.vllm.plugins.module_utils.supervisor.control import (
    kept_path,
)
from ansible_collections.compute_plane.vllm.plugins.module_utils.supervisor.group_state import (
    GROUP_STATE,
    PROVED_GENERATION,
)

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

    def demand(self, name: str) -> str:
        """What the broker is told of an instance on demand."""
        return os.path.join(self.etc_dir, f"{name}.demand.json")

    def socket(self, name: str) -> str:
        """The unit that holds the port of an instance on demand."""
        return os.path.join(self.unit_dir, f"vllm@{name}.socket")

    @property
    def broker_template(self) -> str:
        """The template unit of the brokers."""
        return os.path.join(self.unit_dir, "vllm-broker@.service")

    def broker_drop_in(self, share: str) -> str:
        """Our part of a broker's unit."""
        return os.path.join(self.unit_dir, f"vllm-broker@{share}.service.d", DROP_IN)

    def brokers(self) -> set[str]:
        """The shares that have a broker's unit."""
        folder = os.path.join(glob.escape(self.unit_dir), "vllm-broker@*.service.d", DROP_IN)
        names = (os.path.basename(os.path.dirname(path)) for path in glob.glob(folder))
        return {name[len("vllm-broker@") : -len(".service.d")] for name in names}

    def kept_awake(self, name: str) -> str:
        """The file that has a broker keep an instance awake."""
        return kept_path(self.run_dir, name)

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

    def is_ours(self, venv: str) -> bool:
        """Whether an environment is a release that we install, not a user's own."""
        return venv.startswith(os.path.join(self.releases_dir, ""))

    def has_release(self, venv: str) -> bool:
        """Whether an environment is there: a release of ours with its proof, or a user's own."""
        return os.path.exists(os.path.join(venv, PROVED if self.is_ours(venv) else "bin/python"))

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

    def group_state(self, name: str) -> str:
        """What an instance's supervisor says of the group that it belongs to."""
        return os.path.join(self.run_dir, name, GROUP_STATE)

    def group_proof(self, name: str) -> str:
        """Where the leader's supervisor reads which configuration was verified."""
        return os.path.join(self.run_dir, name, PROVED_GENERATION)

    def failed_starts(self, name: str) -> str:
        """What an instance's supervisor remembers of failed starts."""
        return os.path.join(self.run_dir, name, "failed-starts.json")
