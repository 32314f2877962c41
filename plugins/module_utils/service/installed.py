# Copyright: (c) 2026, compute_plane.vllm contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The files that make the services: what they are wanted to be, and the keys in them."""

from __future__ import annotations

import glob
import os
import re
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from ansible_collections.compute_plane.vllm.plugins.module_utils.common.files import File
from ansible_collections.compute_plane.vllm.plugins.module_utils.common.late import CodeNeeded
from ansible_collections.compute_plane.vllm.plugins.module_utils.common.openai_client import (
    Endpoint,
)
from ansible_collections.compute_plane.vllm.plugins.module_utils.common.texts import read
from ansible_collections.compute_plane.vllm.plugins.module_utils.deploy.deployment import Deployment
from ansible_collections.compute_plane.vllm.plugins.module_utils.deploy.environment import (
    API_KEY,
    environment_file,
    read_environment_file,
)
from ansible_collections.compute_plane.vllm.plugins.module_utils.deploy.systemd import MANAGED
from ansible_collections.compute_plane.vllm.plugins.module_utils.endpoint.published import (
    record_path,
)
from ansible_collections.compute_plane.vllm.plugins.module_utils.service.failures import TaskFailed
from ansible_collections.compute_plane.vllm.plugins.module_utils.service.paths import Paths
from ansible_collections.compute_plane.vllm.plugins.module_utils.service.supervisors import (
    content_name,
    sent_texts,
    texts_in,
)
from ansible_collections.compute_plane.vllm.plugins.module_utils.verify.run import (
    failed_path,
    state_path,
)

OURS = "compute_plane.vllm.conf"
"""Our file among others' in a folder of the distribution."""
NEEDRESTART = """\
# Managed by Ansible (compute_plane.vllm). Unattended upgrades do not interrupt what is served.
$nrconf{override_rc}{qr(^vllm\\@)} = 0;
"""


