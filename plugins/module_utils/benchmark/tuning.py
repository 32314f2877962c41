# Copyright: (c) 2026, compute_plane.vllm contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Which settings are tried for an instance, in which order, and which is the best. Pure functions.

A choice is one value for each setting of the space. Trying every choice would take hours, so one
setting is varied after the other, and each keeps the value that was best.
"""

from __future__ import annotations

import dataclasses
import itertools
import json
import statistics
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from ansible_collections.compute_plane.vllm.plugins.module_utils.deploy.deployment import (
    Deployment,
    derived,
)
from ansible_collections.compute_plane.vllm.plugins.module_utils.deploy.systemd import fingerprint

Choice = dict[str, Any]

WORKING = "working"
"""In the place of values of attention_backend: those that the plan finds to work."""
TOKENS_PER_JOULE = "tokens_per_joule"
GOALS = ("latency", "throughput", "startup", TOKENS_PER_JOULE)
POWER = "gpu_power_limit"
"""A setting of the instance's GPUs, not of the instance: watts for each, None as it is."""
MOST_CHOICES = 500
DEFAULTS: dict[str, Any] = {
    "attention_backend": "TRITON_ATTN",
    "enforce_eager": False,
    "gpu_memory_utilization": 0.85,
    "dtype": "auto",
    "cpu_kvcache_space": 1,
    "extra_args": {},
}
"""What an instance has that says nothing (plan/wanted.py); None for other keys."""
SETTINGS = (
    "enforce_eager",
    "attention_backend",
    "max_num_seqs",
    "gpu_memory_utilization",
    "max_model_len",
    "dtype",
    "cpu_kvcache_space",
    "extra_args",
    POWER,
)
_ONLY_CUDA = ("attention_backend", "gpu_memory_utilization", POWER)
_ONLY_CPU = ("cpu_kvcache_space",)


class SpaceError(Exception):
    """A space cannot be read; the message has a line for each thing that is wrong."""


def key(choice: Mapping[str, Any]) -> str:
    """What tells choices apart."""
    return json.dumps(choice, sort_keys=True)


def start(space: Mapping[str, Sequence[Any]], instance: Mapping[str, Any]) -> Choice:
    """The choice that the inventory makes now."""
    return {name: instance.get(name, DEFAULTS.get(name)) for name in space}


def read_space(
    raw: Any, instance: Mapping[str, Any], accelerator: str, backends: Sequence[str]
) -> dict[str, list[Any]]:
    """The values to try of each setting, what the inventory has first.

    Args:
        raw: Setting to list of values, as the user wrote it. Settings that mean nothing on the
            accelerator are left out.
        instance: The instance in the inventory.
        accelerator: `cuda` or `cpu`.
        backends: The attention backends that work, for `working`.

    Raises:
        SpaceError: It is not of that form, or has too many combinations.
    """
    if not isinstance(raw, Mapping) or not raw:
        raise SpaceError("the space is not a mapping of settings to lists of values")
    problems, space = [], {}
    meaningless = _ONLY_CUDA if accelerator == "cpu" else _ONLY_CPU
    for name, values in raw.items():
        if name not in SETTINGS:
            problems.append(f"space.{name}: cannot be tried; there are {', '.join(SETTINGS)}")
            continue
        if name == "attention_backend" and values == WORKING:
            values = list(backends)  # noqa: PLW2901 - the word stands for them
        if name in meaningless:
            continue
        if not isinstance(values, (list, tuple)) or not values:
            problems.append(f"space.{name}: {values!r} is not a list of values")
            continue
        if name == "extra_args" and not all(isinstance(value, Mapping) for value in values):
            problems.append(f"space.{name}: each value is a mapping of flags")
            continue
        present = instance.get(name, DEFAULTS.get(name))
        space[str(name)] = [present, *[value for value in values if value != present]]
    count = 1
    for values in space.values():
        count *= len(values)
    if count > MOST_CHOICES:
        problems.append(f"space: {count} combinations are more than {MOST_CHOICES}")
    if problems:
        raise SpaceError("\n".join(problems))
    return space


def choices(space: Mapping[str, Sequence[Any]]) -> list[Choice]:
    """Every combination of the space, the inventory's first."""
    return [dict(zip(space, values)) for values in itertools.product(*space.values())]


def changed_instance(instance: Mapping[str, Any], choice: Mapping[str, Any]) -> dict[str, Any]:
    """The instance in the inventory with a choice's settings; other flags of extra_args stay."""
    changed = dict(instance)
    for name, value in choice.items():
        if name == POWER:
            continue
        if name == "extra_args":
            value = {**instance.get("extra_args", {}), **value}  # noqa: PLW2901 - over the rest
        if value is None:
            changed.pop(name, None)
        else:
            changed[name] = value
    return changed


def score(measured: Mapping[str, Any], goal: str) -> float | None:
    """How good a measured choice is, less being better; `None` without a figure for the goal.

    Args:
        measured: `ready_seconds` and `points` of a candidate.
        goal: `latency` is the median time of a whole answer of the load with the fewest streams;
            `throughput` the seconds a token of the load with the most; `startup` the seconds to
            the first token after a start; `tokens_per_joule` the joules a token of the load with
            the most.
    """
    if goal == "startup":
        value = measured.get("ready_seconds")
        return None if value is None else float(value)
    by_streams = _by_streams(measured)
    if not by_streams:
        return None
    if goal == "latency":
        figure = by_streams[0]["figures"]["e2el_ms"]
        return None if figure is None else float(figure["median"])
    if goal == TOKENS_PER_JOULE:
        return joules_a_token(by_streams[-1])
    return 1.0 / float(by_streams[-1]["figures"]["output_throughput"]["median"])


