# Copyright: (c) 2026, compute_plane.vllm contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""scripts/check-argument-specs: what it accepts, what it refuses and how it says so."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path
from textwrap import dedent

import pytest

PROGRAM = Path(__file__).parents[3] / "scripts" / "check-argument-specs"


def check(role, *, defaults, specs, entry_points=("main",)):
    """Write a role, run the program on it, return its exit status and its lines."""
    for name in ("defaults", "meta", "tasks"):
        (role / name).mkdir(parents=True, exist_ok=True)
    if defaults is not None:
        (role / "defaults" / "main.yml").write_text(dedent(defaults))
    if specs is not None:
        (role / "meta" / "argument_specs.yml").write_text(dedent(specs))
    for entry_point in entry_points:
        (role / "tasks" / f"{entry_point}.yml").touch()
    done = subprocess.run(
        [sys.executable, PROGRAM, role], capture_output=True, text=True, check=False
    )
    return done.returncode, done.stderr.replace(f"{role}/", "").splitlines()


def specs_of(options):
    return "argument_specs:\n  main:\n    options:\n" + "".join(
        f"      {name}: {option}\n" for name, option in options.items()
    )


def test_role_that_agrees(tmp_path):
    status, problems = check(
        tmp_path,
        defaults="""
            port: 8000
            nested: {a: [1, "2"], b: null}
            computed: "{{ port }}"
        """,
        specs=specs_of(
            {
                "port": "{description: Port., type: int, default: 8000}",
                "nested": '{description: Nested., type: dict, default: {b: null, a: [1, "2"]}}',
                "computed": "{description: Computed., default: '{{ port }}'}",
                "name": "{description: Name., required: true}",
                "revision": "{description: Optional; without it the newest.}",
            }
        ),
    )
    assert (status, problems) == (0, [])


@pytest.mark.parametrize(
    ("defaults", "option", "problem"),
    [
        ("x: 1", "{description: X., default: 2}", "x documents 2 but defaults/main.yml has 1"),
        ("x: 1", "{description: X., default: true}", "documents True but defaults/main.yml has 1"),
        ("x: '1'", "{description: X., default: 1}", "documents 1 but defaults/main.yml has '1'"),
        ("x: [1]", "{description: X., default: [1, 2]}", "documents [1, 2] but"),
        ("x: {a: 1}", "{description: X., default: {a: 1.0}}", "documents {'a': 1.0} but"),
        ("x: null", "{description: X.}", "is None in defaults/main.yml but documents no default"),
        ("", "{description: X., default: 1}", "documents 1 but is not in defaults/main.yml"),
        ("x: 1", "{description: X., required: true}", "is required and has a default"),
        ("", "{description: X., required: true, default: 1}", "is required and has a default"),
        ("", "{type: int}", "x has no description"),
        ("", "", "x has no description"),
    ],
)
def test_option_that_disagrees(tmp_path, defaults, option, problem):
    status, problems = check(tmp_path, defaults=defaults, specs=specs_of({"x": option}))
    assert status == 1
    assert len(problems) == 1
    assert problems[0].startswith("meta/argument_specs.yml: x ")
    assert problem in problems[0]


def test_all_problems_at_once(tmp_path):
    status, problems = check(
        tmp_path,
        defaults="undocumented: 1\nother: 2\n",
        specs=specs_of({"other": "{description: Other., default: 3}"}),
        entry_points=(),
    )
    assert status == 1
    assert problems == [
        "meta/argument_specs.yml: entry point main has no file tasks/main.yml",
        "meta/argument_specs.yml: other documents 3 but defaults/main.yml has 2",
        "meta/argument_specs.yml: undocumented is in defaults/main.yml but not documented",
    ]


@pytest.mark.parametrize(
    ("defaults", "specs", "problem"),
    [
        ("x: 1", None, "meta/argument_specs.yml: missing"),
        ("x: 1", "argument_specs: {}", "meta/argument_specs.yml: lacks argument_specs.main"),
        ("- x", "argument_specs: {main: {}}", "defaults/main.yml: holds a list, not a mapping"),
        ("x: [", "argument_specs: {main: {}}", "defaults/main.yml: not valid YAML"),
    ],
)
def test_files_that_cannot_be_compared(tmp_path, defaults, specs, problem):
    status, problems = check(tmp_path, defaults=defaults, specs=specs)
    assert status == 1
    assert problems[0].startswith(problem)


def test_role_without_defaults_and_options(tmp_path):
    assert check(tmp_path, defaults=None, specs="argument_specs: {main: }") == (0, [])


ENTRY_POINTS = """
argument_specs:
  main:
    options:
      x: {description: X., default: 1}
  stop:
    options:
      x: {description: X., default: %s}
"""


@pytest.mark.parametrize(("default", "count"), [("1", 0), ("2", 1)])
def test_a_default_of_another_entry_point(tmp_path, default, count):
    status, problems = check(
        tmp_path, defaults="x: 1", specs=ENTRY_POINTS % default, entry_points=("main", "stop")
    )
    assert status == count
    line = "meta/argument_specs.yml: stop: x documents 2 but defaults/main.yml has 1"
    assert problems == [line] * count


@pytest.mark.parametrize("used_in", ["roles/other/tasks/main.yml", "playbooks/site.yml"])
@pytest.mark.parametrize("name", ["web", "a.b.web"])
def test_every_file_that_others_start_with_is_an_entry_point(tmp_path, used_in, name):
    path = tmp_path / used_in
    path.parent.mkdir(parents=True)
    include = f"{{ansible.builtin.include_role: {{name: {name}, tasks_from: stop.yml}}}}"
    path.write_text(f"- {{block: [{include}]}}")
    specs = "argument_specs: {main: {}}"
    status, problems = check(
        tmp_path / "roles" / "web", defaults="", specs=specs, entry_points=("main", "stop")
    )
    assert (status, problems) == (
        1,
        [f"meta/argument_specs.yml: lacks the entry point stop, which {used_in} starts with"],
    )
