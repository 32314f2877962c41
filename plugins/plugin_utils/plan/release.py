# Copyright: (c) 2026, compute_plane.vllm contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Release data: what is known of a vLLM release before it is installed.

The plan never reads files; the controller's loader
(`plugins/plugin_utils/release_data.py`) hands it one `ReleaseData`.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from ansible_collections.compute_plane.vllm.plugins.plugin_utils.plan import facts as fact
from ansible_collections.compute_plane.vllm.plugins.plugin_utils.plan.newest import NEWEST
from ansible_collections.compute_plane.vllm.plugins.plugin_utils.plan.problems import (
    Findings,
    closest,
    quoted,
)
from ansible_collections.compute_plane.vllm.plugins.plugin_utils.plan.wanted import Wanted


@dataclass(frozen=True)
class ReleaseData:
    """Everything that is data and not of the host.

    Attributes:
        available: The releases that there is data for, oldest first.
        release: `release.yml` of the wanted release, or None when there is none.
        flags: Long flag (with dashes) to its description, from `serve-flags.yml`.
        registries: Release to its `models.yml`, for those that have one; read when asked for.
        accelerators: Release to its data of each accelerator, for each release; read when asked
            for.
        locks: Lock file to its SHA-256 in hexadecimal, for the files that exist.
        releases: Release to its own `ReleaseData`, where the wanted one is not named but chosen;
            read when asked for.
        rules: Name of a rule file under `plan/data` to its contents.
        errors: What could not be read, one line each.
    """

    available: tuple[str, ...] = ()
    release: Mapping[str, Any] | None = None
    flags: Mapping[str, Mapping[str, Any]] = field(default_factory=dict)
    registries: Mapping[str, Mapping[str, Any]] = field(default_factory=dict)
    accelerators: Mapping[str, Mapping[str, Any]] = field(default_factory=dict)
    locks: Mapping[str, str] = field(default_factory=dict)
    releases: Mapping[str, ReleaseData] = field(default_factory=dict)
    rules: Mapping[str, Mapping[str, Any]] = field(default_factory=dict)
    errors: tuple[str, ...] = ()


def check_release(wanted: Wanted, data: ReleaseData, findings: Findings) -> bool:
    """Report a release that there is no data for, or whose data is damaged.

    Returns:
        Whether the release's data can be used.
    """
    for error in data.errors:
        findings.problem(
            "release-data",
            "vllm_release",
            error,
            "restore the file from the collection, or correct it",
        )
    if data.release is not None:
        return True
    if wanted.release == NEWEST and wanted.runtime_venv is not None:
        findings.problem(
            "unknown-release",
            "vllm_release",
            f"{NEWEST} chooses what is installed, and with vllm_runtime_venv nothing is",
            f"name the release that the environment holds, one of {quoted(data.available)}",
            alternatives=[{"vllm_release": release} for release in data.available],
        )
    elif wanted.release and not data.errors:
        near = closest(wanted.release, [*data.available, NEWEST])
        findings.problem(
            "unknown-release",
            "vllm_release",
            f"there is no data for vLLM {wanted.release}",
            (f"did you mean {near}? " if near else "")
            + f"the collection has {quoted(data.available)}",
            {"vllm_release": near} if near else None,
            [{"vllm_release": one} for one in data.available if one != near],
        )
    return False


def resolve_accelerator(
    wanted: Wanted, facts: Mapping[str, Any], data: ReleaseData, findings: Findings
) -> str:
    """Return `cuda` or `cpu`, and report an accelerator the release has no lock for.

    `auto` is `cuda` where an NVIDIA device is on the PCI bus or NVML names a
    GPU, also when its driver does not work: a machine with a GPU that quietly
    serves from its CPU helps nobody.
    """
    accelerator = wanted.accelerator
    if accelerator == "auto":
        accelerator = "cuda" if has_gpu(facts) else "cpu"
        if accelerator == "cpu" and is_wsl(facts):
            findings.note(
                "wsl2",
                "host",
                "the host is WSL2; a GPU that Windows has is not used, and the model is served "
                "from the CPU",
            )
    if data.release is not None:
        locked = sorted(fact.mapping(data.release, "accelerators"))
        if accelerator not in locked:
            remedy, ways = _other_accelerator(accelerator, locked, facts, data)
            findings.problem(
                "unknown-accelerator",
                "vllm_accelerator",
                f"vLLM {wanted.release} is not locked for {accelerator}",
                remedy,
                alternatives=ways,
            )
    return accelerator