def _by_streams(measured: Mapping[str, Any]) -> list[Mapping[str, Any]]:
    """The loads that were measured, that with the most streams last."""
    points = [point for point in measured["points"] if point["figures"]["output_throughput"]]
    return sorted(points, key=lambda point: int(point["concurrency"]))


def joules_a_token(point: Mapping[str, Any]) -> float | None:
    """What a token of a load takes; `None` where a GPU does not tell its power.

    Args:
        point: As `measure.measure` returns it: each of its `runs` has `seconds`, `output_tokens`,
            and of its `gpus` the mean `power_watts_mean`.

    Returns:
        Joules, the median of the runs: of all GPUs of the instance, idle time between requests
        included. What the rest of the machine takes is not known.
    """
    found = []
    for run in point["runs"]:
        powers = [gpu.get("power_watts_mean") for gpu in run["gpus"].values()]
        if not powers or None in powers or not run["output_tokens"]:
            return None
        found.append(sum(powers) * run["seconds"] / run["output_tokens"])
    return statistics.median(found) if found else None


def cost(before: Mapping[str, Any], after: Mapping[str, Any]) -> str | None:
    """What another choice brings and costs, under the load with the most streams.

    Args:
        before: The measured candidate that serves now.
        after: The best one.

    Returns:
        A sentence; `None` where there is no power to compare.
    """
    loads = [_by_streams(one)[-1:] for one in (before, after)]
    if not all(loads):
        return None
    was, now = (points[0] for points in loads)
    energy_was, energy_now = joules_a_token(was), joules_a_token(now)
    if not energy_was or not energy_now:
        return None
    speed_was, speed_now = (load["figures"]["output_throughput"]["median"] for load in (was, now))
    tokens, second = _percent(energy_was / energy_now), _percent(speed_now / speed_was)
    return f"{tokens} tokens per joule and {second} tokens a second, beside what serves now"


def _percent(ratio: float) -> str:
    """A ratio as people say it: `12.5 % more`."""
    return f"{abs(ratio - 1) * 100:.1f} % {'more' if ratio >= 1 else 'fewer'}"


def _best(
    current: Choice, others: Iterable[Choice], scores: Mapping[str, float | None], margin: float
) -> Choice:
    """The best of some choices; the current one unless another is better by the margin."""
    now = scores.get(key(current))
    best, limit = current, None if now is None else now * (1 - margin / 100)
    for choice in others:
        value = scores.get(key(choice))
        if value is not None and (limit is None or value < limit):
            best, limit = choice, value
    return best


def walk(
    space: Mapping[str, Sequence[Any]],
    possible: Iterable[str],
    scores: Mapping[str, float | None],
    margin: float,
) -> tuple[Choice, Choice | None]:
    """Where the search stands.

    Args:
        space: Values of each setting, the inventory's first.
        possible: Keys of the choices that the plan allows.
        scores: What was tried by key, `None` for what did not come up.
        margin: Percent by which another choice must be better.

    Returns:
        The best choice so far, and the next one to try; `None` at the end.
    """
    allowed = set(possible)
    current: Choice = {name: values[0] for name, values in space.items()}
    if key(current) not in scores:
        return current, current
    for name, values in space.items():
        others = [{**current, name: value} for value in values]
        others = [choice for choice in others if key(choice) in allowed]
        for choice in others:
            if key(choice) not in scores:
                return _best(current, others, scores, margin), choice
        current = _best(current, others, scores, margin)
    return current, None


def most_starts(space: Mapping[str, Sequence[Any]]) -> int:
    """How many other configurations are started at most."""
    return sum(len(values) - 1 for values in space.values())


def inventory_lines(choice: Mapping[str, Any], before: Mapping[str, Any]) -> list[str]:
    """The lines by which an instance of the inventory makes a choice: what is not as it was.

    YAML takes JSON's values. A setting that is to be left out is a comment. A power limit is not
    among them: it is the host's.
    """
    lines = []
    for name, value in choice.items():
        if value == before.get(name) or name == POWER:
            continue
        if value is None:
            lines.append(f"# remove {name}")
        else:
            lines.append(f"{name}: {json.dumps(value)}")
    return lines


def is_deployed(
    former: Deployment, config: Mapping[str, Any], environment: Mapping[str, Any]
) -> bool:
    """Whether a deployment is what the plan says: flags and variables."""
    return former.config == config and all(
        former.environment.get(name) == str(value) for name, value in environment.items()
    )


def variant(
    former: Deployment,
    environment_before: Mapping[str, Any],
    config: Mapping[str, Any],
    environment: Mapping[str, Any],
) -> Deployment:
    """A deployment with other flags and variables, and in all else as it is.

    Args:
        former: What is deployed.
        environment_before: Its variables as the plan has them.
        config: The flags.
        environment: The variables.
    """
    kept = {k: v for k, v in former.environment.items() if k not in environment_before}
    variables = {**kept, **{name: str(value) for name, value in environment.items()}}
    return dataclasses.replace(
        former,
        fingerprint=fingerprint("variant", former.fingerprint, config, variables),
        **derived(config, variables),
    )


_UNSAID = {POWER: "as it is"}


def label(choice: Mapping[str, Any]) -> str:
    """As a person would name it."""
    shown = (
        f"{name} {_UNSAID.get(name, 'default') if value is None else json.dumps(value)}"
        for name, value in choice.items()
    )
    return ", ".join(shown).replace('"', "")
