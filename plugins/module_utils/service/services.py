# Copyright: (c) 2026, compute_plane.vllm contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The one place that touches the services of a host: files, systemd, the start and its proof."""

from __future__ import annotations

import glob
import grp
import hashlib
import json
import os
import pkgutil
import shutil
import sys
import tempfile
import time
from collections.abc import Mapping
from typing import Any, Callable, NoReturn

from ansible.module_utils.basic import AnsibleModule

from ansible_collections.compute_plane.vllm.plugins.module_utils.common.files import (
    DIRECTORIES,
    File,
    FileError,
    read,
)
from ansible_collections.compute_plane.vllm.plugins.module_utils.common.openai_client import (
    Endpoint,
    EndpointError,
)
from ansible_collections.compute_plane.vllm.plugins.module_utils.common.progress import Progress
from ansible_collections.compute_plane.vllm.plugins.module_utils.deploy.deployment import (
    Deployment,
    Record,
    proved_text,
    read_record,
    releases_to_remove,
)
from ansible_collections.compute_plane.vllm.plugins.module_utils.deploy.systemd import (
    API_KEY,
    FINGERPRINT,
    MANAGED,
    device_nodes,
    environment_file,
    has_crashed,
    log_text,
    needs_start,
    parse_show,
    read_environment_file,
    variable,
)
from ansible_collections.compute_plane.vllm.plugins.module_utils.deploy.trials import (
    NOT_THE_BACKENDS,
    no_backend,
    read_trials,
    trials_text,
)
from ansible_collections.compute_plane.vllm.plugins.module_utils.endpoint.record import (
    make_record,
    publish_state,
    record_path,
    record_text,
)
from ansible_collections.compute_plane.vllm.plugins.module_utils.supervisor import process
from ansible_collections.compute_plane.vllm.plugins.module_utils.verify.run import (
    ARGUMENTS as VERIFY_ARGUMENTS,
)
from ansible_collections.compute_plane.vllm.plugins.module_utils.verify.run import (
    LocalMachine,
    api_key_of,
    endpoint_result,
    failed_path,
    is_due,
    read_state,
    report_of,
    state_path,
    state_text,
    subject_of,
    verify_endpoint,
)
from ansible_collections.compute_plane.vllm.plugins.module_utils.verify.short import (
    short_question,
    verify,
)
from ansible_collections.compute_plane.vllm.plugins.module_utils.verify.suite import (
    Check,
    SuiteError,
    read_suite,
)

PROPERTIES = (
    "Id,LoadState,ActiveState,SubState,MainPID,NRestarts,Result,NeedDaemonReload,Job,StatusText"
)
SUPERVISOR_MAIN = """\
import sys

from supervisor.process import main

sys.exit(main())
"""
NEEDRESTART = """\
# Managed by Ansible (compute_plane.vllm). Unattended upgrades do not interrupt what is served.
$nrconf{override_rc}{qr(^vllm\\@)} = 0;
"""
DROP_IN = "10-compute-plane.conf"
POLL = 0.5
LAST_WORDS = 2.0
"""Seconds that a server's last lines may take to reach the journal."""
ONE_TOKEN_TIMEOUT = 30.0
SUPERVISORS_TIME = 60.0
"""Seconds that the supervisor has to end a start that is too long, and to stop what was there."""
FAILED_STARTS = "failed-starts.json"
"""The supervisor's memory of failed starts, in the unit's runtime directory."""

ARGUMENTS: dict[str, dict[str, Any]] = {
    **VERIFY_ARGUMENTS,
    "start_timeout": {"type": "int", "default": 600},
    "drain": {"type": "int", "default": 30},
    "api_keys": {"type": "dict", "no_log": True},
    "answer_timeout": {"type": "int", "default": 60},
    "user": {"type": "str", "default": "vllm"},
    **DIRECTORIES,
    "run_dir": {"type": "path", "default": "/run/vllm"},
    "releases_dir": {"type": "path", "default": "/opt/vllm/releases"},
    "supervisors_dir": {"type": "path", "default": "/opt/vllm/supervisor"},
    "progress": {"type": "path"},
}
"""Parameters of every module that starts a server."""