def is_wsl(facts: Mapping[str, Any]) -> bool:
    """Tell whether the host is Windows' Subsystem for Linux, by its kernel's name.

    `5.15.167.4-microsoft-standard-WSL2` and, of the first one, `4.4.0-19041-Microsoft`:
    https://github.com/microsoft/WSL/issues/4555.
    """
    return "microsoft" in (fact.text(facts, "host", "kernel") or "").lower()


def has_gpu(facts: Mapping[str, Any]) -> bool:
    """Tell whether an NVIDIA device is on the PCI bus, or NVML names a GPU."""
    gpu = fact.mapping(facts, "gpu")
    return bool(fact.rows(gpu, "pci_devices") or fact.rows(gpu, "gpus"))


def _other_accelerator(
    accelerator: str, locked: list[str], facts: Mapping[str, Any], data: ReleaseData
) -> tuple[str, list[dict[str, Any]]]:
    """What helps where a release is not locked for an accelerator: another of either."""
    usable = [one for one in locked if one != "cuda" or has_gpu(facts)]
    releases = [
        one for one in data.available if fact.mapping(data.accelerators.get(one), accelerator)
    ]
    words = [f"set vllm_accelerator: {one}" for one in usable]
    ways: list[dict[str, Any]] = [{"vllm_accelerator": one} for one in usable]
    if releases:
        words.append(f"set vllm_release: {releases[-1]}, which is")
        ways.append({"vllm_release": releases[-1]})
    return ", or ".join(words) or "use another release", ways


def accelerator_data(data: ReleaseData, accelerator: str) -> Mapping[str, Any]:
    """Return the release's section for an accelerator, or an empty mapping."""
    return fact.mapping(data.release, "accelerators", accelerator)


