# Copyright: (c) 2026, compute_plane.vllm contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
from __future__ import annotations

import importlib.metadata
import json
from typing import TYPE_CHECKING

import pytest

from ansible_collections.compute_plane.vllm.plugins.module_utils.runtime import proof as runtime
from ansible_collections.compute_plane.vllm.plugins.module_utils.runtime import proving

if TYPE_CHECKING:
    from pathlib import Path

LOCK = "uv==0.13.9 --hash=sha256:aa\n"
# echo 'uv==0.13.9 --hash=sha256:aa' | sha256sum
LOCK_SHA256 = "37daa0e7cd42c8f0955babe654351a18fe1f6ae10a7f7a3e4cdb2b672e2b2444"


def test_the_hash_is_that_of_the_file() -> None:
    assert runtime.lock_sha256(LOCK) == LOCK_SHA256


@pytest.mark.parametrize(
    ("marker", "proved"),
    [
        (None, False),
        ("", False),
        ('{"lock_sha256": "', False),  # cut off half way
        ("[]", False),
        ("{}", False),
        ('{"lock_sha256": "0000"}', False),
        (f'{{"lock_sha256": "{LOCK_SHA256}"}}', True),
    ],
)
def test_only_a_whole_mark_of_this_lock_proves(marker: str | None, proved: bool) -> None:
    assert runtime.is_proved(marker, LOCK_SHA256) is proved


def test_the_mark_that_is_written_is_the_mark_that_is_read() -> None:
    text = runtime.proved_record(LOCK_SHA256, "/usr/bin/python3", {"vllm": "0.14.1"}, "2026-01-01")
    assert runtime.is_proved(text, LOCK_SHA256)
    assert json.loads(text)["versions"] == {"vllm": "0.14.1"}


EXPECT = {"vllm": "0.14.1", "torch": "2.9.1+cu128", "cuda": "12.8", "triton": "3.5.1"}


@pytest.mark.parametrize(
    ("found", "wrong"),
    [
        ({**EXPECT}, []),
        ({**EXPECT, "vllm": "0.14.1+cpu"}, []),
        ({**EXPECT, "vllm": "0.14.0"}, ["vllm is 0.14.0, expected 0.14.1"]),
        ({**EXPECT, "torch": "2.9.1+cpu"}, ["torch is 2.9.1+cpu, expected 2.9.1+cu128"]),
        ({**EXPECT, "torch": "2.9.1"}, ["torch is 2.9.1, expected 2.9.1+cu128"]),
        (
            {**EXPECT, "cuda": None, "triton": None},
            ["cuda is not installed, expected 12.8", "triton is not installed, expected 3.5.1"],
        ),
    ],
)
def test_versions_other_than_the_release_data_says(
    found: dict[str, str | None], wrong: list[str]
) -> None:
    assert proving.unexpected_versions(EXPECT, found) == wrong


@pytest.mark.parametrize(
    ("stderr", "advice"),
    [
        ("error: No space left on device (os error 28)", "the disk is full"),
        (
            "error: Hash mismatch for `six==1.16.0`\n  Expected: sha256:00\n  Computed: sha256:8a",
            "a downloaded file is not the one the lock names",
        ),
        (
            "  Caused by: dns error\n  Caused by: failed to lookup address information",
            "the package index could not be reached",
        ),
        ("invalid peer certificate: UnknownIssuer", "certificate is not trusted"),
    ],
)
def test_failures_are_explained(stderr: str, advice: str) -> None:
    message = proving.explain_failure("installing", stderr)
    assert message.startswith("installing failed: ")
    assert advice in message


def test_an_unknown_failure_shows_the_end_of_what_was_printed() -> None:
    message = proving.explain_failure("installing", "\n".join(f"line {n}" for n in range(20)))
    assert message == (
        "installing failed: line 14 | line 15 | line 16 | line 17 | line 18 | line 19"
    )


def test_the_alias_is_an_installed_distribution(tmp_path: Path) -> None:
    for path, text in proving.alias_dist_info("vllm", "0.26.0+cpu").items():
        (tmp_path / path).parent.mkdir(exist_ok=True)
        (tmp_path / path).write_text(text)
    (found,) = importlib.metadata.distributions(path=[str(tmp_path)])
    assert (found.name, found.version) == ("vllm", "0.26.0+cpu")
    assert {file.name for file in found.files or ()} == {"METADATA", "WHEEL", "INSTALLER", "RECORD"}


