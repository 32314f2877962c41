# Copyright: (c) 2026, compute_plane.vllm contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Code that is sent to a host only when a module asks for it (`common/late.py` of module_utils)."""

from __future__ import annotations

import io
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from ansible_collections.compute_plane.vllm.plugins.plugin_utils.sending import send_file

FOLDER = Path(__file__).resolve().parent.parent / "module_utils"


def archive() -> bytes:
    """All of module_utils as a zip file."""
    import zipfile  # here, because hardly any run sends it

    written = io.BytesIO()
    with zipfile.ZipFile(written, "w", zipfile.ZIP_DEFLATED) as made:
        folders = {path.parent for path in FOLDER.glob("*/*.py")}
        for folder in sorted(folders):
            if not (folder / "__init__.py").exists():
                made.writestr(f"{folder.name}/__init__.py", "")
        for path in sorted(FOLDER.rglob("*.py")):
            made.write(path, path.relative_to(FOLDER).as_posix())
    return written.getvalue()


def send(action: Any) -> str:
    """Send it to a task's host.

    Args:
        action: The task's action.

    Returns:
        Where the zip file is on the host, until the task ends.
    """
    return send_file(action, "code.zip", archive())


def with_code(
    action: Any,
    execute: Callable[[Mapping[str, Any]], dict[str, Any]],
    arguments: Mapping[str, Any],
) -> dict[str, Any]:
    """Run a module, and again with all code where it asks for that; it has changed nothing before.

    Args:
        action: The task's action.
        execute: Runs the module with the arguments that it is given.
        arguments: The module's.

    Returns:
        What the module returned.
    """
    result = execute(arguments)
    if result.get("needs_code"):
        result = execute({**arguments, "code_archive": send(action)})
    return result


def run_with_code(
    action: Any, module: str, arguments: Mapping[str, Any], task_vars: dict[str, Any] | None
) -> dict[str, Any]:
    """Run a module by its name, as :func:`with_code` does.

    Args:
        action: The task's action.
        module: The module's name.
        arguments: Its arguments.
        task_vars: The task's variables.

    Returns:
        What the module returned.
    """

    def execute(given: Mapping[str, Any]) -> dict[str, Any]:
        result: dict[str, Any] = action._execute_module(
            module_name=module, module_args=dict(given), task_vars=task_vars
        )
        return result

    return with_code(action, execute, arguments)