def plan_runtime(
    wanted: Wanted,
    facts: Mapping[str, Any],
    data: ReleaseData,
    accelerator: str,
    findings: Findings,
) -> dict[str, Any] | None:
    """Choose the interpreter and the lock, and name the venv.

    In a venv that somebody made it is that venv's own, and no lock is needed. Elsewhere the
    interpreter is the one wanted, else the first of: in /usr/bin before
    elsewhere (the distribution keeps it patched), headers there before not,
    newest version.

    Returns:
        The plan's `runtime`, or None when it cannot be made.
    """
    section = accelerator_data(data, accelerator)
    if not section:
        return None
    locks = {str(version): str(name) for version, name in fact.mapping(section, "locks").items()}
    own = wanted.runtime_venv
    only = f"{own}/bin/python" if own is not None else wanted.python
    supported = [version for version in map(str, _python(data)) if own or version in locks]
    usable = []
    for row in fact.rows(facts, "pythons"):
        path, version = fact.text(row, "path"), fact.text(row, "version")
        minor = ".".join(version.split(".")[:2]) if version else ""
        # What a shim starts depends on the user and the directory, and the service has its own.
        if _shim(row) is not None:
            continue
        if path and minor in supported and (only is None or path == only):
            rank = (
                not path.startswith("/usr/bin/"),
                not fact.text(row, "headers"),
                tuple(-part for part in fact.version_tuple(version)),
                path,
            )
            # A Python that needs no package of the distribution for headers and ensurepip.
            complete = own is not None and bool(fact.text(row, "headers") and row.get("venv"))
            usable.append((rank, path, minor, complete))
    if not usable:
        _no_python(wanted, facts, data, supported, findings)
        return None
    _rank, path, minor, complete = min(usable)
    lock = locks.get(minor, "")
    sha256 = data.locks.get(lock)
    if sha256 is None and own is None:
        findings.problem(
            "release-data",
            "vllm_release",
            f"the lock {wanted.release}/{lock} is not there",
            f"make it with: make lock RELEASE={wanted.release}",
        )
        return None
    packages = _family_packages(facts, section, minor, findings, python=not complete)
    known = fact.mapping(facts, "packages")
    missing = [name for name in packages if not known.get(name)]
    if missing and wanted.offline:
        commands = fact.mapping(data.rules, "host", "packages_remedy")
        command = commands.get(fact.text(facts, "host", "os_family") or "other", "")
        findings.problem(
            "packages-missing-offline",
            "host",
            f"{quoted(missing)} {'is' if len(missing) == 1 else 'are'} not installed, and "
            "vllm_runtime_bundle holds no packages of the operating system",
            "install them from the distribution's medium or mirror"
            + (f": {command} {' '.join(missing)}" if command else ""),
        )
    elif missing:
        findings.note(
            "packages-missing",
            "host",
            f"the runtime role installs {quoted(missing)}",
        )
    shared = {
        "python": path,
        "python_version": minor,
        "os_packages": packages,
        "os_packages_missing": missing,
        "expect": dict(fact.mapping(section, "expect")),
    }
    if own is not None or sha256 is None:
        return {
            **shared,
            "managed": False,
            "lock": None,
            "lock_sha256": None,
            "venv": own,
            "download_bytes": 0,
            "installed_bytes": 0,
            "metadata_alias": None,
            "proved": False,
        }
    venv = f"{wanted.opt_dir}/releases/{wanted.release}-{accelerator}-{sha256[:12]}"
    proved = any(
        row.get("path") == venv and row.get("proved") is True
        for row in fact.rows(facts, "deployed", "releases")
    )
    return {
        **shared,
        "managed": True,
        "lock": f"{wanted.release}/{lock}",
        "lock_sha256": sha256,
        "venv": venv,
        "download_bytes": fact.integer(section, "download_bytes") or 0,
        "installed_bytes": fact.integer(section, "installed_bytes") or 0,
        "metadata_alias": dict(fact.mapping(section, "metadata_alias")) or None,
        "proved": proved,
    }


def _python(data: ReleaseData) -> list[Any]:
    found = fact.dig(data.release, "python")
    return found if isinstance(found, list) else []


def os_packages(data: ReleaseData) -> list[str]:
    """Return every package name that any plan with this data could ask a host about."""
    names: set[str] = set()
    for one in data.releases.values():
        names.update(os_packages(one))
    for section in fact.mapping(data.release, "accelerators").values():
        for family in fact.mapping(section, "os_packages"):
            for name in fact.words(section, "os_packages", family):
                names.update(name.replace("{python}", str(minor)) for minor in _python(data))
    return sorted(names)


def _family_packages(
    facts: Mapping[str, Any],
    section: Mapping[str, Any],
    minor: str,
    findings: Findings,
    python: bool,
) -> list[str]:
    """Return the packages of the host's family; `{python}` stands for the minor version.

    Args:
        facts: What the probe found.
        section: The release's data of the accelerator.
        minor: Version of the interpreter, "3.11".
        findings: Receives a note where the family is not known.
        python: Whether packages of the interpreter itself are among them.
    """
    family = fact.text(facts, "host", "os_family") or "other"
    by_family = fact.mapping(section, "os_packages")
    if by_family and family not in by_family:
        findings.note(
            "os-packages-unknown",
            "host",
            f"the release names no packages for the family {family}; "
            "it needs a C compiler and the headers of Python",
        )
    return [
        name.replace("{python}", minor)
        for name in fact.words(by_family, family)
        if python or "{python}" not in name
    ]


def python_shown(row: Mapping[str, Any]) -> str:
    """Return an interpreter's path with its version, or with what it is instead."""
    shim = _shim(row)
    what = fact.text(row, "version")
    if shim is not None:
        what = f"a shim that starts {shim or 'nothing here'}"
    return f"{fact.text(row, 'path')} ({what})"


def _shim(row: Mapping[str, Any]) -> str | None:
    """Return what a shim starts, "" for nothing; None for an interpreter."""
    found = row.get("shim")
    return found if isinstance(found, str) else None


