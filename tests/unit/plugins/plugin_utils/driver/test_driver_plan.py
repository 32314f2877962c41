# Copyright: (c) 2026, compute_plane.vllm contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Which driver a host gets, and every reason why not, from what Debian's own apt says."""

from __future__ import annotations

from typing import Any

import pytest

from ansible_collections.compute_plane.vllm.plugins.plugin_utils.driver.plan import (
    Wanted,
    choose_modules,
    decide,
    packages,
    unbuilt,
    upstream,
)

KERNEL = {"name": "6.1.0-57-amd64", "headers": True, "module": None}
HOST: dict[str, Any] = {
    "distribution": {"id": "debian", "version_id": "12", "version_codename": "bookworm"},
    "kernel": "6.1.0-57-amd64",
    "kernels": [KERNEL],
    "cards": ["0x2204"],  # RTX 3090
    "loaded": None,
    "nouveau": False,
    "packages": {},
    "candidates": {},
    "dkms": [],
    "run_file": None,
    "secure_boot": False,
    "mok_enrolled": None,
}
PLAIN = Wanted("distribution", "", "auto")
NEW, OLD = "535.309.01-0+deb12u1", "535.261.03-1"


def codes(problems: list[str]) -> list[str]:
    return [line[1 : line.index("]")] for line in problems]


@pytest.mark.parametrize(
    ("cards", "wanted", "modules", "problems"),
    [
        (["0x2204"], ("distribution", "", "auto"), "proprietary", []),
        (["0x2204"], ("nvidia", "580", "auto"), "open", []),
        (["0x2204"], ("nvidia", "580", "proprietary"), "proprietary", []),
        (["0x2b85"], ("distribution", "", "auto"), "open", []),  # RTX 5090
        (["0x2b85"], ("nvidia", "590", "proprietary"), "proprietary", ["modules-too-old"]),
        (["0x1b80"], ("nvidia", "580", "auto"), "proprietary", []),  # GTX 1080
        (["0x1b80"], ("nvidia", "580", "open"), "open", ["modules-too-new"]),
        (["0x1db1"], ("nvidia", "590", "auto"), "proprietary", ["branch-too-new"]),  # V100
        (["0x1eb8"], ("nvidia", "590", "auto"), "open", []),  # T4
        (["0x2b85", "0x1b80"], ("nvidia", "580", "auto"), "open", ["cards-disagree"]),
        (["0x2330"], ("nvidia", "580", "auto"), "open", []),  # H100
    ],
)
def test_modules_by_card(
    cards: list[str], wanted: tuple[str, str, str], modules: str, problems: list[str]
) -> None:
    found, lines = choose_modules(cards, Wanted(*wanted))
    assert (found, codes(lines)) == (modules, problems)


@pytest.mark.parametrize(
    ("facts", "wanted", "problems"),
    [
        ({}, PLAIN, []),
        ({"cards": []}, PLAIN, ["no-card"]),
        ({"run_file": "/usr/bin/nvidia-uninstall"}, PLAIN, ["run-file"]),
        ({"secure_boot": True}, PLAIN, ["secure-boot"]),
        ({"secure_boot": True, "mok_enrolled": False}, PLAIN, ["secure-boot"]),
        ({"secure_boot": True, "mok_enrolled": True}, PLAIN, []),
        ({"secure_boot": None}, PLAIN, []),
        ({"distribution": {"id": "fedora"}, "packages": None}, PLAIN, ["distribution-unknown"]),
        ({"distribution": {"id": "ubuntu"}}, PLAIN, ["branch-missing"]),
        ({"distribution": {"id": "ubuntu"}}, Wanted("distribution", "580", "auto"), []),
        ({}, Wanted("distribution", "580", "auto"), ["branch-unknown"]),
        ({}, Wanted("nvidia", "", "auto"), ["branch-missing"]),
        ({}, Wanted("nvidea", "58", "closed"), ["value", "value", "value", "branch-unknown"]),
        (
            {"cards": [], "run_file": "/usr/bin/nvidia-installer", "secure_boot": True},
            Wanted("nvidia", "", "auto"),
            ["branch-missing", "run-file", "no-card", "secure-boot"],
        ),
    ],
)
def test_everything_that_is_wrong_is_told_at_once(
    facts: dict[str, Any], wanted: Wanted, problems: list[str]
) -> None:
    assert codes(packages({**HOST, **facts}, wanted)["problems"]) == problems


@pytest.mark.parametrize(
    ("distribution", "wanted", "names"),
    [
        (
            "debian",
            PLAIN,
            ["nvidia-kernel-dkms", "libcuda1", "libnvidia-ml1", "nvidia-modprobe", "nvidia-smi"],
        ),
        (
            "debian",
            Wanted("nvidia", "580", "auto"),
            ["nvidia-kernel-open-dkms", "nvidia-driver-cuda", "nvidia-modprobe"],
        ),
        (
            "ubuntu",
            Wanted("distribution", "580", "open"),
            ["nvidia-headless-580-server-open", "nvidia-utils-580-server"],
        ),
        ("ubuntu", Wanted("nvidia", "580", "proprietary"), ["cuda-drivers-580", "nvidia-modprobe"]),
    ],
)
def test_packages(distribution: str, wanted: Wanted, names: list[str]) -> None:
    chosen = packages({**HOST, "distribution": {"id": distribution}}, wanted)
    assert (chosen["packages"], chosen["headers"]) == (names, [])


def test_headers_of_every_kernel_that_lacks_them() -> None:
    kernels = [KERNEL, {"name": "6.1.0-40-amd64", "headers": False, "module": None}]
    assert packages({**HOST, "kernels": kernels}, PLAIN)["headers"] == [
        "linux-headers-6.1.0-40-amd64"
    ]