@pytest.mark.parametrize(
    ("bundle", "arguments"),
    [
        (None, []),
        ("/srv/bundle", ["--no-index", "--find-links", "/srv/bundle/wheels"]),
        ("/srv/bundle/", ["--no-index", "--find-links", "/srv/bundle/wheels"]),
    ],
)
def test_a_bundle_is_the_only_source(bundle: str | None, arguments: list[str]) -> None:
    assert proving.only_from(bundle) == arguments


def test_names_in_a_lock() -> None:
    lock = "# made by\na-b==1 --hash=sha256:00\nuv==2 ; sys_platform == 'linux' \\\n    --hash=x\n"
    assert proving.locked_packages(lock) == {"a-b", "uv"}


@pytest.mark.parametrize(
    ("environment", "secrets"),
    [
        ({"UV_NO_CACHE": "1", "UV_DEFAULT_INDEX": "https://index.example/simple"}, []),
        ({"UV_INDEX_MIRROR_USERNAME": "ann", "UV_INDEX_MIRROR_PASSWORD": "pw"}, ["ann", "pw"]),
        ({"HTTPS_PROXY": "http://ann:p%40ss@proxy.example:3128"}, ["p%40ss", "p@ss"]),
        ({"PIP_INDEX_URL": "https://token@index.example/simple"}, ["token"]),
        (
            {"UV_INDEX": "a=https://u:one@a.example/ b=https://u:three@b.example/"},
            ["three", "one"],
        ),
        ({"UV_INDEX_URL": "https://:@index.example/"}, []),
    ],
)
def test_what_nobody_may_read(environment: dict[str, str], secrets: list[str]) -> None:
    assert runtime.secrets_of(environment) == secrets


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("GET https://ann:pw@a.example/x failed", "GET https://***@a.example/x failed"),
        ("https://p@ss:w@rd@a.example", "https://***@a.example"),
        ("https://a.example/u@1: hunter2 was refused", "https://a.example/u@1: *** was refused"),
    ],
)
def test_messages_hold_no_credentials(text: str, shown: str) -> None:
    assert runtime.without_secrets(text, ["hunter2"]) == shown


def test_the_fingerprint_of_a_venv_of_ones_own(tmp_path: Path) -> None:
    record = tmp_path / "lib/python3.12/site-packages/vllm-1.dist-info/RECORD"
    record.parent.mkdir(parents=True)
    record.write_text("a")
    before = runtime.own_fingerprint(str(tmp_path))
    assert runtime.own_fingerprint(str(tmp_path)) == before
    record.write_text("ab")
    changed = runtime.own_fingerprint(str(tmp_path))
    (record.parents[1] / "torch-2.dist-info").mkdir()
    assert len({before, changed, runtime.own_fingerprint(str(tmp_path))}) == 3


MANIFEST = '{\n"bin/python": [3, 5, "aa", "vllm"]\n}\n'
INTERPRETER = "/usr/bin/python3.11 6831736 1735689600000000000"


def kept(**different: str) -> str:
    return json.dumps(
        {
            "interpreter": INTERPRETER,
            "lock_sha256": LOCK_SHA256,
            # sha256sum of MANIFEST
            "manifest_sha256": "39196bea0a6482a0a9199b20bf9aa39534ccc8834fb885572e60f87aa64b1b95",
            "versions": {"vllm": "0.14.1", "triton": None},
            **different,
        }
    )


def test_a_proof_that_holds_is_read() -> None:
    proof = proving.read_proof(kept(), MANIFEST, LOCK_SHA256, INTERPRETER)
    assert proof is not None
    versions, entries = proof
    assert versions == {"vllm": "0.14.1", "triton": None}
    assert entries["bin/python"].sha256 == "aa"


@pytest.mark.parametrize(
    ("record", "manifest"),
    [
        (None, MANIFEST),
        (kept()[:-20], MANIFEST),  # cut off half way
        (kept(), None),
        (kept(), MANIFEST[:-5]),
        (kept(lock_sha256="00"), MANIFEST),
        (kept(interpreter="/usr/bin/python3.11 6831736 1735689600000000001"), MANIFEST),
    ],
)
def test_a_proof_of_something_else_is_none(record: str | None, manifest: str | None) -> None:
    assert proving.read_proof(record, manifest, LOCK_SHA256, INTERPRETER) is None


def test_an_interpreter_that_was_replaced_is_another(tmp_path: Path) -> None:
    python = tmp_path / "python3"
    python.write_text("a")
    before = proving.interpreter_identity(str(python))
    assert proving.interpreter_identity(str(python)) == before
    python.write_text("ab")
    assert proving.interpreter_identity(str(python)) != before
