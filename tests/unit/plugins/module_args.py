# Copyright: (c) 2026, compute_plane.vllm contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""A module's parameters as every supported ansible-core hands them over."""

from __future__ import annotations

import contextlib
import json
from collections.abc import Iterator, Mapping
from typing import Any
from unittest import mock

try:
    from ansible.module_utils.testing import patch_module_args
except ImportError:  # older ones read them from the text that came with the module
    from ansible.module_utils import basic

    @contextlib.contextmanager
    def patch_module_args(args: Mapping[str, Any]) -> Iterator[None]:
        """Let a module that is made meanwhile have these parameters."""
        given = {"_ansible_remote_tmp": "/tmp", "_ansible_keep_remote_files": False, **args}  # noqa: S108
        text = json.dumps({"ANSIBLE_MODULE_ARGS": given}).encode()
        with mock.patch.object(basic, "_ANSIBLE_ARGS", text):
            yield


def asked_for(module: Any) -> dict[str, Any]:
    """What a module gives AnsibleModule: `argument_spec` and so on."""
    seen: dict[str, Any] = {}

    class Stop(Exception):
        pass

    def fake(**given: Any) -> Any:
        seen.update(given)
        raise Stop

    with mock.patch.object(module, "AnsibleModule", fake), contextlib.suppress(Stop):
        module.main()
    return seen


__all__ = ["asked_for", "patch_module_args"]