def asked(version: str | None = NEW, installed: str | None = None, **others: str) -> dict[str, Any]:
    """What apt says of the packages."""
    names = packages(HOST, PLAIN)["packages"]
    return {
        name: {"installed": installed, "candidate": others.get(name.replace("-", "_"), version)}
        for name in names
    }


def simulated(what: dict[str, str], error: str | None = None, **removed: str) -> dict[str, Any]:
    actions = [{"what": "Inst", "package": name, "version": one} for name, one in what.items()]
    actions += [{"what": "Remv", "package": name, "version": one} for name, one in removed.items()]
    return {"actions": actions, "error": error}


ALL = dict.fromkeys(packages(HOST, PLAIN)["packages"], NEW)
OPEN_IS_BROKEN = (
    "nvidia-open-kernel-dkms : Depends: firmware-nvidia-gsp (= 535.261.03) or; "
    "E: Unable to correct problems, you have held broken packages."
)


@pytest.mark.parametrize(
    ("facts", "simulation", "expected"),
    [
        pytest.param(
            {"candidates": asked()},
            simulated({"dkms": "3.0.10-8", **ALL}),
            {"version": "535.309.01", "former": [], "problems": []},
            id="a first installation",
        ),
        pytest.param(
            {
                "candidates": asked(installed=OLD),
                "packages": dict.fromkeys(ALL, OLD),
                "loaded": "535.261.03",
            },
            simulated(ALL),
            {
                "former": [f"{name}={OLD}" for name in ALL],
                "reboot": "the module that is loaded is 535.261.03, and 535.309.01 is wanted",
            },
            id="an upgrade can be gone back from",
        ),
        pytest.param(
            {
                "candidates": asked(installed=NEW),
                "packages": dict.fromkeys(ALL, NEW),
                "loaded": "535.309.01",
            },
            simulated({}),
            {"install": [], "reboot": None, "version": "535.309.01", "problems": []},
            id="nothing is left to do",
        ),
        pytest.param(
            {"candidates": asked(installed=NEW), "loaded": "535.261.03"},
            simulated({}),
            {
                "install": [],
                "reboot": "the module that is loaded is 535.261.03, and 535.309.01 is wanted",
            },
            id="upgraded under a running system",
        ),
        pytest.param(
            {"candidates": asked(), "nouveau": True},
            simulated(ALL),
            {"reboot": "nouveau is loaded, and has to go first"},
            id="nouveau",
        ),
        pytest.param(
            {"candidates": asked(None)},
            simulated({}, "E: Unable to locate package nvidia-kernel-dkms"),
            {"codes": ["package-missing"]},
            id="without non-free",
        ),
        pytest.param(
            {"candidates": asked()},
            simulated({}, OPEN_IS_BROKEN),
            {"codes": ["packages-conflict"]},
            id="Debian 12's open modules, which its security updates left behind",
        ),
        pytest.param(
            {"candidates": asked()},
            simulated(ALL, gdm3="43.0-3"),
            {"codes": ["packages-removed"]},
            id="a desktop would go",
        ),
        pytest.param(
            {"candidates": asked()},
            simulated(ALL, **{"libnvidia-compute-570": "570.1"}),
            {"codes": [], "remove": ["libnvidia-compute-570"]},
            id="a former branch may go",
        ),
        pytest.param(
            {"candidates": asked()},
            simulated({**ALL, "nvidia-smi": OLD}),
            {"codes": ["versions-differ"]},
            id="parts of two versions",
        ),
    ],
)
def test_what_will_be_done(
    facts: dict[str, Any], simulation: dict[str, Any], expected: dict[str, Any]
) -> None:
    decided = decide({**HOST, **facts}, packages(HOST, PLAIN), simulation)
    decided["codes"] = codes(decided["problems"])
    assert {key: decided[key] for key in expected} == expected


def test_the_remedy_names_the_setting() -> None:
    decided = decide(
        {**HOST, "candidates": asked(None)}, packages(HOST, PLAIN), simulated({}, "E: ")
    )
    assert "vllm_driver_components: true" in decided["problems"][0]
    wanted = Wanted("nvidia", "580", "auto")
    decided = decide(HOST, packages(HOST, wanted), simulated({}, "E: "))
    assert "vllm_driver_repository" in decided["problems"][0]


def test_no_reboot_before_every_kernel_has_the_module() -> None:
    kernels = [
        {"name": "6.1.0-57-amd64", "headers": True, "module": "535.309.01"},
        {"name": "6.1.0-40-amd64", "headers": True, "module": "535.261.03"},
        {"name": "6.1.0-30-amd64", "headers": False, "module": None},
    ]
    assert unbuilt({**HOST, "kernels": kernels}, "535.309.01") == [
        "kernel 6.1.0-40-amd64 has nvidia 535.261.03",
        "kernel 6.1.0-30-amd64 has no nvidia module and no headers to build one",
    ]
    assert unbuilt({**HOST, "kernels": kernels[:1]}, "535.309.01") == []


@pytest.mark.parametrize(
    ("package", "version"),
    [
        ("535.309.01-0+deb12u1", "535.309.01"),
        ("580.126.09-1", "580.126.09"),
        ("580.95.05-0ubuntu0.24.04.1", "580.95.05"),
        ("1:590.48.01-1", "590.48.01"),
        ("", ""),
    ],
)
def test_a_package_s_version_is_of_a_driver(package: str, version: str) -> None:
    assert upstream(package) == version
