# Copyright: (c) 2026, compute_plane.vllm contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""How a host's NVIDIA driver is installed, upgraded or mended, or every reason why not. Pure."""

from __future__ import annotations

import functools
import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import yaml

SOURCES = ("distribution", "nvidia")
MODULES = ("auto", "open", "proprietary")

_PARTS = "add {parts} to the distribution's sources; vllm_driver_components: true does it"
_REPOSITORY = (
    "set vllm_driver_repository to NVIDIA's repository, as its installation guide names it"
)
_A_DRIVERS = re.compile(r"(?:lib)?nvidia|libcuda|cuda|firmware-nvidia|xserver-xorg-video-nvidia")


def problem(code: str, **values: Any) -> str:
    """A problem as a line: its code, what is wrong, what to do."""
    row = _data("problems")[code]
    return f"[{code}] {row['text'].format(**values)} — {row['remedy'].format(**values)}"


class Wanted(NamedTuple):
    """What the user asks for.

    Attributes:
        source: `distribution` or `nvidia`.
        branch: A driver branch such as `580`; empty where the source has one alone.
        modules: `auto`, `open` or `proprietary`.
    """

    source: str
    branch: str
    modules: str


@functools.cache
def _data(name: str = "packages") -> dict[str, Any]:
    path = Path(__file__).parent / "data" / f"{name}.yml"
    data: dict[str, Any] = yaml.safe_load(path.read_text(encoding="utf-8"))
    return data


def upstream(version: str) -> str:
    """A driver's own version, of a package's: `1:535.309.01-0+deb12u1` is 535.309.01."""
    return re.sub(r"[-+~].*$", "", version.rpartition(":")[2])


def choose_modules(cards: Sequence[str], wanted: Wanted) -> tuple[str, list[str]]:
    """The kernel modules for a host's cards.

    Args:
        cards: PCI device ids, such as `0x2204`.
        wanted: What the user asks for.

    Returns:
        `open` or `proprietary`, and why that cannot be.
    """
    rules = _data()["cards"]
    numbers = [int(card, 16) for card in cards]
    needs_open = [hex(one) for one in numbers if one >= rules["blackwell"]]
    cannot_open = [hex(one) for one in numbers if one < rules["turing"]]
    problems = []
    if needs_open and cannot_open:
        problems.append(problem("cards-disagree", card=needs_open[0], other=cannot_open[0]))
    elif wanted.modules == "open" and cannot_open:
        problems.append(problem("modules-too-new", card=cannot_open[0]))
    elif wanted.modules == "proprietary" and needs_open:
        problems.append(problem("modules-too-old", card=needs_open[0]))
    last = rules["last_branch_before_turing"]
    if cannot_open and wanted.branch.isdigit() and int(wanted.branch) > last:
        problems.append(
            problem("branch-too-new", branch=wanted.branch, card=cannot_open[0], last=last)
        )
    if wanted.modules != "auto":
        return wanted.modules, problems
    # NVIDIA advises the open ones where they run; Debian's and Ubuntu's are less used.
    prefers_open = wanted.source == "nvidia" and not cannot_open
    return ("open" if needs_open or prefers_open else "proprietary"), problems


def packages(facts: Mapping[str, Any], wanted: Wanted) -> dict[str, Any]:
    """Which packages are wanted, before apt was asked about them.

    Args:
        facts: `driver` of `vllm_driver_info`.
        wanted: What the user asks for.

    Returns:
        `modules`, `packages`, `headers`, `together`, `components` and `problems`.
    """
    distribution = facts["distribution"].get("id") or "?"
    problems = _wrong(wanted)
    sets = _data().get(distribution) if distribution in ("debian", "ubuntu") else None
    if facts["packages"] is None or sets is None:
        problems.append(problem("distribution-unknown", distribution=distribution))
        sets = _data()["debian"]
    source = wanted.source if wanted.source in SOURCES else "distribution"
    rules = sets[source]
    if rules["branch"] and not wanted.branch:
        problems.append(problem("branch-missing", distribution=distribution, source=source))
    if not rules["branch"] and wanted.branch:
        problems.append(problem("branch-unknown", distribution=distribution, branch=wanted.branch))
    modules, found = choose_modules(facts["cards"], wanted)
    kernel = rules["kernel"].get(modules, rules["kernel"]["proprietary"])
    kernels = [one["name"] for one in facts["kernels"] if not one["headers"]]
    return {
        "modules": modules,
        "packages": [name.replace("{branch}", wanted.branch) for name in [kernel, *rules["tools"]]],
        "headers": [f"linux-headers-{name}" for name in kernels],
        "together": [name.replace("{branch}", wanted.branch) for name in rules["together"]],
        "components": rules.get("components", []),
        "problems": problems + found + _mixtures(facts),
    }


