#!/usr/bin/python
# Copyright: (c) 2026, compute_plane.vllm contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Configure, start and prove the vLLM services of a host."""

from __future__ import annotations

DOCUMENTATION = r"""
module: vllm_service
short_description: Configure and start vLLM servers, one systemd service an instance
version_added: 0.1.0
description:
  - Puts the template unit, and for each instance vLLM's configuration file and a drop-in, in place,
    after C(systemd-analyze verify) has found nothing wrong with them; starts what is not running or
    runs with another configuration; and waits until each server has computed a token.
  - Instances are started one after the other, since two servers that measure a GPU's free memory at
    the same time mislead each other.
  - When a changed instance does not become ready, its former files come back and the former server
    is started again; the task fails.
  - What has to be started is told from what the running server was started with, so that an
    interrupted run is made good by the next one.
  - Drop-ins of other names are the user's and are never touched.
  - All of a host's instances are looked at in one go, since a round trip each would cost more than
    the work.
author: compute_plane.vllm contributors (@compute-plane)
attributes:
  check_mode:
    support: full
    description: Says which files and services would change.
  diff_mode:
    support: full
    description: Shows the files before and after.
options:
  unit:
    description: The text of the template unit C(vllm@.service).
    type: str
    required: true
  instances:
    description: The instances, as the plan has them.
    type: list
    elements: dict
    required: true
    suboptions:
      name:
        description: The instance's name.
        type: str
        required: true
      venv:
        description: The virtual environment of its release.
        type: path
        required: true
      config:
        description: vLLM's long flags without their dashes, for its C(--config) file.
        type: dict
        required: true
      environment:
        description: Variables of the server.
        type: dict
        default: {}
      url:
        description: Where the server answers.
        type: str
        required: true
      served_model_name:
        description: The name that requests give.
        type: str
        required: true
  removed_instances:
    description: Names of instances that are no longer wanted; they are stopped and removed.
    type: list
    elements: str
    default: []
  user:
    description: The system user and group of the servers; made where they are missing.
    type: str
    default: vllm
  start_timeout:
    description: How long a server may take until it has computed a token, in seconds.
    type: int
    default: 600
  etc_dir:
    description: Where the configuration files are.
    type: path
    default: /etc/vllm
  unit_dir:
    description: Where units are.
    type: path
    default: /etc/systemd/system
  progress:
    description: The file in which progress is kept; set by the action plugin.
    type: path
"""

EXAMPLES = r"""
- name: Serve what the plan says
  compute_plane.vllm.vllm_service:
    unit: "{{ lookup('ansible.builtin.template', 'vllm@.service.j2') }}"
    instances:
      - name: smollm2
        venv: /opt/vllm/releases/0.14.1-cpu-3f1d0a9be2c4
        config: {model: /srv/models/SmolLM2-135M-Instruct, host: 127.0.0.1, port: 8000}
        url: http://127.0.0.1:8000
        served_model_name: smollm2
"""

RETURN = r"""
instances:
  description: What became of each instance.
  type: list
  elements: dict
  returned: always
  sample:
    - {name: smollm2, unit: vllm@smollm2.service, started: it is inactive, ready_seconds: 47.1}
  contains:
    name:
      description: The instance.
      type: str
    unit:
      description: Its unit.
      type: str
    started:
      description: Why it was (in check mode, would be) started; null when it was not.
      type: str
    ready_seconds:
      description: Seconds from the start, or from this module's question, to the first token.
      type: float
"""

import grp
import os
import tempfile
import time
from typing import Any, NoReturn

from ansible.module_utils.basic import AnsibleModule

from ansible_collections.compute_plane.vllm.plugins.module_utils.openai_client import (
    Endpoint,
    EndpointError,
)
from ansible_collections.compute_plane.vllm.plugins.module_utils.progress import Progress
from ansible_collections.compute_plane.vllm.plugins.module_utils.systemd import (
    MANAGED,
    config_file,
    drop_in,
    fingerprint,
    has_crashed,
    log_text,
    needs_start,
    parse_show,
    running_fingerprint,
)

PROPERTIES = "Id,LoadState,ActiveState,SubState,MainPID,NRestarts,Result,NeedDaemonReload"
DROP_IN = "10-compute-plane.conf"
POLL = 0.5
LAST_WORDS = 2.0
"""Seconds that a server's last lines may take to reach the journal."""
ONE_TOKEN_TIMEOUT = 30.0


class StartFailed(Exception):
    """A server did not become ready; the message says what was seen."""