def _no_python(
    wanted: Wanted,
    facts: Mapping[str, Any],
    data: ReleaseData,
    supported: list[str],
    findings: Findings,
) -> None:
    found = [python_shown(row) for row in fact.rows(facts, "pythons") if fact.text(row, "path")]
    family = fact.text(facts, "host", "os_family") or "other"
    remedies = fact.mapping(data.rules, "host", "python_remedy")
    command = remedies.get(family)
    offered = _offered(facts, data)
    if offered is not None:
        supported_here = [version for version in supported if version in offered]
    else:
        supported_here = supported
    best = (supported_here or supported or [""])[-1]
    if supported and not supported_here:
        command = None
    if wanted.runtime_venv is not None:
        findings.problem(
            "python-not-found",
            "vllm_runtime_venv",
            f"{wanted.runtime_venv}/bin/python is not an interpreter that vLLM {wanted.release} "
            f"supports ({quoted(supported)}); found {quoted(found)}",
            "name a virtual environment that holds this release, or leave the variable out",
            {"vllm_runtime_venv": None},
        )
        return
    shims = {fact.text(row, "path"): _shim(row) for row in fact.rows(facts, "pythons")}
    started = shims.get(wanted.python)
    if wanted.python is not None and started is not None:
        findings.problem(
            "python-not-found",
            "python",
            f"{wanted.python} is a shim, a script that starts {started or 'no interpreter here'}",
            f"name the interpreter itself{f', such as {started}' if started else ''}; it must be"
            " one that the service's user can start too",
            {"python": started} if started and _supports(facts, started, supported) else None,
        )
        return
    if wanted.python is not None:
        message = (
            f"{wanted.python} is not an interpreter that vLLM {wanted.release} is locked for "
            f"({quoted(supported)}); found {quoted(found)}"
        )
    else:
        message = f"no Python {quoted(supported)} in reach; found {quoted(found)}"
    findings.problem(
        "python-not-found",
        "python" if wanted.python is not None else "host",
        message,
        f"install one: {str(command).format(version=best)}"
        if command and best
        else f"the distribution has none of these; put Python {best} under /opt or /usr/local, "
        "where the service's user can read it"
        if best and offered is not None
        else f"install Python {best}".rstrip(),
    )


def _supports(facts: Mapping[str, Any], path: str, supported: list[str]) -> bool:
    """Tell whether the probe found an interpreter there, of a version that is supported."""
    return any(
        fact.text(row, "path") == path
        and ".".join((fact.text(row, "version") or "").split(".")[:2]) in supported
        for row in fact.rows(facts, "pythons")
    )


def _offered(facts: Mapping[str, Any], data: ReleaseData) -> list[str] | None:
    """Return the Pythons that the host's distribution has, or None where that is not known."""
    version = fact.text(facts, "host", "distribution_version") or ""
    by_version = fact.mapping(
        data.rules, "host", "pythons", fact.text(facts, "host", "distribution") or ""
    )
    for known in (version, version.partition(".")[0]):
        if known in by_version:
            return fact.words(by_version, known)
    return None


def check_glibc(
    facts: Mapping[str, Any], data: ReleaseData, accelerator: str, findings: Findings
) -> None:
    """Compare the host's C library with the one that the wheels were built for (PEP 600)."""
    section = accelerator_data(data, accelerator)
    needed = fact.text(section, "glibc") or fact.text(data.release, "glibc")
    present = fact.text(facts, "host", "glibc")
    if needed is None or not section:
        return
    if present is None:
        findings.note("facts-missing", "host", f"glibc's version is not known; {needed} is needed")
    elif fact.version_tuple(present) < fact.version_tuple(needed):
        findings.problem(
            "glibc-too-old",
            "host",
            f"glibc is {present} and the wheels of vLLM {_name(data)} need {needed}",
            "upgrade the distribution; a C library cannot be replaced on its own",
        )


def _name(data: ReleaseData) -> str:
    return str(fact.dig(data.release, "release") or "")
