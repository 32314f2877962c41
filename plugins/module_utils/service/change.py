# Copyright: (c) 2026, compute_plane.vllm contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Changes of what serves: proved before they are kept, or taken back."""

from __future__ import annotations

import contextlib
import grp
from collections.abc import Iterator, Mapping, Sequence
from typing import Any, NamedTuple, NoReturn

from ansible_collections.compute_plane.vllm.plugins.module_utils.common.files import File
from ansible_collections.compute_plane.vllm.plugins.module_utils.common.openai_client import (
    EndpointError,
)
from ansible_collections.compute_plane.vllm.plugins.module_utils.common.progress import Progress
from ansible_collections.compute_plane.vllm.plugins.module_utils.common.texts import read
from ansible_collections.compute_plane.vllm.plugins.module_utils.deploy.deployment import (
    Deployment,
    Record,
    proved_text,
    read_record,
)
from ansible_collections.compute_plane.vllm.plugins.module_utils.deploy.measured import (
    LINES,
    figures,
)
from ansible_collections.compute_plane.vllm.plugins.module_utils.deploy.trials import (
    NOT_THE_BACKENDS,
    no_backend,
    read_trials,
    trials_text,
)
from ansible_collections.compute_plane.vllm.plugins.module_utils.endpoint.published import (
    publish_state,
)
from ansible_collections.compute_plane.vllm.plugins.module_utils.service.alive import compute_once
from ansible_collections.compute_plane.vllm.plugins.module_utils.service.brokers import Brokers
from ansible_collections.compute_plane.vllm.plugins.module_utils.service.failures import (
    StartFailed,
    TaskFailed,
)
from ansible_collections.compute_plane.vllm.plugins.module_utils.service.installed import Installed
from ansible_collections.compute_plane.vllm.plugins.module_utils.service.manager import Manager
from ansible_collections.compute_plane.vllm.plugins.module_utils.service.proof import Prover
from ansible_collections.compute_plane.vllm.plugins.module_utils.service.waiting import (
    ONE_TOKEN_TIMEOUT,
    Starter,
)
from ansible_collections.compute_plane.vllm.plugins.module_utils.status.asleep import is_asleep

MOST_LINES = 100
"""Lines of a log that tell what an engine measured: a few for each of its workers."""


class Changed(NamedTuple):
    """What became of a change that was proved."""

    seconds: float
    """From the start to the first token."""
    backend: str
    """The attention backend that works; empty where none was to be tried."""
    tried: list[dict[str, Any]]
    """The backends that were tried, with what became of each."""


