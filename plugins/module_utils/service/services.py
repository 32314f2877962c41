# Copyright: (c) 2026, compute_plane.vllm contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The services of a host as one task sees them: the parts that change them, put together."""

from __future__ import annotations

import contextlib
import os
from typing import Any, Callable, NoReturn

from ansible.module_utils.basic import AnsibleModule

from ansible_collections.compute_plane.vllm.plugins.module_utils.common import late
from ansible_collections.compute_plane.vllm.plugins.module_utils.common.directories import (
    DIRECTORIES,
)
from ansible_collections.compute_plane.vllm.plugins.module_utils.common.failed import Failed
from ansible_collections.compute_plane.vllm.plugins.module_utils.common.files import (
    FileError,
)
from ansible_collections.compute_plane.vllm.plugins.module_utils.common.lock import (
    ARGUMENTS as LOCK_ARGUMENTS,
)
from ansible_collections.compute_plane.vllm.plugins.module_utils.common.lock import Asking, held
from ansible_collections.compute_plane.vllm.plugins.module_utils.common.progress import Progress
from ansible_collections.compute_plane.vllm.plugins.module_utils.service.brokers import Brokers
from ansible_collections.compute_plane.vllm.plugins.module_utils.service.change import Changes
from ansible_collections.compute_plane.vllm.plugins.module_utils.service.failures import TaskFailed
from ansible_collections.compute_plane.vllm.plugins.module_utils.service.installed import Installed
from ansible_collections.compute_plane.vllm.plugins.module_utils.service.manager import Manager
from ansible_collections.compute_plane.vllm.plugins.module_utils.service.paths import Paths
from ansible_collections.compute_plane.vllm.plugins.module_utils.service.proof import Prover
from ansible_collections.compute_plane.vllm.plugins.module_utils.service.waiting import (
    Clock,
    Starter,
)
from ansible_collections.compute_plane.vllm.plugins.module_utils.verify.run import (
    ARGUMENTS as VERIFY_ARGUMENTS,
)

ARGUMENTS: dict[str, dict[str, Any]] = {
    **VERIFY_ARGUMENTS,
    **LOCK_ARGUMENTS,
    **late.ARGUMENTS,
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
    "supervisor": {"type": "str"},
}
"""Parameters of every module that starts a server."""


class Services:
    """The services of this host.

    Args:
        module: The module that runs, with :data:`ARGUMENTS` among its parameters; one that starts
            nothing may leave out all but `DIRECTORIES`, `user` and `progress`.

    Attributes:
        results: What the task returns of each instance, by name.
    """

    def __init__(self, module: AnsibleModule) -> None:
        self.module = module
        self.params = params = module.params
        self.results: dict[str, dict[str, Any]] = {}
        self.progress = Progress(params["progress"])
        self.paths = Paths.of(params)
        self.manager = Manager(module.run_command)
        self.installed = Installed(
            self.paths,
            params["user"],
            params.get("api_keys"),
            params.get("supervisor"),
            params.get("code_archive"),
        )
        patience = params.get("start_timeout", 0) + params.get("drain", 0)
        self.starter = Starter(self.installed, self.manager, self.progress, patience, Clock())
        self.prover = Prover(self.installed, params, self.progress, module.warn)
        brokers = Brokers(self.paths, self.manager, params.get("broker_unit"))
        self.changes = Changes(
            self.installed, self.manager, self.starter, self.prover, self.progress, brokers
        )
        # For modules that look at what serves, or try what does not stay.
        self.systemctl, self.show = self.manager.systemctl, self.manager.show
        self.running, self.restart = self.manager.running, self.starter.restart
        self.config_path, self.drop_in_path = self.paths.config, self.paths.drop_in
        self.api_key, self.record = self.installed.key, self.changes.record
        self.publish, self.write = self.changes.publish, self.changes.write

    def fail(self, message: str) -> NoReturn:
        """End the task.

        Raises:
            TaskFailed: Always.
        """
        raise TaskFailed(message)


def run(module: AnsibleModule, task: Callable[[Services], None], alone: bool = False) -> None:
    """Run a task over the services, with the right modes for what it writes.

    Args:
        module: The module.
        task: What it does, to the end of the module.
        alone: Whether others that do so wait meanwhile: what it reads of the host then holds until
            it has changed, proved, and kept or taken back what it wanted. Not in check mode.
    """
    os.umask(0o022)
    late.use(module.params.get("code_archive"))
    services = Services(module)
    evidence = None
    try:
        with contextlib.ExitStack() as stack:
            if alone and not module.check_mode:
                asking = Asking.of(module.params, services.progress.update)
                stack.enter_context(held(services.paths.lock, "the servers of this host", asking))
            task(services)
        return
    except late.CodeNeeded:
        services.progress.close()
        module.fail_json(**late.ASKS, instances=[])
        return
    except TaskFailed as failure:
        message, evidence = str(failure), failure.evidence
    except Failed as failure:
        message = str(failure)
    except FileError as problem:
        message = f"{problem}; vllm_service_user names the user and group of the servers"
    if evidence is not None:
        services.results[evidence["name"]]["evidence"] = evidence
    services.progress.close()
    module.fail_json(msg=message, instances=list(services.results.values()))