class File:
    """One file that is wanted with a content, an owner and a mode, or wanted absent."""

    def __init__(self, path: str, text: str | None, mode: int = 0o644, group: str = "root") -> None:
        self.path = path
        self.text = text
        self.mode = mode
        self.group = group
        self.before = self._read()

    def _read(self) -> str | None:
        try:
            with open(self.path, encoding="utf-8") as stream:
                return stream.read()
        except FileNotFoundError:
            return None

    def _gid(self) -> int:
        return grp.getgrnam(self.group).gr_gid

    def is_right(self) -> bool:
        """Whether content, mode and owner are as wanted."""
        if self.before != self.text:
            return False
        if self.text is None:
            return True
        status = os.stat(self.path)
        try:
            owned = (status.st_uid, status.st_gid) == (0, self._gid())
        except KeyError:  # the group is yet to be made
            return False
        return owned and status.st_mode & 0o7777 == self.mode

    def write(self, text: str | None) -> None:
        """Put a content in place atomically, or remove the file."""
        directory = os.path.dirname(self.path)
        if text is None:
            if not os.path.lexists(self.path):
                return
            os.unlink(self.path)
            # Another file in the drop-in folder is the user's.
            if directory.endswith(".service.d") and not os.listdir(directory):
                os.rmdir(directory)
            return
        os.makedirs(directory, mode=0o755, exist_ok=True)
        fd, temporary = tempfile.mkstemp(dir=directory, prefix=".")
        with os.fdopen(fd, "w", encoding="utf-8") as stream:
            stream.write(text)
            stream.flush()
            os.fsync(stream.fileno())
        os.chown(temporary, 0, self._gid())
        os.chmod(temporary, self.mode)
        os.replace(temporary, self.path)

    def diff(self) -> dict[str, str]:
        """Ansible's diff of this file."""
        return {
            "before_header": self.path,
            "after_header": self.path,
            "before": self.before or "",
            "after": self.text or "",
        }


class Instance:
    """One instance: its files, its unit, its state."""

    def __init__(self, wanted: dict[str, Any], unit_text: str, params: dict[str, Any]) -> None:
        self.name: str = wanted["name"]
        self.unit = f"vllm@{self.name}.service"
        self.venv: str = wanted["venv"]
        self.endpoint = Endpoint(wanted["url"], timeout=ONE_TOKEN_TIMEOUT)
        self.model: str = wanted["served_model_name"]
        config_path = os.path.join(params["etc_dir"], f"{self.name}.yaml")
        self.config_text = config_file(self.unit, wanted["config"])
        environment = {key: str(value) for key, value in wanted["environment"].items()}
        self.fingerprint = fingerprint(unit_text, self.venv, self.config_text, environment)
        self.drop_in_text = drop_in(
            self.unit, self.venv, config_path, environment, self.fingerprint
        )
        self.files = [
            File(config_path, self.config_text, mode=0o640, group=params["user"]),
            File(os.path.join(params["unit_dir"], f"{self.unit}.d", DROP_IN), self.drop_in_text),
        ]
        self.state: dict[str, str] = {}
        self.start_reason: str | None = None