class Changes:
    """Changes what serves.

    Args:
        installed: The files of the services.
        manager: systemd.
        starter: Starts servers.
        prover: Proves them.
        progress: Where it is shown what is done.
        brokers: The brokers of instances on demand.
    """

    def __init__(
        self,
        installed: Installed,
        manager: Manager,
        starter: Starter,
        prover: Prover,
        progress: Progress,
        brokers: Brokers,
    ) -> None:
        self.brokers = brokers
        self.installed = installed
        self.paths = installed.paths
        self.manager = manager
        self.starter = starter
        self.prover = prover
        self.progress = progress

    def record(self, name: str) -> Record | None:
        """What was proved of an instance."""
        return read_record(read(self.paths.proved(name)))

    def publish(self, name: str, state: str) -> None:
        """Say in an instance's endpoint record, where it has one, how it is."""
        publish_state(self.paths.etc_dir, name, state)

    def write(self, files: list[File], deployments: Sequence[Deployment] = ()) -> None:
        """Write those files that are not right, and the common ones, and let systemd read them.

        Args:
            files: The files.
            deployments: What may need the newest supervisor.

        Raises:
            FileError: One belongs to a group that there is none of; none was written.
        """
        files = [*self.installed.common(deployments), *files]
        wrong = [file for file in files if not file.is_right()]
        for file in wrong:
            file.gid()
        for file in wrong:
            file.write()
        self.manager.systemctl("daemon-reload")

    def install(self, wanted: Deployment) -> None:
        """Put a deployment's files where the next start takes them."""
        if wanted.on_demand is None:
            self.brokers.release(wanted.name)
        files = [self.installed.template(wanted.unit), *self.installed.instance(wanted)]
        self.write(files, [wanted])
        self.brokers.arrange()

    def ensure_user(self) -> None:
        """Make the servers' system user where it is missing."""
        file = self.installed.users()
        if not file.is_right():
            file.write()
        try:
            grp.getgrnam(self.installed.user)
        except KeyError:
            self.manager.make_users(file.path)

    def remove(self, name: str) -> None:
        """Stop an instance and remove what is ours of it, its caches too."""
        unit = f"vllm@{name}.service"
        self.progress.update(f"stopping {name}")
        self.brokers.release(name)
        self.manager.systemctl("disable", "--now", unit)
        self.manager.systemctl("reset-failed", unit, check=False)
        self.manager.systemctl("clean", "--what=cache", "--what=runtime", unit, check=False)
        for file in self.installed.removed(name):
            file.write()
        self.brokers.arrange()

    def change(
        self, wanted: Deployment, backends: Mapping[str, Deployment] | None = None
    ) -> Changed:
        """Start an instance with a configuration, prove it, and keep it; or go back, and fail.

        Args:
            wanted: What is wanted, with the first backend where there are several.
            backends: The same with each attention backend that is to be tried, in order.

        Raises:
            TaskFailed: It was not proved.
        """
        with self.kept_awake(wanted):
            return self._change(wanted, backends)

    @contextlib.contextmanager
    def kept_awake(self, wanted: Deployment) -> Iterator[None]:
        """Have no other put out an instance on demand while it is started and proved."""
        if wanted.on_demand is None:
            yield
            return
        path = self.paths.kept_awake(wanted.name)
        File(path, None).write()
        kept = File(path, f"{wanted.fingerprint}\n")
        kept.write()
        try:
            yield
        finally:
            File(path, None).write()

    def _change(self, wanted: Deployment, backends: Mapping[str, Deployment] | None) -> Changed:
        former = self.record(wanted.name)
        tried: list[dict[str, Any]] = []
        failure = StartFailed("there is nothing to start")
        for backend, one in (backends or {"": wanted}).items():
            began = self.starter.clock.now()
            try:
                self.install(one)
                self.publish(wanted.name, "starting")
                seconds = self.starter.restart(one)
                self.prove(one)
            except StartFailed as problem:
                failure = problem
                self.keep_measured(one, began)
                tried.append({"backend": backend, "outcome": str(problem).splitlines()[0]})
                if problem.cause in NOT_THE_BACKENDS:
                    break
                continue
            if backend:
                tried.append({"backend": backend, "outcome": f"answered after {seconds:.0f} s"})
            self.accept(one, former)
            return Changed(seconds, backend, tried if backend else [])
        why = str(failure)
        if backends:
            why = f"{no_backend(tried, len(backends))}\n{why}"
        return self.go_back(wanted, former, why, failure.evidence)

    def keep_measured(self, wanted: Deployment, began: float) -> None:
        """Keep what an engine measured whose start failed: the next plan of the same knows it.

        Args:
            wanted: What was started.
            began: When, in seconds since the epoch.
        """
        if wanted.expected:
            unit = ("--unit", wanted.unit_name, "--grep", LINES)
            lines = self.manager.journal(began - 1, MOST_LINES, *unit).splitlines()
            self.prover.keep_measured(wanted, figures(lines))

    def prove(self, wanted: Deployment) -> None:
        """Verify what a server that is ready answers, or wait for the leader who does.

        Raises:
            StartFailed: It does not answer truly.
        """
        if wanted.answers:
            self.prover.prove(wanted)
        else:
            self.starter.await_leader(wanted)

    def go_back(
        self,
        wanted: Deployment,
        former: Record | None,
        failure: str,
        evidence: dict[str, Any] | None,
    ) -> NoReturn:
        """Leave what was proved last serving, and fail.

        Args:
            wanted: What was not proved.
            former: What was proved before; `None` for nothing.
            failure: What was wrong.
            evidence: What the proof found.

        Raises:
            TaskFailed: Always.
        """
        self.progress.update(f"going back to the former {wanted.name}")
        self.publish(wanted.name, "failed")
        if former is not None and former.current.fingerprint == wanted.fingerprint:
            end = "This configuration was proved before; systemd goes on trying."
            raise TaskFailed(f"{failure}\n{end}", evidence)
        self.manager.systemctl("stop", wanted.unit_name)
        if former is None:
            end = f"{wanted.unit_name} is stopped; nothing of it was proved before."
            raise TaskFailed(f"{failure}\n{end}", evidence)
        self.install(former.current)
        try:
            self.starter.restart(former.current)
        except StartFailed as second:
            end = f"Going back to the former configuration failed as well: {second}"
            raise TaskFailed(f"{failure}\n{end}", evidence) from second
        self.publish(wanted.name, "verified")
        end = f"The former configuration of {wanted.name} is serving again"
        raise TaskFailed(f"{failure}\n{end} (vLLM {former.current.release}).", evidence)

    def confirm(self, wanted: Deployment, is_proved: bool) -> tuple[float, dict[str, Any] | None]:
        """See that a server which need not be started answers; prove it where that is still due.

        Returns:
            The seconds until it answered, and its verification where it needs no other.

        Raises:
            TaskFailed: It does not answer, or not truly.
        """
        began = self.starter.clock.monotonic()
        verified = None
        try:
            if not wanted.answers:
                raise EndpointError("it has no API")
            verified = self.verified_asleep(wanted) if is_proved else None
            if verified is not None:
                return 0.0, verified
            verified = self.prover.verify_briefly(wanted) if is_proved else None
            if verified is None:
                endpoint = self.installed.endpoint(wanted, ONE_TOKEN_TIMEOUT)
                compute_once(endpoint, wanted.kind, wanted.served_model_name)
            seconds = round(self.starter.clock.monotonic() - began, 1)
        except EndpointError:  # it is starting, or something is wrong
            try:
                seconds = self.starter.wait_until_ready(wanted)
            except StartFailed as failure:
                self.publish(wanted.name, "failed")
                raise TaskFailed(str(failure)) from failure
        if not is_proved:
            former = self.record(wanted.name)
            try:
                with self.kept_awake(wanted):
                    self.prove(wanted)
            except StartFailed as failure:
                self.go_back(wanted, former, str(failure), failure.evidence)
            self.accept(wanted, former)
        else:
            self.tell_group(wanted)
        return seconds, verified

    def verified_asleep(self, wanted: Deployment) -> dict[str, Any] | None:
        """What was verified last of an instance on demand that is asleep: nobody wakes it for that.

        Returns:
            As :meth:`confirm`; `None` where it is awake, or has to be woken, as its suite is due.
        """
        if wanted.on_demand is None or not is_asleep(self.paths.run_dir, wanted.name):
            return None
        return self.prover.verified_before(wanted)

    def tell_group(self, wanted: Deployment) -> None:
        """Let the followers know that the leader's answers were verified."""
        if wanted.group is not None and wanted.answers:
            file = File(self.paths.group_proof(wanted.name), f"{wanted.fingerprint}\n")
            if not file.is_right():
                file.write()

    def accept(self, wanted: Deployment, former: Record | None) -> None:
        """Keep what was proved, and start it at boot from now on."""
        self.tell_group(wanted)
        record = former.proved(wanted) if former else Record(wanted)
        File(self.paths.proved(wanted.name), proved_text(record), mode=0o600).write()
        found = self.prover.last(wanted)
        if found is not None:
            self.prover.record(wanted, found)[1].write()
        if not self.paths.is_enabled(wanted.name):
            self.manager.systemctl("enable", "--quiet", wanted.unit_name)

    def keep_trial(self, key: str, changed: Changed) -> None:
        """Write down which attention backend works.

        Args:
            key: What it holds for, `trials.key_of`.
            changed: What was tried.
        """
        outcomes = read_trials(read(self.paths.trials))
        outcomes[key] = {"backend": changed.backend, "tried": changed.tried}
        File(self.paths.trials, trials_text(outcomes)).write()
