# Copyright: (c) 2026, compute_plane.vllm contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What holds for the project's files: whose they are, and that what they link to is there."""

from __future__ import annotations

import fnmatch
import re
import subprocess
from pathlib import Path, PurePosixPath

import pytest
import yaml

ROOT = Path(__file__).parents[3]
if not (ROOT / ".git").exists():
    pytest.skip("a copy without git: which files are its own is not known", allow_module_level=True)
FILES = [
    name
    for name in subprocess.check_output(["git", "ls-files", "-z"], cwd=ROOT, text=True).split("\0")
    if name and (ROOT / name).is_file() and not (ROOT / name).is_symlink()
]
GENERATED = ("serve-flags.yml", "environment.yml")  # a line in it names the program that makes it
WITH_COMMENTS = (".py", ".yml", ".yaml", ".toml", ".cfg", ".in", ".sh")
IGNORED = yaml.safe_load((ROOT / "galaxy.yml").read_text())["build_ignore"]


def in_artifact(path: str) -> bool:
    """Whether galaxy.yml puts a file into the artifact."""
    parts = PurePosixPath(path).parts
    names = ["/".join(parts[: n + 1]) for n in range(len(parts))]
    return not any(
        fnmatch.fnmatch(name, pattern) or fnmatch.fnmatch(name.rpartition("/")[2], pattern)
        for name in names
        for pattern in IGNORED
    )


def has_comments(name: str) -> bool:
    text = (ROOT / name).read_bytes()
    if PurePosixPath(name).name in GENERATED:
        return False
    return bool(text.strip()) and (name.endswith(WITH_COMMENTS) or text.startswith(b"#!"))


def test_every_file_that_can_say_so_names_its_copyright_and_its_licence():
    lacking = [
        name
        for name in filter(has_comments, FILES)
        for head in [(ROOT / name).read_text()[:2000]]
        if "SPDX-License-Identifier: " not in head or "Copyright" not in head
    ]
    assert lacking == []


@pytest.mark.parametrize("name", [name for name in FILES if name.endswith(".md")])
def test_relative_links_lead_to_files_that_whoever_reads_them_has(name):
    broken = []
    for link in re.findall(r"\]\(([^)\s#]+)[^)]*\)", (ROOT / name).read_text()):
        if re.match(r"[a-z]+:", link):
            continue
        target = (ROOT / name).parent / link
        path = target.resolve()
        if not path.exists():
            broken.append(f"{link}: is not there")
        elif in_artifact(name) and not in_artifact(path.relative_to(ROOT).as_posix()):
            broken.append(f"{link}: is not in the artifact; link to it at the project's address")
    assert broken == []