class Installed:
    """The files of a host's services.

    Args:
        paths: Where they are.
        user: The servers' system user and group.
        api_keys: The keys that are wanted by instance; `None` leaves those that there are.
        supervisor: The name of the newest supervisor's folder.
        archive: The zip file of the code, its own among that, where the controller has sent one.
    """

    def __init__(
        self,
        paths: Paths,
        user: str,
        api_keys: Mapping[str, str] | None,
        supervisor: str | None = None,
        archive: str | None = None,
    ) -> None:
        self.paths = paths
        self.user = user
        self.api_keys = api_keys
        self._newest = os.path.join(paths.supervisors_dir, supervisor or "")
        self._archive = archive
        self._texts: dict[str, str] | None = None

    def template(self, text: str) -> File:
        """The template unit."""
        return File(self.paths.template, text)

    def users(self) -> File:
        """The servers' system user, as systemd-sysusers reads it."""
        return File(
            os.path.join(self.paths.sysusers_dir, OURS),
            MANAGED.format(unit="vllm@.service")
            + f'u {self.user} - "vLLM inference server" /var/lib/vllm\n',
        )

    def common(self, deployments: Iterable[Deployment]) -> list[File]:
        """The files of the host that no instance has to itself, but for the template unit.

        Args:
            deployments: The instances, of which some may have an older supervisor.

        Raises:
            CodeNeeded: One needs the newest, which is neither here nor was it sent.
        """
        files = [self.users()]
        if os.path.exists("/etc/debian_version"):
            files.append(File(os.path.join(self.paths.needrestart_dir, OURS), NEEDRESTART))
        folder, texts = self.supervisor()
        if any(one.supervisor == folder for one in deployments):
            if texts is None:
                raise CodeNeeded("supervisor")
            files += [File(os.path.join(folder, name), text) for name, text in texts.items()]
        return files

    def instance(self, wanted: Deployment) -> list[File]:
        """The files of an instance."""
        config = self.paths.config(wanted.name)
        return [
            File(config, wanted.config_text, mode=0o640, group=wanted.user),
            File(self.paths.drop_in(wanted.name), wanted.drop_in_text),
            *self.demand(wanted),
            *self.secrets(wanted.name),
        ]

    def demand(self, wanted: Deployment) -> list[File]:
        """The files by which a broker answers for an instance, there or gone."""
        name = wanted.name
        return [
            File(self.paths.demand(name), wanted.demand_text),
            File(self.paths.socket(name), wanted.socket_text),
        ]

    def secrets(self, name: str) -> list[File]:
        """The file of an instance's secrets, where there is one or should be one of ours.

        Raises:
            TaskFailed: A key has characters that no such file can have.
        """
        path = self.paths.environment(name)
        if self.api_keys is None:
            return []
        key = self.api_keys.get(name)
        if key is not None:
            try:
                text = environment_file(f"vllm@{name}.service", {API_KEY: str(key)})
            except ValueError as problem:
                raise TaskFailed(
                    f"vllm_service_api_keys.{name}: {problem}; use another key"
                ) from None
            return [File(path, text, mode=0o640, group=self.user, is_secret=True)]
        if (read(path) or "").startswith(MANAGED.format(unit=f"vllm@{name}.service")):
            return [File(path, None, is_secret=True)]
        return []

    def key(self, name: str) -> str | None:
        """The key that a server started now would demand; `None` for none."""
        for file in self.secrets(name):
            return read_environment_file(file.text).get(API_KEY)
        return read_environment_file(read(self.paths.environment(name))).get(API_KEY)

    def endpoint(self, wanted: Deployment, timeout: float) -> Endpoint:
        """The server of a deployment, as this host asks it."""
        return Endpoint(wanted.url, api_key=self.key(wanted.name), timeout=timeout)

    def removed(self, name: str) -> list[File]:
        """The files of an instance that is no longer wanted."""
        paths = (
            self.paths.config(name),
            self.paths.drop_in(name),
            self.paths.demand(name),
            self.paths.socket(name),
            self.paths.proved(name),
            state_path(self.paths.state_dir, name),
            failed_path(self.paths.state_dir, name),
            record_path(self.paths.etc_dir, name),
        )
        files = [File(path, None) for path in paths]
        return [*files, File(self.paths.environment(name), None, is_secret=True)]

    def supervisor(self) -> tuple[str, dict[str, str] | None]:
        """The newest supervisor's folder, named by its content, and its files by their path in it.

        The files are `None` where they are neither here nor were they sent.
        """
        if self._texts is None:
            texts = texts_in(self._newest)
            if content_name(texts) == os.path.basename(self._newest):
                self._texts = texts
            elif self._archive is not None:
                self._texts = sent_texts(self._archive)
        return self._newest, self._texts


def device_nodes(gpus: Sequence[str], information: Sequence[str]) -> list[str] | None:
    """The device nodes of GPUs.

    Args:
        gpus: Their UUIDs.
        information: What the driver says of each GPU that there is, in
            `/proc/driver/nvidia/gpus/*/information`: `GPU UUID:` and `Device Minor:`.

    Returns:
        Such as `/dev/nvidia0`, in the order of the UUIDs; `None` when the driver does not tell.
    """
    minors = {}
    for text in information:
        fields = dict(re.findall(r"^([^:\n]+):[ \t]*(.*?)[ \t]*$", text, re.MULTILINE))
        if fields.get("Device Minor", "").isdigit():
            minors[fields.get("GPU UUID")] = int(fields["Device Minor"])
    if not all(uuid in minors for uuid in gpus):
        return None
    return [f"/dev/nvidia{minors[uuid]}" for uuid in gpus]


def nodes_of(environment: Mapping[str, Any]) -> list[str] | None:
    """The device nodes of an instance's GPUs; `None` when the driver does not tell.

    Args:
        environment: The instance's variables.
    """
    chosen = environment.get("CUDA_VISIBLE_DEVICES")
    if not chosen:
        return []
    paths = glob.glob("/proc/driver/nvidia/gpus/*/information")
    return device_nodes(str(chosen).split(","), [read(path) or "" for path in paths])