def _wrong(wanted: Wanted) -> list[str]:
    problems = []
    for name, value, choices in (
        ("vllm_driver_source", wanted.source, SOURCES),
        ("vllm_driver_modules", wanted.modules, MODULES),
    ):
        if value not in choices:
            choice = f"one of {', '.join(choices)}"
            problems.append(problem("value", name=name, value=repr(value), choices=choice))
    if wanted.branch and not re.fullmatch(r"\d{3}", wanted.branch):
        name, value = "vllm_driver_branch", repr(wanted.branch)
        choice = 'the three digits of a branch, such as "580"'
        problems.append(problem("value", name=name, value=value, choices=choice))
    return problems


def _mixtures(facts: Mapping[str, Any]) -> list[str]:
    """What cannot be told apart afterwards, and is left to people."""
    problems = []
    if facts["run_file"]:
        problems.append(problem("run-file", path=facts["run_file"]))
    if not facts["cards"]:
        problems.append(problem("no-card"))
    if facts["secure_boot"] and facts["mok_enrolled"] is not True:
        problems.append(problem("secure-boot"))
    return problems


def decide(
    facts: Mapping[str, Any], chosen: Mapping[str, Any], simulation: Mapping[str, Any]
) -> dict[str, Any]:
    """What will be done, or why not.

    Args:
        facts: `driver` of `vllm_driver_info`, asked about the chosen packages.
        chosen: What `packages` returned.
        simulation: `simulation` of `vllm_driver_info`, of the chosen packages.

    Returns:
        `version`, `install` (`NAME=VERSION` of what changes), `remove`, `hold` (names), `former`
        (`NAME=VERSION`, to go back to), `reboot` (why one is due, or `None`) and `problems`.
    """
    actions = simulation["actions"]
    installs = {one["package"]: one["version"] for one in actions if one["what"] == "Inst"}
    removed = [one["package"] for one in actions if one["what"] == "Remv"]
    known = {name: facts["candidates"].get(name) or {} for name in chosen["packages"]}
    problems = []
    missing = [name for name, row in known.items() if not row.get("candidate")]
    foreign = [name for name in removed if not _A_DRIVERS.match(name)]
    if missing:
        parts = " ".join(chosen["components"])
        how = _PARTS.format(parts=parts) if parts else _REPOSITORY
        problems.append(problem("package-missing", names=", ".join(missing), how=how))
    elif simulation["error"]:
        names = ", ".join(chosen["packages"])
        problems.append(problem("packages-conflict", names=names, error=simulation["error"]))
    if foreign:
        problems.append(problem("packages-removed", names=", ".join(foreign)))
    versions = {
        name: upstream(installs.get(name) or row.get("installed") or "")
        for name, row in known.items()
        if name in chosen["together"]
    }
    if not problems and len(set(versions.values())) > 1:
        listed = ", ".join(f"{name} {version}" for name, version in versions.items())
        problems.append(problem("versions-differ", versions=listed))
    version = next(iter(versions.values()), "") or None
    present = facts["packages"] or {}
    return {
        "version": version,
        "install": [f"{name}={one}" for name, one in installs.items()],
        "remove": removed,
        "hold": chosen["packages"],
        "former": [f"{name}={one}" for name, one in present.items() if name in installs],
        "reboot": _reboot(facts, version),
        "problems": problems,
    }


def _reboot(facts: Mapping[str, Any], version: str | None) -> str | None:
    if facts["nouveau"]:
        return "nouveau is loaded, and has to go first"
    if facts["loaded"] != version:
        return f"the module that is loaded is {facts['loaded'] or 'none'}, and {version} is wanted"
    return None


def unbuilt(facts: Mapping[str, Any], version: str) -> list[str]:
    """What is not ready for a reboot: a line for each kernel without the driver's module.

    Args:
        facts: `driver` of `vllm_driver_info`, after the packages were installed.
        version: The driver's.
    """
    lines = []
    for one in facts["kernels"]:
        if one["module"] != version:
            has = f"nvidia {one['module']}" if one["module"] else "no nvidia module"
            lack = "" if one["headers"] else " and no headers to build one"
            lines.append(f"kernel {one['name']} has {has}{lack}")
    return lines
