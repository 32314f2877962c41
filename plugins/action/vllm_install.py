# Copyright: (c) 2026, compute_plane.vllm contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Installs the release and fetches the models side by side.

Not with `async`: that costs a host on which nothing changes two round trips more, shows no
progress, and does not exist in check mode.
"""

from __future__ import annotations

import contextvars
import copy
import threading
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from ansible_collections.compute_plane.vllm.plugins.plugin_utils.progress import (
    ProgressAction,
    host_column,
    own_session,
)

RUNTIME = "compute_plane.vllm.vllm_runtime"
MODEL = "compute_plane.vllm.hf_model"
PACKAGE = "ansible.builtin.package"

ARGUMENTS: dict[str, dict[str, Any]] = {
    "runtime": {"type": "dict", "required": True},
    "packages": {"type": "list", "elements": "str", "default": []},
    "models": {"type": "list", "elements": "dict", "default": []},
    "token": {"type": "str", "no_log": True},
    "tools_present": {"type": "bool", "default": True},
    "lock_timeout": {"type": "int"},
}

TOOLS_NEED = "-venv"
"""How the packages end without which the tools' environment cannot be made (Debian's)."""

Step = tuple[str, dict[str, Any]]
"""A module or action, and its parameters."""


class Leg(threading.Thread):
    """One of the things that are done side by side.

    Args:
        work: Does it, and returns the modules' results; the last one may have failed.
    """

    def __init__(self, work: Callable[[], list[dict[str, Any]]]) -> None:
        # An interrupted play does not wait for it.
        super().__init__(daemon=True)
        self.results: list[dict[str, Any]] = []
        self.error: Exception | None = None
        self._work = work
        # ansible-core keeps the task and its variables there.
        self._context = contextvars.copy_context()

    def run(self) -> None:
        """Do it."""
        try:
            self.results = self._context.run(self._work)
        except Exception as error:  # noqa: BLE001 - raised where the legs meet
            self.error = error

    @property
    def message(self) -> str | None:
        """Why it failed, or None."""
        if self.error is not None:
            return str(self.error)
        last = self.results[-1] if self.results else {}
        return str(last.get("msg", "no reason given")) if last.get("failed") else None


def give_way(action: Any, turn: threading.Lock) -> None:
    """Let an action hold its turn except while it waits for the host.

    ansible-core does not expect two threads: they would read modules' source at once, which
    Python's ast module does not bear ("AST constructor recursion depth mismatch").
    """
    execute = action._low_level_execute_command

    def elsewhere(*words: Any, **options: Any) -> Any:
        turn.release()
        try:
            return execute(*words, **options)
        finally:
            turn.acquire()

    action._low_level_execute_command = elsewhere


def package_steps(names: Sequence[str], update: bool = True) -> list[Step]:
    """The step that installs packages; none where there are none.

    Args:
        names: The packages.
        update: Whether the lists of packages are fetched before.
    """
    arguments = {"name": list(names), "state": "present", "update_cache": update}
    return [(PACKAGE, arguments)] if names else []


def together(install: Sequence[dict[str, Any]], models: Sequence[dict[str, Any]]) -> dict[str, Any]:
    """The task's result from those of its steps.

    Args:
        install: What the steps of the installation returned; the last is vllm_runtime's, unless
            one before it failed.
        models: What hf_model returned, model by model.
    """
    results = [*install, *models]
    failures = [str(one.get("msg")) for one in results if one.get("failed")]
    diffs: list[Any] = []
    warnings: list[Any] = []
    for one in results:
        one.pop("invocation", None)
        diff = one.pop("diff", [])
        diffs += diff if isinstance(diff, list) else [diff]
        warnings += one.pop("warnings", [])
    result: dict[str, Any] = {
        "changed": any(one.get("changed") for one in results),
        "runtime": install[-1],
        "models": list(models),
    }
    if diffs:
        result["diff"] = diffs
    if warnings:
        result["warnings"] = warnings
    if failures:
        # Ansible prints all of a failed result: only why, then.
        result = {"changed": result["changed"], "failed": True, "msg": "\n".join(failures)}
    return result


class ActionModule(ProgressAction):
    """Runs vllm_runtime and, beside it, hf_model for one model after the other."""

    _supports_check_mode = True
    takes_locks = True

    def run(
        self, tmp: str | None = None, task_vars: dict[str, Any] | None = None
    ) -> dict[str, Any]:
        """Run the task.

        Returns:
            `together`'s result. A leg that fails does not stop the other: what that one brings
            stays, and the next run does not bring it again.
        """
        super(ProgressAction, self).run(tmp, task_vars)
        arguments = self.validate_argument_spec(argument_spec=ARGUMENTS)[1]
        variables = task_vars or {}
        self._turn = threading.Lock()
        patience = arguments["lock_timeout"]
        waiting = {} if patience is None else {"lock_timeout": patience}
        runtime, models = {**arguments["runtime"], **waiting}, arguments["models"]
        packages = [] if self._task.check_mode else arguments["packages"]
        release: list[Step] = [(RUNTIME, runtime)]
        if not models:
            return together(self._in_turn(package_steps(packages) + release, variables), [])
        first: list[dict[str, Any]] = []
        needed: list[str] = []
        if not (arguments["tools_present"] or self._task.check_mode):
            needed = [name for name in packages if name.endswith(TOOLS_NEED)]
            tools = (RUNTIME, {**runtime, "only_tools": True})
            first = self._in_turn([*package_steps(needed), tools], variables)
            if first[-1].get("failed"):
                return together(first, [])
        rest = [name for name in packages if name not in needed]
        install = package_steps(rest, update=not needed) + release
        secret = {} if arguments["token"] is None else {"token": arguments["token"]}
        fetch = [(MODEL, {**model, **secret, **waiting}) for model in models]
        legs = [
            Leg(lambda: self._in_turn(install, variables)),
            Leg(lambda: self._in_turn(fetch, variables)),
        ]
        for leg in legs:
            leg.start()
        self._wait(legs, variables)
        for leg in legs:
            if leg.error is not None:
                raise leg.error
        return together(first + legs[0].results, legs[1].results)

    def _in_turn(self, steps: Sequence[Step], variables: Mapping[str, Any]) -> list[dict[str, Any]]:
        """Run steps one after the other in a session of their own; one that fails is the last."""
        action = copy.copy(self)
        action._connection = own_session(self._connection)
        give_way(action, self._turn)
        results: list[dict[str, Any]] = []
        with self._turn:
            try:
                for name, arguments in steps:
                    step = action._packages if name == PACKAGE else action._module
                    results.append(step(name, arguments, dict(variables)))
                    if results[-1].get("failed"):
                        break
            finally:
                action.cleanup()
        return results

    def _module(
        self, name: str, arguments: Mapping[str, Any], variables: dict[str, Any]
    ) -> dict[str, Any]:
        return self.follow(name, arguments, variables)

    def _packages(
        self, name: str, arguments: Mapping[str, Any], variables: dict[str, Any]
    ) -> dict[str, Any]:
        """Let the host's package manager install packages."""
        names = ", ".join(arguments["name"])
        self._display.display(f"  {host_column(variables)}: installing system packages: {names}")
        task = self._task.copy()
        task.args = dict(arguments)
        action = self._shared_loader_obj.action_loader.get(
            name,
            task=task,
            connection=self._connection,
            play_context=self._play_context,
            loader=self._loader,
            templar=self._templar,
            shared_loader_obj=self._shared_loader_obj,
        )
        give_way(action, self._turn)
        result: dict[str, Any] = action.run(task_vars=variables)
        if result.get("failed"):
            result["msg"] = f"system packages ({names}): {result.get('msg')}"
        return result

    def _wait(self, legs: Sequence[Leg], variables: Mapping[str, Any]) -> None:
        """Wait for all; what goes wrong is said when it does, not an hour later."""
        waiting = list(legs)
        while waiting:
            for leg in list(waiting):
                leg.join(0.05)
                if leg.is_alive():
                    continue
                waiting.remove(leg)
                if leg.message is not None and waiting:
                    self._display.display(
                        f"  {host_column(variables)}: failed, and the run ends when what runs "
                        f"beside it has: {leg.message}"
                    )
