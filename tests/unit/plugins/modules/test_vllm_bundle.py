# Copyright: (c) 2026, compute_plane.vllm contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Bundles made by the real pip from a directory of small wheels, then damaged and checked."""

from __future__ import annotations

import hashlib
import json
import os
import shutil
import zipfile
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import pytest
import yaml

from ansible_collections.compute_plane.vllm.plugins.doc_fragments.lock import ModuleDocFragment
from ansible_collections.compute_plane.vllm.plugins.module_utils.runtime import bundle_maker
from ansible_collections.compute_plane.vllm.plugins.modules import vllm_bundle
from ansible_collections.compute_plane.vllm.tests.unit.plugins.module_args import (
    asked_for,
    patch_module_args,
)

if TYPE_CHECKING:
    from pathlib import Path

PLATFORM = "x86_64-manylinux_2_28"


def sha256(path: Path) -> str:
    return hashlib.sha256(path.read_bytes()).hexdigest()


def wheel(folder: Path, name: str, version: str, tag: str, content: str = "") -> Path:
    """Build a wheel by hand (https://packaging.python.org/en/latest/specifications/binary-distribution-format/)."""
    path = folder / f"{name}-{version}-{tag}.whl"
    info = f"{name}-{version}.dist-info"
    files = {
        f"{name}.py": content,
        f"{info}/METADATA": f"Metadata-Version: 2.1\nName: {name}\nVersion: {version}\n",
        f"{info}/WHEEL": f"Wheel-Version: 1.0\nRoot-Is-Purelib: true\nTag: {tag}\n",
    }
    files[f"{info}/RECORD"] = "".join(f"{file},,\n" for file in (*files, f"{info}/RECORD"))
    with zipfile.ZipFile(path, "w") as archive:
        for file, text in files.items():
            archive.writestr(zipfile.ZipInfo(file), text)
    return path


def line(*wheels: Path, marker: str = "") -> str:
    name, version = wheels[0].name.split("-")[:2]
    hashes = "".join(f" \\\n    --hash=sha256:{sha256(one)}" for one in wheels)
    return f"{name}=={version}{marker and ' ; ' + marker}{hashes}\n"


