# Copyright: (c) 2026, compute_plane.vllm contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What holds for all roles and playbooks together."""

from __future__ import annotations

import re
import subprocess
import sys
from collections.abc import Iterator
from graphlib import TopologicalSorter
from pathlib import Path
from typing import Any

import pytest
import yaml
from ansible.module_utils.common.arg_spec import ArgumentSpecValidator

ROOT = Path(__file__).parents[3]
FILES = [
    ROOT / "site.yml",
    *sorted((ROOT / "playbooks").glob("*.yml")),
    *sorted((ROOT / "roles").glob("*/tasks/*.yml")),
    *sorted((ROOT / "roles").glob("*/handlers/*.yml")),
]
VERBS = {
    "Ensure": "what is so afterwards",
    "Check": "what must be so, or the play ends",
    "Find": "what later tasks need to know; changes nothing",
    "Measure": "what a figure is taken of",
    "Show": "what is printed",
    "Fail": "why the play ends here",
}


def tasks(path: Path) -> Iterator[dict[str, Any]]:
    """Every play, block and task of a file."""

    def walk(entries: Any) -> Iterator[dict[str, Any]]:
        for entry in entries or []:
            yield entry
            for part in (
                "pre_tasks",
                "tasks",
                "post_tasks",
                "handlers",
                "block",
                "rescue",
                "always",
            ):
                yield from walk(entry.get(part))

    return walk(yaml.safe_load(path.read_text(encoding="utf-8")))


@pytest.mark.parametrize("path", FILES, ids=lambda path: str(path.relative_to(ROOT)))
def test_names_of_plays_and_tasks_begin_with_what_they_do(path: Path) -> None:
    names = [str(task.get("name")) for task in tasks(path)]
    assert names
    assert [name for name in names if name.split()[0] not in VERBS] == []


def made_by(role: Path) -> set[str]:
    """The variables that a role makes: what it registers, sets, and has in vars/."""
    made: set[str] = set()
    for path in (role / "tasks").glob("*.yml"):
        for task in tasks(path):
            made |= {str(task.get("register"))} | set(task.get("ansible.builtin.set_fact", {}))
    for path in (role / "vars").glob("*.yml"):
        made |= set(yaml.safe_load(path.read_text(encoding="utf-8")))
    return {name for name in made if name.startswith(role.name)}


def graph() -> dict[str, set[str]]:
    """Which roles each role needs: those that it includes, and those whose results it reads.

    What users set in the inventory belongs to no role; any may read it.
    """
    roles = sorted(path.parent for path in (ROOT / "roles").glob("*/tasks"))
    needs: dict[str, set[str]] = {role.name: set() for role in roles}
    for role in roles:
        files = [path for path in role.rglob("*") if path.suffix in (".yml", ".j2")]
        text = "\n".join(
            path.read_text(encoding="utf-8") for path in files if path.name != "argument_specs.yml"
        )
        words = set(re.findall(r"\w+", re.sub(r"(?m)^ *#.*", "", text)))
        for other in roles:
            names = rf"compute_plane\.vllm\.{other.name}$"
            if other != role and (
                made_by(other) & words or re.search(rf"(?m)(name|role): {names}", text)
            ):
                needs[role.name].add(other.name)
    return needs


def test_no_role_needs_itself_by_way_of_others() -> None:
    needs = graph()
    assert needs["vllm_service"] == {"vllm_preflight", "vllm_model", "vllm_endpoint"}
    assert needs["vllm_preflight"] == set()
    assert list(TopologicalSorter(needs).static_order())  # raises CycleError


UNITS = r"(?i)seconds|percent|GB/s|times|lines|releases|processes|requests|days|degrees|tokens"


@pytest.mark.parametrize(
    "role", sorted((ROOT / "roles").glob("vllm_*")), ids=lambda role: str(role.name)
)
def test_every_default_has_a_comment_with_its_unit_and_an_example(role: Path) -> None:
    specs = yaml.safe_load((role / "meta" / "argument_specs.yml").read_text(encoding="utf-8"))
    options = specs["argument_specs"]["main"]["options"]
    text = (role / "defaults" / "main.yml").read_text(encoding="utf-8")
    found = re.findall(r"(?m)^((?:# .*\n)*)(vllm_\w+):", text)
    assert {name for _, name in found} == set(yaml.safe_load(text))
    for lines, name in found:
        comment = re.sub(r"(?m)^# ", "", lines).replace("\n", " ").strip()
        meaning, _, example = comment.partition("Example: ")
        assert meaning, f"{name} has no comment"
        assert example, f"{name} has no example"
        if options[name]["type"] in ("int", "float"):
            assert re.search(UNITS, meaning), f"{name}: in what unit?"
        spec = {name: {**options[name], "default": None}}
        validated = ArgumentSpecValidator(spec).validate({name: yaml.safe_load(example)})
        assert validated.error_messages == []


def test_the_readmes_say_what_the_argument_specs_say() -> None:
    program = ROOT / "scripts" / "role-readmes"
    done = subprocess.run(
        [sys.executable, program, "--check"], capture_output=True, text=True, check=False
    )
    assert done.stderr == ""


@pytest.mark.parametrize(
    "role", sorted((ROOT / "roles").glob("vllm_*")), ids=lambda role: str(role.name)
)
def test_a_readme_has_an_example_that_runs_the_role_and_links_that_lead_somewhere(
    role: Path,
) -> None:
    text = (role / "README.md").read_text(encoding="utf-8")
    for link in re.findall(r"\]\(([^)]+)\)", text):
        assert (role / link).exists(), link
    (play,) = yaml.safe_load(text.split("```yaml\n")[1].split("```")[0])
    roles = [one["role"] if isinstance(one, dict) else one for one in play["roles"]]
    assert roles[-1] == f"compute_plane.vllm.{role.name}"