class StartFailed(Exception):
    """A server did not become ready, or not true.

    Args:
        message: What was seen.
        cause: The cause that the supervisor found, as in C(causes.py); C(None) without one.
    """

    def __init__(self, message: str, cause: str | None = None) -> None:
        super().__init__(message)
        self.cause = cause


class Services:
    """The services of this host, as one task sees them.

    Args:
        module: The module that runs, with :data:`ARGUMENTS` among its parameters.
    """

    def __init__(self, module: AnsibleModule) -> None:
        self.module = module
        self.params = module.params
        self.progress = Progress(module.params["progress"])
        self.results: dict[str, dict[str, Any]] = {}
        self.verified: list[dict[str, Any]] = []

    # -- paths ----------------------------------------------------------------------------------

    def config_path(self, name: str) -> str:
        """Where an instance's C(--config) file is."""
        return os.path.join(self.params["etc_dir"], f"{name}.yaml")

    def drop_in_path(self, name: str) -> str:
        """Where our part of an instance's unit is; other drop-ins there are the user's."""
        return os.path.join(self.params["unit_dir"], f"vllm@{name}.service.d", DROP_IN)

    def record_path(self, name: str) -> str:
        """Where it is kept what was proved of an instance."""
        return os.path.join(self.params["state_dir"], "proved", f"{name}.json")

    def unit_file(self, text: str) -> File:
        """The template unit."""
        return File(os.path.join(self.params["unit_dir"], "vllm@.service"), text)

    def user_file(self) -> File:
        """The servers' system user, as systemd-sysusers reads it."""
        return File(
            "/etc/sysusers.d/compute_plane.vllm.conf",
            MANAGED.format(unit="vllm@.service")
            + f'u {self.params["user"]} - "vLLM inference server" /var/lib/vllm\n',
        )

    def environment_path(self, name: str) -> str:
        """Where an instance's secrets are."""
        return os.path.join(self.params["etc_dir"], f"{name}.env")

    def common_files(self) -> list[File]:
        """The files of the host that no instance has to itself, but for the template unit."""
        files = [self.user_file()]
        if os.path.exists("/etc/debian_version"):
            files.append(File("/etc/needrestart/conf.d/compute_plane.vllm.conf", NEEDRESTART))
        return files

    def files(self, wanted: Deployment) -> list[File]:
        """The files of an instance."""
        config = self.config_path(wanted.name)
        return [
            File(config, wanted.config_text, mode=0o640, group=wanted.user),
            File(self.drop_in_path(wanted.name), wanted.drop_in_text),
            *self.secrets(wanted.name),
        ]

    def secrets(self, name: str) -> list[File]:
        """The file of an instance's secrets, where there is one or should be one of ours."""
        path = self.environment_path(name)
        if self.params["api_keys"] is None:
            return []
        key = self.params["api_keys"].get(name)
        if key is not None:
            text = environment_file(f"vllm@{name}.service", {API_KEY: str(key)})
            return [File(path, text, mode=0o640, group=self.params["user"], is_secret=True)]
        if (read(path) or "").startswith(MANAGED.format(unit=f"vllm@{name}.service")):
            return [File(path, None, is_secret=True)]
        return []

    def api_key(self, name: str) -> str | None:
        """The key that requests to an instance need; C(None) for none."""
        key = (self.params["api_keys"] or {}).get(name)
        if key is not None:
            return str(key)
        return read_environment_file(read(self.environment_path(name))).get(API_KEY)

    def endpoint(self, wanted: Deployment, timeout: float) -> Endpoint:
        """The server of a deployment, as this host asks it."""
        return Endpoint(wanted.url, api_key=self.api_key(wanted.name), timeout=timeout)

    def files_of_removed(self, name: str) -> list[File]:
        """The files of an instance that is no longer wanted."""
        paths = (
            self.config_path(name),
            self.drop_in_path(name),
            self.record_path(name),
            state_path(self.params["state_dir"], name),
            failed_path(self.params["state_dir"], name),
            record_path(self.params["etc_dir"], name),
        )
        files = [File(path, None) for path in paths]
        return [*files, File(self.environment_path(name), None, is_secret=True)]

    # -- what a deployment needs to know of the host --------------------------------------------

    def supervisor(self) -> tuple[str, dict[str, str]]:
        """The supervisor's folder, named by its content, and its files by their path in it."""
        package = process.__name__.rpartition(".")[0]
        # All that the supervisor's own module has imported, and nothing else is there.
        modules = [name for name in sorted(sys.modules) if name.startswith(f"{package}.")]
        files = {"__main__.py": SUPERVISOR_MAIN}
        for name in ["__init__", *(module[len(package) + 1 :] for module in modules)]:
            content = pkgutil.get_data(package, f"{name}.py")
            if content is None:
                self.fail(f"{package} has no {name}.py")
            files[f"supervisor/{name}.py"] = content.decode("utf-8")
        digest = hashlib.sha256(json.dumps(files, sort_keys=True).encode("utf-8")).hexdigest()
        return os.path.join(self.params["supervisors_dir"], digest[:12]), files

    def supervisor_files(self) -> list[File]:
        """The supervisor's files."""
        folder, files = self.supervisor()
        return [File(os.path.join(folder, name), text) for name, text in files.items()]

    def device_nodes(self, wanted: Mapping[str, Any]) -> list[str] | None:
        """The device nodes of an instance's GPUs; C(None) when the driver does not tell."""
        chosen = wanted["environment"].get("CUDA_VISIBLE_DEVICES")
        if not chosen:
            return []
        paths = glob.glob("/proc/driver/nvidia/gpus/*/information")
        return device_nodes(str(chosen).split(","), [read(path) or "" for path in paths])

    # -- programs -------------------------------------------------------------------------------

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

    def journal(self, since: float, lines: int, *selection: str) -> str:
        """The last lines of the journal since a time, their text alone."""
        command = ["journalctl", "--no-pager", "--quiet", "--output", "cat"]
        _status, output, _errors = self.module.run_command(
            [*command, "--since", f"@{since:.0f}", *selection]
        )
        # Not --lines: beside --since systemd 252 counts from the start.
        return "\n".join(str(output).strip().splitlines()[-lines:])

    def fail(self, message: str) -> NoReturn:
        """End the task."""
        self.progress.close()
        self.module.fail_json(msg=message, instances=list(self.results.values()))
        raise SystemExit(1)  # for the type checker: fail_json has ended the process

    # -- state ----------------------------------------------------------------------------------

    def environ(self, state: dict[str, str]) -> bytes | None:
        """The environment that a unit's running server was started with; C(None) without one."""
        pid = int(state.get("MainPID") or 0)
        if not pid:
            return None
        try:
            with open(f"/proc/{pid}/environ", "rb") as stream:
                return stream.read()
        except (FileNotFoundError, ProcessLookupError):
            return None

    def running(self, state: dict[str, str]) -> str | None:
        """The fingerprint of a unit's running server; C(None) without one."""
        return variable(self.environ(state), FINGERPRINT)

    def start_reason(self, wanted: Deployment, state: dict[str, str]) -> str | None:
        """Why an instance must be started; C(None) when it need not be."""
        environ = self.environ(state)
        reason = needs_start(
            state.get("ActiveState", ""), variable(environ, FINGERPRINT), wanted.fingerprint
        )
        if reason is None and variable(environ, API_KEY) != self.wanted_key(wanted.name):
            return "its API key has changed"
        return reason

    def wanted_key(self, name: str) -> str | None:
        """The key that a server started now would have."""
        for file in self.secrets(name):
            return read_environment_file(file.text).get(API_KEY)
        return read_environment_file(read(self.environment_path(name))).get(API_KEY)

    def is_enabled(self, name: str) -> bool:
        """Whether an instance is started at boot."""
        unit = f"vllm@{name}.service"
        return os.path.islink(
            os.path.join(self.params["unit_dir"], "multi-user.target.wants", unit)
        )

    def record(self, name: str) -> Record | None:
        """What was proved of an instance."""
        return read_record(read(self.record_path(name)))

    # -- changes --------------------------------------------------------------------------------

    def verify_units(self, deployments: list[Deployment]) -> None:
        """Let systemd read the new units in a staging folder before anything is installed."""
        with tempfile.TemporaryDirectory(prefix="vllm-units-") as staging:
            paths = []
            for wanted in deployments:
                path = os.path.join(staging, wanted.unit_name)
                paths.append(path)
                os.mkdir(f"{path}.d")
                drop_in = f"{path}.d/{DROP_IN}"
                for file, text in ((path, wanted.unit), (drop_in, wanted.drop_in_text)):
                    with open(file, "w", encoding="utf-8") as stream:
                        stream.write(text)
            status, output, errors = self.module.run_command(
                ["systemd-analyze", "--no-pager", "--man=no", "verify", *paths],
                environ_update={"SYSTEMD_UNIT_PATH": f"{staging}:"},
            )
        if status != 0:
            self.fail(f"systemd does not accept the unit: {errors.strip() or output.strip()}")

    def ensure_user(self) -> None:
        """Make the servers' system user where it is missing."""
        file = self.user_file()
        if not file.is_right():
            file.write()
        try:
            grp.getgrnam(self.params["user"])
        except KeyError:
            status, output, errors = self.module.run_command(["systemd-sysusers", file.path])
            if status != 0:
                self.fail(f"systemd-sysusers failed: {errors.strip() or output.strip()}")

    def remove(self, name: str) -> None:
        """Stop an instance and remove what is ours of it, its caches too."""
        unit = f"vllm@{name}.service"
        self.progress.update(f"stopping {name}")
        self.systemctl("disable", "--now", unit)
        self.systemctl("reset-failed", unit, check=False)
        self.systemctl("clean", "--what=cache", "--what=runtime", unit, check=False)
        for file in self.files_of_removed(name):
            file.write()

    def write(self, files: list[File]) -> None:
        """Write those files that are not right, and let systemd read them."""
        for file in [*self.common_files(), *self.supervisor_files(), *files]:
            if not file.is_right():
                file.write()
        self.systemctl("daemon-reload")

    def wait_until_ready(self, wanted: Deployment) -> float:
        """Wait until the server of this configuration has computed a token.

        Returns:
            The seconds it took.

        Raises:
            StartFailed: The server ended, or the time is over.
        """
        began, since = time.monotonic(), time.time() - 1
        unit = wanted.unit_name
        endpoint = self.endpoint(wanted, ONE_TOKEN_TIMEOUT)
        before = self.show([unit])[unit]
        # The supervisor has the start's deadline, and ends the start with a reason. Before that the
        # former server has its time to stop.
        longest = self.params["start_timeout"] + self.params["drain"] + SUPERVISORS_TIME
        error = "systemd does not say that it is active"
        while True:
            state = self.show([unit])[unit]
            # Active means that the supervisor has had a token, if there is one: what was proved
            # with an older version of this collection has none. The former server can still be
            # there, about to stop.
            if state.get("ActiveState") == "active" and self.running(state) == wanted.fingerprint:
                try:
                    endpoint.complete_one_token(wanted.served_model_name)
                    return round(time.monotonic() - began, 1)
                except EndpointError as problem:
                    error = str(problem)
            elapsed = time.monotonic() - began
            if has_crashed(before, state):
                time.sleep(LAST_WORDS)
                raise self.verdict(wanted, since) or StartFailed(
                    f"{unit} ended by itself after {elapsed:.0f} s (systemd's result: "
                    f"{state.get('Result')}). The end of its log:\n{self.log_tail(unit, since)}"
                )
            if elapsed > longest:
                raise StartFailed(
                    f"{unit} computed no token within {elapsed:.0f} s ({error}). "
                    f"The end of its log:\n{self.log_tail(unit, since)}"
                )
            detail = state.get("StatusText") or log_text(
                self.journal(since, 1, "--identifier", f"vllm@{wanted.name}")
            )
            self.progress.update(f"starting {wanted.name}", elapsed=elapsed, detail=detail[:100])
            time.sleep(POLL)

    def verdict(self, wanted: Deployment, since: float) -> StartFailed | None:
        """What the supervisor has found about a server that failed; C(None) where it said nothing.

        Args:
            wanted: The deployment that was started.
            since: When; what was said before, or of another configuration, does not count.
        """
        path = os.path.join(self.params["run_dir"], wanted.name, "verdict.json")
        try:
            verdict = json.loads(read(path) or "{}")
            if verdict["at"] < since or verdict["fingerprint"] != wanted.fingerprint:
                return None
            lines = [f"{wanted.unit_name}: {verdict['state']}: {verdict['summary']}"]
            lines += [f"  {line}" for line in verdict["evidence"]]
            if verdict["remedy"]:
                lines.append(f"  remedy: {verdict['remedy']}")
            cause = verdict["cause"]
        except (ValueError, KeyError, TypeError):
            return None
        tail = self.log_tail(wanted.unit_name, since)
        return StartFailed("\n".join([*lines, f"The end of its log:\n{tail}"]), cause)

    def log_tail(self, unit: str, since: float) -> str:
        """The last lines of a unit's journal, the server's and systemd's."""
        return self.journal(since, 40, "--unit", unit)

    def restart(self, wanted: Deployment) -> float:
        """Start a server, or start it anew, and wait until it is ready.

        Raises:
            StartFailed: As :meth:`wait_until_ready`.
        """
        self.systemctl("reset-failed", wanted.unit_name, check=False)
        # What somebody asks for does not wait for what failed before.
        File(os.path.join(self.params["run_dir"], wanted.name, FAILED_STARTS), None).write()
        self.systemctl("restart", "--no-block", wanted.unit_name)
        return self.wait_until_ready(wanted)

    def prove(self, wanted: Deployment) -> None:
        """Verify a server that is ready.

        Raises:
            StartFailed: A check failed; all that failed are named.
        """
        # Here, for a run that changes nothing has to compile every module that it imports.
        from ansible_collections.compute_plane.vllm.plugins.module_utils.verify.client import (
            Client,
            ClientError,
        )

        self.progress.update(f"verifying {wanted.name}")
        key = api_key_of(self.params["etc_dir"], wanted.name)
        try:
            with Client(
                os.path.join(self.params["tools_path"], "bin", "python"),
                wanted.url,
                wanted.served_model_name,
                key=key,
                timeout=self.params["answer_timeout"],
            ) as client:
                found = verify_endpoint(
                    client,
                    subject_of(wanted),
                    self.suite(wanted.name),
                    LocalMachine(self.params["tools_path"]),
                    wanted.fingerprint,
                )
        except ClientError as problem:
            raise StartFailed(f"{wanted.unit_name} cannot be verified: {problem}") from problem
        for line in found.failed("warning"):
            self.module.warn(f"{wanted.name}: {line}")
        evidence = failed_path(self.params["state_dir"], wanted.name)
        if not found.passed:
            File(evidence, state_text(found), 0o600).write()
            self.results[wanted.name]["evidence"] = {
                "name": wanted.name,
                "url": wanted.url,
                "served_model_name": wanted.served_model_name,
                "verification": report_of(found),
            }
            failed = "; ".join(found.failed("error"))
            raise StartFailed(
                f"{wanted.unit_name} answers, but not truly: {failed}\n"
                f"All questions and answers are in {evidence} on the host."
            )
        File(evidence, None).write()
        File(state_path(self.params["state_dir"], wanted.name), state_text(found), 0o600).write()

    def suite(self, name: str) -> list[Check]:
        """The checks that prove an instance; ends the task when the suite cannot be read."""
        try:
            return read_suite(
                self.params["suite"], self.params["questions"], self.params["ability"], name
            )
        except SuiteError as problem:
            self.fail(str(problem))

    def publish(self, name: str, state: str) -> None:
        """Say in an instance's endpoint record, where it has one, how it is."""
        publish_state(self.params["etc_dir"], name, state)

    def confirm(self, wanted: Deployment, is_proved: bool) -> None:
        """See that a server which need not be started answers; prove it where that is still due."""
        began = time.monotonic()
        try:
            verified = self.verify_briefly(wanted) if is_proved else None
            if verified is not None:
                self.verified.append(verified)
            else:
                endpoint = self.endpoint(wanted, ONE_TOKEN_TIMEOUT)
                endpoint.complete_one_token(wanted.served_model_name)
            seconds = round(time.monotonic() - began, 1)
        except EndpointError:  # it is starting, or something is wrong
            try:
                seconds = self.wait_until_ready(wanted)
            except StartFailed as failure:
                self.publish(wanted.name, "failed")
                self.fail(str(failure))
        self.results[wanted.name]["ready_seconds"] = seconds
        if is_proved:
            return
        former = self.record(wanted.name)
        try:
            self.prove(wanted)
        except StartFailed as failure:
            self.go_back(wanted, former, str(failure))
        self.accept(wanted, former)

    def verify_briefly(self, wanted: Deployment) -> dict[str, Any] | None:
        """Verify a server on which the suite has passed before, as M(vllm_verify) does.

        Returns:
            What that module returns of it; C(None) where it has work: the suite is due, the answer
            is wrong, or the endpoint record has to be written.
        """
        etc_dir, state_dir = self.params["etc_dir"], self.params["state_dir"]
        suite = self.suite(wanted.name)
        last = read_state(read(state_path(state_dir, wanted.name)))
        if last is None or is_due(last, wanted.fingerprint, suite):
            return None
        checks = verify(
            self.endpoint(wanted, self.params["answer_timeout"]),
            wanted.served_model_name,
            wanted.release,
            wanted.max_model_len,
            short_question(suite),
        )
        has_key = api_key_of(etc_dir, wanted.name) is not None
        record = {**make_record(wanted, last, has_key, state_dir), "state": "verified"}
        if not all(check["passed"] for check in checks):
            return None
        if not File(record_path(etc_dir, wanted.name), record_text(record)).is_right():
            return None
        shown = {
            "name": wanted.name,
            "url": wanted.url,
            "served_model_name": wanted.served_model_name,
        }
        return endpoint_result(shown, last, record, checks, full=False, passed=True)

    def accept(self, wanted: Deployment, former: Record | None) -> None:
        """Keep what was proved, and start it at boot from now on."""
        self.keep(former.proved(wanted) if former else Record(wanted))
        etc_dir, state_dir = self.params["etc_dir"], self.params["state_dir"]
        found = read_state(read(state_path(state_dir, wanted.name)))
        if found is not None:
            has_key = api_key_of(etc_dir, wanted.name) is not None
            record = make_record(wanted, found, has_key, state_dir)
            File(record_path(etc_dir, wanted.name), record_text(record)).write()
        if not self.is_enabled(wanted.name):
            self.systemctl("enable", "--quiet", wanted.unit_name)

    def change(self, wanted: Deployment, backends: Mapping[str, Deployment] | None = None) -> str:
        """Start an instance with a configuration, prove it, and keep it; or go back, and fail.

        Args:
            wanted: What is wanted, with the first backend where there are several.
            backends: The same with each attention backend that is to be tried, in order.

        Returns:
            The backend that works; empty where none was to be tried.
        """
        former = self.record(wanted.name)
        self.publish(wanted.name, "starting")
        tried: list[dict[str, Any]] = []
        failure = ""
        for backend, one in (backends or {"": wanted}).items():
            try:
                self.write([self.unit_file(one.unit), *self.files(one)])
                seconds = self.restart(one)
                self.prove(one)
            except StartFailed as problem:
                failure = str(problem)
                tried.append({"backend": backend, "outcome": failure.splitlines()[0]})
                if problem.cause in NOT_THE_BACKENDS:
                    break
                continue
            self.results[wanted.name]["ready_seconds"] = seconds
            if backend:
                tried.append({"backend": backend, "outcome": f"answered after {seconds:.0f} s"})
                self.results[wanted.name]["attention_backends"] = tried
            self.accept(one, former)
            return backend
        if backends:
            failure = f"{no_backend(tried, len(backends))}\n{failure}"
        return self.go_back(wanted, former, failure)

    def trials_path(self) -> str:
        """Where it is kept which attention backend works on this host."""
        return os.path.join(self.params["state_dir"], "attention.json")

    def keep_trial(self, key: str, backend: str, tried: list[dict[str, Any]]) -> None:
        """Write down which attention backend works."""
        outcomes = read_trials(read(self.trials_path()))
        outcomes[key] = {"backend": backend, "tried": tried}
        File(self.trials_path(), trials_text(outcomes)).write()

    def go_back(self, wanted: Deployment, former: Record | None, failure: str) -> NoReturn:
        """Leave what was proved last serving, and fail."""
        self.progress.update(f"going back to the former {wanted.name}")
        self.publish(wanted.name, "failed")
        if former is not None and former.current.fingerprint == wanted.fingerprint:
            self.fail(f"{failure}\nThis configuration was proved before; systemd goes on trying.")
        self.systemctl("stop", wanted.unit_name)
        if former is None:
            self.fail(f"{failure}\n{wanted.unit_name} is stopped; nothing of it was proved before.")
        proved = former.current
        self.write([self.unit_file(proved.unit), *self.files(proved)])
        try:
            self.restart(proved)
        except StartFailed as second:
            self.fail(f"{failure}\nGoing back to the former configuration failed as well: {second}")
        self.publish(wanted.name, "verified")
        self.fail(
            f"{failure}\nThe former configuration of {wanted.name} is serving again "
            f"(vLLM {proved.release})."
        )

    def keep(self, record: Record) -> None:
        """Write down what was proved."""
        File(self.record_path(record.current.name), proved_text(record), mode=0o600).write()

    def prune(self, keep: int) -> list[str]:
        """Remove releases that nothing uses, but for the newest ones; returns their paths."""
        used: set[str] = set()
        supervisors = {self.supervisor()[0]}
        for path in glob.glob(self.record_path("*")):
            record = read_record(read(path))
            if record is None:  # not ours to understand: nothing is removed
                return []
            kept = [d for d in (record.current, record.previous) if d is not None]
            used |= {one.venv for one in kept}
            supervisors |= {word for one in kept for word in one.command}
        proved = {}
        for marker in glob.glob(os.path.join(self.params["releases_dir"], "*", ".proved.json")):
            text = read(marker)
            if text is not None:
                proved[os.path.dirname(marker)] = str(json.loads(text).get("proved_at"))
        removed = releases_to_remove(proved, used, keep)
        for path in removed:
            self.progress.update(f"removing {path}")
            os.unlink(os.path.join(path, ".proved.json"))  # first: half of it is not usable
            shutil.rmtree(path)
        for folder in glob.glob(os.path.join(self.params["supervisors_dir"], "*")):
            if folder not in supervisors:
                shutil.rmtree(folder)
        return removed


def run(module: AnsibleModule, task: Callable[[Services], None]) -> None:
    """Run a task over the services, with the right modes for what it writes."""
    os.umask(0o022)
    services = Services(module)
    try:
        task(services)
    except FileError as problem:
        services.fail(f"{problem}; vllm_service_user names the user and group of the servers")
