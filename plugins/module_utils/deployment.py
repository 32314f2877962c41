# Copyright: (c) 2026, compute_plane.vllm contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What is deployed of an instance, as one value, and the record of what was proved. Pure."""

from __future__ import annotations

import dataclasses
import json
import os
from collections.abc import Iterable, Mapping
from typing import Any

from ansible_collections.compute_plane.vllm.plugins.module_utils.systemd import (
    config_file,
    drop_in,
    fingerprint,
)

SCHEMA = 1


@dataclasses.dataclass(frozen=True)
class Deployment:
    """One instance with one configuration.

    Attributes:
        name: The instance.
        release: vLLM's version.
        venv: The virtual environment of the release.
        unit: Text of the template unit that it was made for.
        config: Text of vLLM's C(--config) file.
        drop_in: Text of the unit's drop-in.
        fingerprint: Tells this configuration from others; in the running server's environment.
        url: Where the server answers.
        served_model_name: The name that requests give.
        max_model_len: The context length, in tokens, that the server must report; C(None) for any.
    """

    name: str
    release: str
    venv: str
    unit: str
    config: str
    drop_in: str
    fingerprint: str
    url: str
    served_model_name: str
    max_model_len: int | None

    @property
    def unit_name(self) -> str:
        """The service's name."""
        return f"vllm@{self.name}.service"


def deployment(wanted: Mapping[str, Any], release: str, unit: str, config_path: str) -> Deployment:
    """What an instance of the plan is deployed as.

    Args:
        wanted: The instance: C(name), C(venv), C(config), C(environment), C(url),
            C(served_model_name).
        release: vLLM's version.
        unit: Text of the template unit.
        config_path: Where vLLM's C(--config) file will be.
    """
    unit_name = f"vllm@{wanted['name']}.service"
    config = config_file(unit_name, wanted["config"])
    environment = {name: str(value) for name, value in wanted["environment"].items()}
    identity = fingerprint(unit, wanted["venv"], config, environment)
    return Deployment(
        name=wanted["name"],
        release=release,
        venv=wanted["venv"],
        unit=unit,
        config=config,
        drop_in=drop_in(unit_name, wanted["venv"], config_path, environment, identity),
        fingerprint=identity,
        url=wanted["url"],
        served_model_name=wanted["served_model_name"],
        max_model_len=wanted["config"].get("max-model-len"),
    )


@dataclasses.dataclass(frozen=True)
class Record:
    """What was proved last of an instance, and before that.

    Attributes:
        current: The deployment that answered truly last.
        previous: The one before it, to which a rollback goes; C(None) where there was none.
    """

    current: Deployment
    previous: Deployment | None = None

    def proved(self, now: Deployment) -> Record:
        """The record after a deployment was proved."""
        if now.fingerprint == self.current.fingerprint:
            return Record(now, self.previous)
        return Record(now, self.current)


def record_text(record: Record) -> str:
    """The file of a record."""
    return json.dumps({"schema": SCHEMA, **dataclasses.asdict(record)}, indent=2) + "\n"


def read_record(text: str | None) -> Record | None:
    """Read a record's file; C(None) where there is none, or none that this version reads."""
    try:
        data = json.loads(text or "")
        if data.pop("schema") != SCHEMA:
            return None
        previous = data["previous"]
        return Record(
            Deployment(**data["current"]), None if previous is None else Deployment(**previous)
        )
    except (AttributeError, KeyError, TypeError, ValueError):
        return None


def releases_to_remove(proved: Mapping[str, str], used: Iterable[str], keep: int) -> list[str]:
    """Which releases' venvs may go.

    Args:
        proved: When each venv was proved, in ISO 8601, by its path.
        used: Venvs that a service runs with or a rollback goes to; they stay.
        keep: How many of the others, the newest, stay too.
    """
    in_use = {os.path.normpath(path) for path in used}
    spare = [path for path in proved if os.path.normpath(path) not in in_use]
    spare.sort(key=lambda path: (proved[path], path), reverse=True)
    return sorted(spare[keep:])
