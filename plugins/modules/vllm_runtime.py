#!/usr/bin/python
# Copyright: (c) 2026, compute_plane.vllm contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Build the venv of a release from its lock."""

from __future__ import annotations

DOCUMENTATION = r"""
module: vllm_runtime
short_description: Build the virtual environment of a vLLM release from its lock
version_added: 0.1.0
description:
  - Installs exactly what a lock with hashes names into a virtual environment whose name holds
    the lock's hash, lets the environment's own Python import the stack and name its versions, and
    only then marks it proved. A proved environment is never changed.
  - A killed run leaves an environment without the mark. It is not used, and the next run builds it
    again; packages that had arrived are in the cache. A run that fails removes what it began.
  - Packages that come from uv's cache are compared with their wheels' own records before they are
    imported. What differs, or what uv cannot read, is dropped from the cache and fetched again
    once, with a warning.
  - Every run compares the environment's files with its manifest. Damaged packages are dropped from
    the cache, which shares their files by hard links, and installed again; the environment itself
    stays where it is, since it may be serving.
  - What was proved is kept beside O(cache_dir), with the bytecode. An environment that is built
    again from the same lock with the same interpreter, and whose every file is as it was then, is
    proved by that comparison and not imported again.
  - An environment that somebody else made is only verified, see O(managed).
  - The small environment O(tools_path), which holds uv, is built first, from O(tools_lock).
  - The action plugin of the same name shows the progress.
author: compute_plane.vllm contributors (@compute-plane)
attributes:
  check_mode:
    support: full
    description: Says whether an environment would be built.
  diff_mode:
    support: full
    description: Names the environments before and after.
extends_documentation_fragment:
  - compute_plane.vllm.lock
  - compute_plane.vllm.code
options:
  venv:
    description: Where the release's environment is, or is to be.
    type: path
    required: true
  python:
    description: The Python interpreter that the environment is made for.
    type: path
    required: true
  lock:
    description:
      - The text of the release's lock, in the requirements format, with hashes. Required if
        O(managed=true).
    type: str
  expect:
    description:
      - The versions that the environment's own Python must name, by C(vllm), C(torch), C(cuda)
        (C(torch.version.cuda)) and C(triton).
    type: dict
    required: true
  release:
    description: The release, recorded in the environment.
    type: str
    required: true
  accelerator:
    description: The accelerator, recorded in the environment.
    type: str
    required: true
  managed:
    description:
      - Whether this module makes the environment. With V(false) O(venv) is somebody's own, and its
        Python is only asked whether its versions are those of O(expect). The answer is kept under
        O(own_dir) and holds until a package of the environment changes.
    type: bool
    default: true
  own_dir:
    description: Where the proofs of environments that are not managed are kept.
    type: path
    default: /opt/vllm/own
  verify:
    description:
      - V(quick) compares size and time of modification of every file with the manifest and reads
        those that differ. It does not see a change that keeps both, such as a bad disk's.
      - V(full) reads every file. An environment that is not managed is proved anew.
    type: str
    choices: [quick, full]
    default: quick
  environment:
    description:
      - Variables for uv and pip, such as a proxy, a mirror, a certificate authority, or the
        credentials of an index (C(UV_INDEX_NAME_PASSWORD)). They reach the programs in no command
        line, and what these print is freed from credentials.
    type: dict
    default: {}
  installed_bytes:
    description: About how many bytes the installed environment has, for the progress shown.
    type: int
    default: 0
  metadata_alias:
    description:
      - A C(name) and a C(version) under which the environment's vLLM is to be found besides its
        own, for builds that are distributed under another name.
    type: dict
  tools_lock:
    description: The text of the lock of the tools' environment.
    type: str
    required: true
  tools_path:
    description: A symbolic link that always leads to the current tools' environment.
    type: path
    default: /opt/vllm/tools
  only_tools:
    description:
      - See to the tools' environment and leave the release's as it is, so that what needs the tools
        can begin before the release is installed.
    type: bool
    default: false
  cache_dir:
    description:
      - uv's cache. On the same file system as O(venv), files are linked, not copied.
    type: path
    default: /opt/vllm/cache/uv
  bundle:
    description:
      - A directory on the host whose folder C(wheels) holds every wheel of O(lock) and
        O(tools_lock). Packages are taken from there, and from nowhere else.
    type: path
  progress:
    description: The file in which progress is kept; set by the action plugin.
    type: path
notes:
  - Settings of the package index are also read from uv's and pip's configuration files on the host.
"""

