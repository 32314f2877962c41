# Copyright: (c) 2026, compute_plane.vllm contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What remedies tell people to set is there in the releases: variables and flags of vLLM."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
import yaml

from ansible_collections.compute_plane.vllm.plugins.module_utils.supervisor import causes

from .conftest import ROOT, program

RELEASES = sorted(path.parent for path in Path(ROOT, "releases").glob("*/release.yml"))
VARIABLES = {
    folder.name: set(yaml.safe_load((folder / "environment.yml").read_text()))
    for folder in RELEASES
}
FLAGS = {
    folder.name: set(yaml.safe_load((folder / "serve-flags.yml").read_text()))
    for folder in RELEASES
}
REMEDIES = [(cause.name, cause.remedy) for cause in causes.CAUSES] + [
    (signal.cause, signal.remedy) for signal in causes.SIGNALS.values()
]


def missing(names: set[str], known: dict[str, set[str]], remedy: str) -> list[str]:
    """Names that a release lacks, though the remedy does not say which release has them."""
    wrong = []
    for name in sorted(names):
        having = [release for release, there in known.items() if name in there]
        if not having or (len(having) < len(known) and not any(one in remedy for one in having)):
            wrong.append(f"{name}: only in {having or 'none'}")
    return wrong


def flags_in(text: str) -> set[str]:
    """The flags that a remedy names as keys of `extra_args`."""
    names = set(re.findall(r"extra_args: \{(\w+):", text))
    listed = (
        r"(?:Leave|Correct|See|Set|Raise|Lower|leave|lower) ((?:\w+(?:, | and )?)+) (?:out of|in)"
    )
    for group in re.findall(listed + r" extra_args", text):
        names.update(re.split(r", | and ", group))
    return {name.replace("_", "-") for name in names}


@pytest.mark.parametrize(("cause", "remedy"), REMEDIES)
def test_a_variable_that_a_remedy_names_is_read_by_the_releases(cause: str, remedy: str) -> None:
    assert missing(set(re.findall(r"\bVLLM_[A-Z0-9_]+\b", remedy)), VARIABLES, remedy) == []


@pytest.mark.parametrize(("cause", "remedy"), REMEDIES)
def test_a_flag_that_a_remedy_names_is_one_of_the_releases(cause: str, remedy: str) -> None:
    assert missing(flags_in(remedy), FLAGS, remedy) == []


def test_flags_are_found_in_remedies() -> None:
    assert flags_in("extra_args: {disable_custom_all_reduce: true}; See a and b in extra_args") == {
        "disable-custom-all-reduce",
        "a",
        "b",
    }
    assert flags_in("Leave runner, convert and chat_template out of extra_args") == {
        "runner",
        "convert",
        "chat-template",
    }
    assert len({name for _, remedy in REMEDIES for name in flags_in(remedy)}) >= 12


def test_the_table_of_a_release_is_read_without_running_it() -> None:
    text = 'import absent\nenvironment_variables: dict = {"VLLM_B": lambda: 1, "A": absent.x}\n'
    assert program("environment-names").names(text) == ["A", "VLLM_B"]
    with pytest.raises(ValueError, match="environment_variables"):
        program("environment-names").names("other = {}")