class Site:
    """An index in a directory, two locks, and a bundle to be."""

    def __init__(self, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
        self.capsys = capsys
        self.index = tmp_path / "index"
        self.index.mkdir()
        self.path = tmp_path / "bundle"
        # The running Python is neither 3.10 nor 3.13; native has a wheel for each of them.
        self.native10 = wheel(self.index, "native", "1.0", "cp310-cp310-manylinux_2_28_x86_64")
        self.native13 = wheel(self.index, "native", "1.0", "cp313-cp313-manylinux_2_28_x86_64")
        self.newer = wheel(self.index, "native", "1.0", "cp310-cp310-manylinux_2_39_x86_64")
        self.pure = wheel(self.index, "pure", "2.0", "py3-none-any")
        self.old = wheel(self.index, "backport", "3.0", "py3-none-any")
        self.tool = wheel(self.index, "tool", "4.0", "cp37-abi3-manylinux2014_x86_64")
        self.mac = wheel(self.index, "tool", "4.0", "cp37-abi3-macosx_11_0_arm64")
        self.args: dict[str, Any] = {
            "path": str(self.path),
            "release": "0.14.1",
            "accelerator": "cpu",
            "platform": PLATFORM,
            "locks": [
                {
                    "name": "cpu-py310.txt",
                    "python": "3.10",
                    "text": line(self.native10, self.newer) + line(self.pure),
                },
                {
                    "name": "cpu-py313.txt",
                    "python": "3.13",
                    "text": line(self.native13) + line(self.pure),
                },
            ],
            "tools_lock": line(self.tool, self.mac)
            + line(self.old, marker="python_full_version < '3.11'"),
        }

    def run(self, check: bool = False, **changes: Any) -> dict[str, Any]:
        """Run the module and return what it answers."""
        args = {**self.args, **changes, "_ansible_check_mode": check}
        with patch_module_args(args), pytest.raises(SystemExit):
            vllm_bundle.main()
        answer: dict[str, Any] = json.loads(self.capsys.readouterr().out.splitlines()[-1])
        return answer

    def verify(self, **changes: Any) -> dict[str, Any]:
        lock = self.args["locks"][0]["text"]
        asked = {
            "path": str(self.path),
            "state": "verified",
            "lock": "0.14.1/cpu-py310.txt",
            "lock_sha256": hashlib.sha256(lock.encode()).hexdigest(),
            "tools_lock_sha256": hashlib.sha256(self.args["tools_lock"].encode()).hexdigest(),
        }
        with patch_module_args({**asked, **changes}), pytest.raises(SystemExit):
            vllm_bundle.main()
        answer: dict[str, Any] = json.loads(self.capsys.readouterr().out.splitlines()[-1])
        return answer

    def wheels(self) -> set[str]:
        return set(os.listdir(self.path / "wheels"))

    def wanted(self) -> set[str]:
        return {one.name for one in (self.native10, self.native13, self.pure, self.old, self.tool)}


@pytest.fixture
def site(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> Site:
    for name in [name for name in os.environ if name.startswith("PIP_")]:
        monkeypatch.delenv(name)
    monkeypatch.setenv("PIP_CONFIG_FILE", os.devnull)
    monkeypatch.setenv("PIP_NO_INDEX", "1")
    made = Site(tmp_path, capsys)
    monkeypatch.setenv("PIP_FIND_LINKS", str(made.index))
    return made


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Where a bundle that was made is kept: pip takes a second for each of its wheels."""
    return tmp_path_factory.mktemp("whole") / "bundle"


@pytest.fixture
def made(site: Site, whole: Path) -> Site:
    """A site whose bundle has been made."""
    if whole.exists():
        shutil.copytree(whole, site.path)
    else:
        assert site.run()["changed"] is True
        shutil.copytree(site.path, whole)
    return site


@pytest.fixture
def no_pip(monkeypatch: pytest.MonkeyPatch) -> Callable[[], None]:
    """Return a function after which starting pip fails the test."""

    def forbid(*_args: Any, **_options: Any) -> None:
        raise AssertionError("a process was started")

    return lambda: monkeypatch.setattr(bundle_maker.subprocess, "run", forbid)


def test_the_wheels_of_other_pythons_and_no_others(site: Site) -> None:
    result = site.run()
    assert result["changed"] is True
    assert result["fetched"] == ["backport==3.0", "native==1.0", "pure==2.0", "tool==4.0"]
    assert site.wheels() == site.wanted()
    content = json.loads((site.path / "manifest.json").read_text())
    assert content["pythons"] == ["3.10", "3.13"]
    named = {row["path"]: (row["bytes"], row["sha256"]) for row in content["files"]}
    there = {
        str(path.relative_to(site.path)): (path.stat().st_size, sha256(path))
        for path in site.path.rglob("*")
        if path.is_file() and path.name not in ("manifest.json", ".lock")
    }
    assert named == there
    assert {path.split("/")[0] for path in named} == {"locks", "wheels"}
    assert (site.path / "locks" / "tools.txt").read_text() == site.args["tools_lock"]
    assert all(path.stat().st_mode & 0o777 == 0o644 for path in site.path.glob("wheels/*"))


def test_a_second_run_fetches_and_changes_nothing(made: Site, no_pip: Callable[[], None]) -> None:
    before = (made.path / "manifest.json").stat().st_mtime_ns
    no_pip()
    result = made.run()
    assert (result["changed"], result["fetched"]) == (False, [])
    assert (made.path / "manifest.json").stat().st_mtime_ns == before


def test_check_mode_touches_nothing(site: Site, no_pip: Callable[[], None]) -> None:
    no_pip()
    result = site.run(check=True)
    assert result["changed"] is True
    assert "pure==2.0" in result["fetched"]
    assert "wheels/pure==2.0 (to be fetched)" in result["diff"]["after"]
    assert not site.path.exists()


def test_only_the_damaged_wheel_is_fetched_again(made: Site) -> None:
    (made.path / "wheels" / made.pure.name).write_bytes(b"cut")
    result = made.run()
    assert result["fetched"] == ["pure==2.0"]
    assert sha256(made.path / "wheels" / made.pure.name) == sha256(made.pure)
    assert made.verify()["problem"] is None


def test_what_came_before_a_failure_is_kept_and_nothing_is_finished(site: Site) -> None:
    moved = site.pure.rename(site.index.parent / site.pure.name)
    result = site.run(workers=1)
    assert result["failed"] is True
    assert result["msg"].startswith("pure==2.0: the package index has no such wheel")
    assert site.native10.name in site.wheels()
    assert not (site.path / "manifest.json").exists()
    assert "has no manifest.json" in site.verify()["msg"]
    moved.rename(site.pure)
    assert "native==1.0" not in site.run(locks=site.args["locks"][:1])["fetched"]


def test_an_altered_wheel_is_refused(site: Site) -> None:
    wheel(site.index, "pure", "2.0", "py3-none-any", "altered = True")
    result = site.run()
    assert "pure==2.0: the file is not the one that the lock names" in result["msg"]
    assert site.pure.name not in site.wheels()


def test_what_no_lock_names_any_more_goes(made: Site) -> None:
    result = made.run(locks=made.args["locks"][1:])
    assert result["changed"] is True
    assert made.wheels() == {made.native13.name, made.pure.name, made.tool.name}
    assert os.listdir(made.path / "locks") != []
    assert not (made.path / "locks" / "cpu-py310.txt").exists()


def test_what_a_killed_run_left_goes(site: Site) -> None:
    (site.path / ".incoming-abc" / "x").mkdir(parents=True)
    (site.path / ".incoming-def").write_text("half")
    assert site.run()["changed"] is True
    assert sorted(os.listdir(site.path)) == [".lock", "locks", "manifest.json", "wheels"]


def test_all_that_is_wrong_is_told_at_once_and_nothing_is_made(site: Site) -> None:
    site.path.mkdir()
    (site.path / "photos").mkdir()
    result = site.run(
        platform="linux",
        models=["/nowhere"],
        tools_lock="uv\n",
        workers=0,
        locks=[{"name": "../x.txt", "python": "3.11", "text": ""}],
    )
    for said in (
        "photos",
        "platform: ",
        "models: /nowhere",
        "tools.txt: ",
        "workers",
        "'../x.txt'",
    ):
        assert said in result["msg"], said
    assert os.listdir(site.path) == ["photos"]


def model(folder: Path, text: str = "weights") -> Path:
    (folder / "sub").mkdir(parents=True)
    (folder / "config.json").write_text("{}")
    (folder / "model.safetensors").write_text(text)
    (folder / "sub" / "more.json").write_text("[]")
    return folder


def test_models_are_linked_followed_and_removed(made: Site, tmp_path: Path) -> None:
    source = model(tmp_path / "tiny")
    made.run(models=[str(source)])
    copied = made.path / "models" / "tiny" / "model.safetensors"
    assert copied.samefile(source / "model.safetensors")
    assert (made.path / "models" / "tiny" / "sub" / "more.json").read_text() == "[]"
    assert made.verify()["problem"] is None
    assert made.run(models=[str(source)])["changed"] is False
    (source / "model.safetensors").unlink()
    (source / "model.safetensors").write_text("others!")
    assert made.run(models=[str(source)])["changed"] is True
    assert copied.read_text() == "others!"
    assert made.verify()["problem"] is None
    mine = made.path / "models" / "mine.txt"
    mine.write_text("not of a manifest")
    assert made.run()["changed"] is True
    assert not copied.exists()
    assert mine.exists()


def test_a_snapshot_of_the_hubs_cache_is_put_there_without_its_links(
    made: Site, tmp_path: Path
) -> None:
    blobs = model(tmp_path / "blobs")
    snapshot = tmp_path / "models--org--name" / "snapshots" / ("0a" * 20)
    snapshot.mkdir(parents=True)
    for name in ("config.json", "model.safetensors"):
        (snapshot / name).symlink_to(blobs / name)
    made.run(models=[str(snapshot)])
    copied = made.path / "models" / "name" / "model.safetensors"
    assert not copied.is_symlink()
    assert copied.read_text() == "weights"
    assert made.run(models=[str(snapshot)])["changed"] is False


def test_no_room_is_told_before_anything_comes(
    site: Site, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, no_pip: Callable[[], None]
) -> None:
    no_pip()
    room = bundle_maker.space(str(tmp_path))._replace(free=5 << 30)
    monkeypatch.setattr(bundle_maker, "space", lambda _path: room)
    for check in (True, False):
        message = site.run(check=check, download_bytes=6 << 30)["msg"]
        assert message.startswith(f"not enough room on {room.mount} for {site.path}: about 6.0 GiB")
        assert "but 5.0 GiB are free" in message
    assert site.wheels() == set()


def test_room_for_models_is_needed_only_where_they_cannot_be_linked(
    made: Site, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    source = model(tmp_path / "tiny")
    room = bundle_maker.space(str(tmp_path))._replace(free=0)
    monkeypatch.setattr(bundle_maker, "space", lambda _path: room)
    assert made.run(models=[str(source)])["changed"] is True
    monkeypatch.setattr(bundle_maker, "space", lambda _path: room._replace(mount="/proc"))
    other = model(tmp_path / "other")
    assert "not enough room on /proc" in made.run(models=[str(other)])["msg"]


def test_a_whole_bundle_is_verified(made: Site) -> None:
    result = made.verify()
    assert (result["changed"], result["problem"], result["files"]) == (False, None, 8)


@pytest.mark.parametrize(
    ("spoil", "said"),
    [
        (lambda path: path.unlink(), "is missing"),
        (lambda path: path.write_bytes(path.read_bytes()[:-1]), "bytes instead of"),
        (lambda path: path.write_bytes(path.read_bytes()[:-1] + b"!"), "holds other bytes"),
    ],
)
def test_a_damaged_file_is_named_with_what_to_do(
    made: Site, spoil: Callable[[Path], Any], said: str
) -> None:
    spoil(made.path / "wheels" / made.pure.name)
    result = made.verify()
    assert result["failed"] is True
    assert f"1 of its 8 files are not as they were made: wheels/{made.pure.name} " in result["msg"]
    assert said in result["msg"]
    assert result["msg"].endswith("copy them again from where the bundle was made")
    assert "\n" not in result["msg"]


def test_a_cut_manifest_is_told(made: Site) -> None:
    file = made.path / "manifest.json"
    file.write_text(file.read_text()[:-20])
    assert made.verify()["msg"] == f"{file} is cut off or damaged; copy the bundle again"


def test_a_bundle_for_another_lock_is_told(made: Site) -> None:
    result = made.verify(lock="0.26.0/cpu-py310.txt", lock_sha256="0" * 64, fail_on_problem=False)
    assert "failed" not in result
    assert "it is for vLLM 0.14.1 cpu with Python 3.10, 3.13" in result["problem"]


def test_the_documentation_is_that_of_the_arguments() -> None:
    seen = asked_for(vllm_bundle)["argument_spec"]
    documented = {
        **yaml.safe_load(vllm_bundle.DOCUMENTATION)["options"],
        **yaml.safe_load(ModuleDocFragment.DOCUMENTATION)["options"],
    }
    assert set(documented) == set(seen)
    for name, option in documented.items():
        for key in ("default", "choices", "type", "elements", "required"):
            assert option.get(key) == seen[name].get(key), (name, key)
    for task in yaml.safe_load(vllm_bundle.EXAMPLES):
        assert "compute_plane.vllm.vllm_bundle" in task
    assert "problem" in yaml.safe_load(vllm_bundle.RETURN)