EXAMPLES = r"""
- name: Build the release that the plan chose
  compute_plane.vllm.vllm_runtime:
    venv: "{{ plan.runtime.venv }}"
    python: "{{ plan.runtime.python }}"
    lock: "{{ lookup('ansible.builtin.file', 'releases/' ~ plan.runtime.lock, rstrip=false) }}"
    expect: "{{ plan.runtime.expect }}"
    release: "{{ plan.release }}"
    accelerator: "{{ plan.accelerator }}"
    tools_lock: "{{ lookup('ansible.builtin.file', 'requirements/tools.txt', rstrip=false) }}"
"""

RETURN = r"""
venv:
  description: The release's environment.
  type: str
  returned: always
  sample: /opt/vllm/releases/0.14.1-cpu-3f1d0a9be2c4
versions:
  description: What the environment's own Python said when it was proved.
  type: dict
  returned: when the environment is proved
  sample: {vllm: 0.14.1, torch: 2.9.1+cu128, cuda: "12.8", triton: 3.5.1}
damage:
  description:
    - The files that were not as the manifest says, before they were repaired; or, where an
      environment was built, not as their wheels say.
  type: str
  returned: when a proved environment or the cache was damaged
  sample: "altered: lib/python3.11/site-packages/vllm/envs.py"
seconds:
  description: How long each step took, in seconds.
  type: dict
  returned: when something was built
  sample: {tools: 6.1, install: 77.0, prove: 24.5}
"""

import contextlib
import errno
import glob
import os
from typing import Any, NoReturn

from ansible.module_utils.basic import AnsibleModule

from ansible_collections.compute_plane.vllm.plugins.module_utils.common import late
from ansible_collections.compute_plane.vllm.plugins.module_utils.common.failed import Failed
from ansible_collections.compute_plane.vllm.plugins.module_utils.common.lock import (
    ARGUMENTS as LOCK_ARGUMENTS,
)
from ansible_collections.compute_plane.vllm.plugins.module_utils.common.lock import Asking, held
from ansible_collections.compute_plane.vllm.plugins.module_utils.common.progress import Progress
from ansible_collections.compute_plane.vllm.plugins.module_utils.runtime.locked import Locked
from ansible_collections.compute_plane.vllm.plugins.module_utils.runtime.own import Own
from ansible_collections.compute_plane.vllm.plugins.module_utils.runtime.proof import (
    secrets_of,
    without_secrets,
)
from ansible_collections.compute_plane.vllm.plugins.module_utils.runtime.tools import Tools