class Services:
    """Brings the services of one host to what is wanted."""

    def __init__(self, module: AnsibleModule) -> None:
        self.module = module
        params = self.params = module.params
        self.progress = Progress(params["progress"])
        self.instances = [Instance(i, params["unit"], params) for i in params["instances"]]
        self.host_files = [
            File(
                "/etc/sysusers.d/compute_plane.vllm.conf",
                MANAGED.format(unit="vllm@.service")
                + f'u {params["user"]} - "vLLM inference server" /var/lib/vllm\n',
            ),
            File(os.path.join(params["unit_dir"], "vllm@.service"), params["unit"]),
        ]
        self.results: dict[str, dict[str, Any]] = {}

    # -- programs -----------------------------------------------------------------------------

    def systemctl(self, *arguments: str, check: bool = True) -> str:
        """Run systemctl and return what it printed."""
        status, output, errors = self.module.run_command(["systemctl", "--no-pager", *arguments])
        if check and status != 0:
            self.fail(f"systemctl {' '.join(arguments)} failed: {errors.strip() or output.strip()}")
        return str(output)

    def show(self, units: list[str]) -> dict[str, dict[str, str]]:
        """The state of units by name."""
        if not units:
            return {}
        output = self.systemctl("show", "--property", PROPERTIES, *units)
        return {properties["Id"]: properties for properties in parse_show(output)}

    def log_tail(self, unit: str, since: float) -> str:
        """The last lines of a unit's journal since a time, the server's and systemd's."""
        return self.journal(since, "--unit", unit, "--lines", "40")

    def doing(self, instance: Instance, since: float) -> str:
        """What a server that is starting said last."""
        last = self.journal(since, "--identifier", f"vllm@{instance.name}", "--lines", "1")
        return log_text(last)[:100]

    def journal(self, since: float, *selection: str) -> str:
        """Lines of the journal, their text alone."""
        command = ["journalctl", "--no-pager", "--quiet", "--output", "cat"]
        _status, output, _errors = self.module.run_command(
            [*command, "--since", f"@{since:.0f}", *selection]
        )
        return str(output).strip()

    def fail(self, message: str, **more: Any) -> NoReturn:
        """End the task."""
        self.progress.close()
        self.module.fail_json(msg=message, instances=list(self.results.values()), **more)
        raise SystemExit(1)  # for the type checker: fail_json has ended the process

    # -- what is to be done -------------------------------------------------------------------

    def look(self) -> None:
        """Read every instance's state and decide which are to be started."""
        states = self.show([instance.unit for instance in self.instances])
        for instance in self.instances:
            instance.state = states.get(instance.unit, {})
            running = None
            pid = int(instance.state.get("MainPID") or 0)
            if pid:
                try:
                    with open(f"/proc/{pid}/environ", "rb") as stream:
                        running = running_fingerprint(stream.read())
                except (FileNotFoundError, ProcessLookupError):
                    running = None
            instance.start_reason = needs_start(
                instance.state.get("ActiveState", ""), running, instance.fingerprint
            )
            self.results[instance.name] = {
                "name": instance.name,
                "unit": instance.unit,
                "started": instance.start_reason,
                "ready_seconds": None,
            }

    def is_enabled(self, instance: Instance) -> bool:
        """Whether the unit is started at boot."""
        wants = os.path.join(self.params["unit_dir"], "multi-user.target.wants", instance.unit)
        return os.path.islink(wants)

    def removed_files(self) -> list[File]:
        """The files of instances that are no longer wanted."""
        return [
            File(path, None)
            for name in self.params["removed_instances"]
            for path in (
                os.path.join(self.params["etc_dir"], f"{name}.yaml"),
                os.path.join(self.params["unit_dir"], f"vllm@{name}.service.d", DROP_IN),
            )
        ]

    def verify_units(self) -> None:
        """Let systemd read the new units in a staging folder before anything is installed."""
        with tempfile.TemporaryDirectory(prefix="vllm-units-") as staging:
            paths = []
            for instance in self.instances:
                path = os.path.join(staging, instance.unit)
                paths.append(path)
                with open(path, "w", encoding="utf-8") as stream:
                    stream.write(self.params["unit"])
                os.mkdir(f"{path}.d")
                with open(os.path.join(f"{path}.d", DROP_IN), "w", encoding="utf-8") as stream:
                    stream.write(instance.drop_in_text)
            status, output, errors = self.module.run_command(
                ["systemd-analyze", "--no-pager", "--man=no", "verify", *paths],
                environ_update={"SYSTEMD_UNIT_PATH": f"{staging}:"},
            )
            if status != 0:
                self.fail(f"systemd does not accept the unit: {errors.strip() or output.strip()}")

    # -- doing it -----------------------------------------------------------------------------

    def ensure_user(self) -> None:
        """Make the servers' system user where it is missing."""
        try:
            grp.getgrnam(self.params["user"])
        except KeyError:
            status, output, errors = self.module.run_command(
                ["systemd-sysusers", self.host_files[0].path]
            )
            if status != 0:
                self.fail(f"systemd-sysusers failed: {errors.strip() or output.strip()}")

    def remove(self, name: str) -> None:
        """Stop an instance and see that it is not started again."""
        unit = f"vllm@{name}.service"
        self.progress.update(f"stopping {name}")
        self.systemctl("disable", "--now", unit)

    def restart(self, instance: Instance) -> None:
        """Start, or start anew, without waiting."""
        self.systemctl("reset-failed", instance.unit, check=False)
        self.systemctl("restart", "--no-block", instance.unit)

    def wait_until_ready(self, instance: Instance) -> float:
        """Wait for the first token; returns the seconds it took.

        Raises:
            StartFailed: The server ended, or the time is over.
        """
        began, since = time.monotonic(), time.time()
        before = self.show([instance.unit])[instance.unit]
        error = "it was not asked yet"
        while True:
            try:
                instance.endpoint.complete_one_token(instance.model)
            except EndpointError as problem:
                error = str(problem)
            else:
                return round(time.monotonic() - began, 1)
            elapsed = time.monotonic() - began
            state = self.show([instance.unit])[instance.unit]
            if has_crashed(before, state):
                time.sleep(LAST_WORDS)
                raise StartFailed(
                    f"{instance.unit} ended by itself after {elapsed:.0f} s "
                    f"(systemd's result: {state.get('Result')}). The end of its log:\n"
                    + self.log_tail(instance.unit, since - 1)
                )
            if elapsed > self.params["start_timeout"]:
                raise StartFailed(
                    f"{instance.unit} computed no token within {elapsed:.0f} s ({error}). "
                    "The end of its log:\n" + self.log_tail(instance.unit, since - 1)
                )
            last = self.doing(instance, since - 1)
            self.progress.update(f"starting {instance.name}", elapsed=elapsed, detail=last)
            time.sleep(POLL)

    def start(self, instance: Instance, enabled: bool) -> None:
        """Start one instance with its new files, or bring its former ones back."""
        was_good = instance.state.get("ActiveState") == "active" and enabled
        try:
            self.restart(instance)
            self.results[instance.name]["ready_seconds"] = self.wait_until_ready(instance)
        except StartFailed as failure:
            self.go_back(instance, str(failure), was_good)

    def go_back(self, instance: Instance, failure: str, was_good: bool) -> NoReturn:
        """Leave what served before serving, and fail."""
        self.progress.update(f"going back to the former {instance.name}")
        self.systemctl("stop", instance.unit)
        unit_file = self.host_files[1]
        if not was_good:
            self.fail(f"{failure}\n{instance.unit} is stopped; nothing served in its place before.")
        for file in [*instance.files, unit_file]:
            file.write(file.before)
        self.systemctl("daemon-reload")
        self.restart(instance)
        try:
            self.wait_until_ready(instance)
        except StartFailed as second:
            self.fail(f"{failure}\nGoing back to the former configuration failed as well: {second}")
        self.fail(f"{failure}\nThe former configuration of {instance.name} is serving again.")

    def apply(self, files: list[File]) -> None:
        """Write the files, then start what has to be started, one at a time."""
        self.host_files[0].write(self.host_files[0].text)
        self.ensure_user()
        os.makedirs(self.params["etc_dir"], mode=0o755, exist_ok=True)
        for name in self.params["removed_instances"]:
            self.remove(name)
        for file in files:
            if not file.is_right():
                file.write(file.text)
        self.systemctl("daemon-reload")

    def run(self) -> None:
        """Decide, apply, wait, report."""
        self.look()
        removed = self.params["removed_instances"]
        files = [*self.host_files, *self.removed_files()]
        files += [file for instance in self.instances for file in instance.files]
        wrong = [file for file in files if not file.is_right()]
        enabled = {instance.name: self.is_enabled(instance) for instance in self.instances}
        changed = bool(
            wrong
            or removed
            or any(i.start_reason for i in self.instances)
            or not all(enabled.values())
        )
        if changed and not self.module.check_mode:
            if wrong:
                self.verify_units()
            if wrong or removed:
                self.apply(files)
            elif any(i.state.get("NeedDaemonReload") == "yes" for i in self.instances):
                self.systemctl("daemon-reload")
        if not self.module.check_mode:
            for instance in self.instances:
                if instance.start_reason:
                    self.start(instance, enabled[instance.name])
                else:
                    self.confirm(instance)
                if not enabled[instance.name]:  # only what is proved is started at boot
                    self.systemctl("enable", "--quiet", instance.unit)
        self.progress.close()
        self.module.exit_json(
            changed=changed,
            instances=list(self.results.values()),
            diff=[file.diff() for file in wrong],
        )

    def confirm(self, instance: Instance) -> None:
        """See that a server which need not be started answers, or is about to."""
        try:
            self.results[instance.name]["ready_seconds"] = self.wait_until_ready(instance)
        except StartFailed as failure:
            self.fail(str(failure))


def main() -> None:
    """Run the module."""
    os.umask(0o022)
    instance = {
        "name": {"type": "str", "required": True},
        "venv": {"type": "path", "required": True},
        "config": {"type": "dict", "required": True},
        "environment": {"type": "dict", "default": {}},
        "url": {"type": "str", "required": True},
        "served_model_name": {"type": "str", "required": True},
    }
    module = AnsibleModule(
        argument_spec={
            "unit": {"type": "str", "required": True},
            "instances": {
                "type": "list",
                "elements": "dict",
                "required": True,
                "options": instance,
            },
            "removed_instances": {"type": "list", "elements": "str", "default": []},
            "user": {"type": "str", "default": "vllm"},
            "start_timeout": {"type": "int", "default": 600},
            "etc_dir": {"type": "path", "default": "/etc/vllm"},
            "unit_dir": {"type": "path", "default": "/etc/systemd/system"},
            "progress": {"type": "path"},
        },
        supports_check_mode=True,
    )
    Services(module).run()


if __name__ == "__main__":
    main()