class Runtime:
    """One run of the module."""

    def __init__(self, module: AnsibleModule) -> None:
        self.module = module
        self.params = module.params
        environment = {
            name: str(value) for name, value in (self.params["environment"] or {}).items()
        }
        self.secrets = secrets_of(environment)
        # Ansible would hide every value of a no_log parameter, also a "1", wherever it is found.
        module.no_log_values = set(self.secrets)
        self.params["environment"] = dict.fromkeys(environment, "not shown")
        self.progress = Progress(self.params["progress"])
        self.environment = environment
        late.use(self.params["code_archive"])
        full, python = self.params["verify"] == "full", self.params["python"]
        self.tools = Tools(self.params["tools_path"], self.params["tools_lock"], python, full)
        self.own = Own(self.params["venv"], self.params["own_dir"])
        lock = self.params["lock"] or ""
        self.release = Locked(self.params["venv"], lock, python, full)

    def fail(self, message: str) -> NoReturn:
        """End the task: what serves now is as it was."""
        with contextlib.suppress(OSError):
            self.progress.close()
        self.module.fail_json(msg=without_secrets(message, self.secrets), venv=self.params["venv"])
        raise SystemExit(1)  # for the type checker: fail_json has ended the process

    def check_bundle(self) -> None:
        """See that the bundle is on the host.

        Raises:
            Failed: It is not.
        """
        bundle = self.params["bundle"]
        if bundle is not None and not glob.glob(os.path.join(bundle, "wheels", "*.whl")):
            raise Failed(
                f"bundle: there are no wheels in {os.path.join(bundle, 'wheels')} on the host; "
                "bring the whole directory that the bundle was made in to the host"
            )

    def run(self) -> None:
        """Decide, build what is missing, and report; any failure is one line."""
        try:
            self.decide()
        except late.CodeNeeded:
            self.module.fail_json(**late.ASKS)
        except Failed as error:
            self.fail(str(error))
        except OSError as error:
            if error.errno in (errno.ENOSPC, errno.EDQUOT):
                where = f" ({error.filename})" if error.filename else ""
                self.fail(f"the disk is full{where}; free space and run again")
            self.fail(f"{error}; run again when that is mended")

    def decide(self) -> None:
        """Decide, build what is missing, and report."""
        venv, managed = self.params["venv"], self.params["managed"]
        only_tools = self.params["only_tools"]
        again = not managed and self.params["verify"] == "full" and not only_tools
        todo = [] if self.tools.are_current() else [f"proved venv {self.tools.path}"]
        result: dict[str, Any] = {"venv": venv}
        touched: list[str] = []
        mended: list[str] = []
        if only_tools:
            pass
        elif not managed:
            self.own.check()
            if self.own.versions() is None:
                todo.append(f"venv {venv}, verified")
        elif self.release.record() is None:
            todo.append(f"proved venv {venv}")
        else:
            damage, _entries, touched = self.release.damage()
            if damage:
                result["damage"] = damage.text()
                todo.append(f"proved venv {venv}, repaired")
        if todo:
            result["diff"] = {"before": "", "after": "".join(f"{line}\n" for line in todo)}
            self.check_bundle()
        if (todo or touched or again) and not self.module.check_mode:
            work = late.late("runtime.work").Work(
                self.params, self.tools, self.own, self.environment, self.progress
            )
            # Two plays at once on one host: the second waits, then finds the work done.
            path = os.path.join(os.path.dirname(self.params["tools_path"]), ".lock")
            asking = Asking.of(self.params, self.progress.update)
            with held(path, "what is installed on this host", asking) as guard:
                work.carry_out(guard)
            mended = work.release.mended
            if work.seconds:
                result["seconds"] = work.seconds
        if mended and "damage" not in result:
            result["damage"] = "; ".join(mended)
            result["msg"] = (
                f"the cache {self.params['cache_dir']} held damaged packages, which were fetched"
                f" again: {result['damage']}. The files of a venv are the cache's own, by hard"
                " links: what is edited in place there reaches every later venv"
            )
            self.module.warn(result["msg"])
        elif "damage" in result:
            verb = "would be" if self.module.check_mode else "was"
            result["msg"] = f"the venv {venv} was damaged and {verb} repaired: {result['damage']}"
            self.module.warn(result["msg"])
        versions = self.own.versions() if not managed else None
        if managed:
            versions = (self.release.record() or {}).get("versions")
        if versions is not None:
            result["versions"] = versions
        self.progress.close()
        self.module.exit_json(changed=bool(todo), **result)


def main() -> None:
    """Run the module."""
    os.umask(0o022)  # the service's user reads what is built here
    module = AnsibleModule(
        argument_spec={
            "venv": {"type": "path", "required": True},
            "python": {"type": "path", "required": True},
            "lock": {"type": "str"},
            "expect": {"type": "dict", "required": True},
            "release": {"type": "str", "required": True},
            "accelerator": {"type": "str", "required": True},
            "managed": {"type": "bool", "default": True},
            "own_dir": {"type": "path", "default": "/opt/vllm/own"},
            "verify": {"type": "str", "choices": ["quick", "full"], "default": "quick"},
            "environment": {"type": "dict", "default": {}, "no_log": True},
            "installed_bytes": {"type": "int", "default": 0},
            "metadata_alias": {"type": "dict"},
            "tools_lock": {"type": "str", "required": True},
            "tools_path": {"type": "path", "default": "/opt/vllm/tools"},
            "only_tools": {"type": "bool", "default": False},
            "cache_dir": {"type": "path", "default": "/opt/vllm/cache/uv"},
            "bundle": {"type": "path"},
            "progress": {"type": "path"},
            **LOCK_ARGUMENTS,
            **late.ARGUMENTS,
        },
        required_if=[("managed", True, ["lock"])],
        supports_check_mode=True,
    )
    Runtime(module).run()


if __name__ == "__main__":
    main()
