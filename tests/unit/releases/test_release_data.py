# Copyright: (c) 2026, compute_plane.vllm contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Release data holds together: every key, every lock, every pin."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import jsonschema
import pytest
import yaml

from ansible_collections.compute_plane.vllm.plugins.action.vllm_plan import ARGUMENTS
from ansible_collections.compute_plane.vllm.plugins.modules import vllm_plan
from ansible_collections.compute_plane.vllm.plugins.plugin_utils.plan.wanted import DTYPES
from ansible_collections.compute_plane.vllm.plugins.plugin_utils.release_data import (
    RULES,
    default_release,
)

ROOT = Path(__file__).resolve().parents[3]
RELEASES = sorted(path.parent.name for path in ROOT.glob("releases/*/release.yml"))
SCHEMA = json.loads((ROOT / "releases" / "schema.json").read_text())
PIN = re.compile(r"([a-z0-9]+(?:-[a-z0-9]+)*)==([0-9][0-9a-z.+]*)")
LOCKS = [
    pytest.param(release, accelerator, python, filename, id=f"{release}-{accelerator}-{python}")
    for release in RELEASES
    for accelerator, data in yaml.safe_load(
        (ROOT / "releases" / release / "release.yml").read_text()
    )["accelerators"].items()
    for python, filename in data["locks"].items()
]


def load(release: str) -> dict[str, Any]:
    data: dict[str, Any] = yaml.safe_load(text_of(release, "release.yml"))
    return data


def text_of(release: str, filename: str) -> str:
    return (ROOT / "releases" / release / filename).read_text()


def pins_of(text: str) -> list[tuple[str, str, list[str]]]:
    """(name, version, hashes) of each requirement; fails on anything else in the file."""
    body = "".join(line for line in text.splitlines(True) if not line.startswith("#"))
    pins = []
    for requirement in body.replace("\\\n", " ").splitlines():
        pin, *hashes = requirement.split()
        match = PIN.fullmatch(pin)
        assert match, f"not a pin: {pin}"
        pins.append((match[1], match[2], hashes))
    return pins


def version_tuple(version: str) -> tuple[int, ...]:
    return tuple(int(part) for part in version.split("."))


def test_there_is_the_recorded_release() -> None:
    assert "0.14.1" in RELEASES


def test_there_is_the_default_release_and_nothing_else_says_which_it_is() -> None:
    assert default_release() in RELEASES
    assert ARGUMENTS["release"]["default"] == default_release()
    documented = yaml.safe_load(vllm_plan.DOCUMENTATION)["options"]["release"]
    assert "default" not in documented
    release = re.escape(default_release())
    named = re.compile(rf"default\W{{1,6}}{release}|{release}\W* when not given|else `?{release}")
    for path in [ROOT / "README.md", *ROOT.glob("docs/*.md"), *ROOT.glob("roles/*/*/*.yml")]:
        assert named.findall(path.read_text(encoding="utf-8")) == [], path


@pytest.mark.parametrize("release", RELEASES)
class TestRelease:
    def test_matches_the_schema(self, release: str) -> None:
        jsonschema.validate(load(release), SCHEMA, jsonschema.Draft202012Validator)

    def test_is_in_the_directory_of_its_name(self, release: str) -> None:
        data = load(release)
        assert data["release"] == release
        for accelerator in data["accelerators"].values():
            assert accelerator["expect"]["vllm"] == release

    def test_directory_holds_nothing_else(self, release: str) -> None:
        data = load(release)
        named = {"release.yml", "environment.yml", data["serve_flags"], data["models"]}
        for accelerator in data["accelerators"].values():
            named.update(accelerator["locks"].values())
        assert {path.name for path in (ROOT / "releases" / release).iterdir()} == named

    def test_knows_what_people_serve(self, release: str) -> None:
        known = yaml.safe_load(text_of(release, "models.yml"))
        architectures = known["architectures"]
        # https://docs.vllm.ai/en/stable/models/supported_models.html
        assert "generate" in architectures["Qwen2ForCausalLM"]
        assert architectures["BertModel"] == ["pooling"]
        assert "score" in architectures["XLMRobertaForSequenceClassification"]
        assert "transcription" in architectures["WhisperForConditionalGeneration"]
        assert "multimodal" in architectures["Gemma3ForConditionalGeneration"]
        assert "hybrid" in architectures["Qwen3NextForCausalLM"]
        # https://docs.vllm.ai/en/stable/features/quantization/: Marlin takes FP8 from Turing on.
        assert known["quantizations"]["fp8"] == "7.5"
        assert known["suffixes"][0] == ["ForCausalLM", "generate", "none"]

    def test_every_accelerator_is_locked_for_every_python(self, release: str) -> None:
        data = load(release)
        assert data["python"] == sorted(data["python"], key=version_tuple)
        for accelerator in data["accelerators"].values():
            assert list(accelerator["locks"]) == data["python"]

    def test_glibc_is_that_of_the_platform(self, release: str) -> None:
        data = load(release)
        for accelerator in data["accelerators"].values():
            _, _, minor = accelerator["lock"]["platform"].rpartition("_")
            assert accelerator["glibc"] == f"2.{minor}"
        newest = max((a["glibc"] for a in data["accelerators"].values()), key=version_tuple)
        assert data["glibc"] == newest

    def test_download_bytes_is_the_most_of_its_locks(self, release: str) -> None:
        for accelerator in load(release)["accelerators"].values():
            sizes = [
                int(
                    re.findall(
                        r"^# .*Download: (\d+) bytes\.$", text_of(release, lock), re.MULTILINE
                    )[0]
                )
                for lock in accelerator["locks"].values()
            ]
            assert accelerator["download_bytes"] == max(sizes)

    def test_backends_are_sorted_and_the_default_is_one(self, release: str) -> None:
        known = load(release)["attention_backend"]["known"]
        assert known == sorted(known)
        assert {"CPU_ATTN", "FLASH_ATTN", "TRITON_ATTN"} <= set(known)

    def test_release_data_names_no_index(self, release: str) -> None:
        for path in (ROOT / "releases" / release).iterdir():
            assert "://" not in path.read_text(), path.name

    def test_complaints_are_of_its_accelerators(self, release: str) -> None:
        data = load(release)
        for complaint in data["known_check_complaints"]:
            assert complaint["accelerator"] in data["accelerators"]


@pytest.mark.parametrize("release", RELEASES)
@pytest.mark.parametrize("rules", ["attention", "dtypes"])
def test_the_facts_of_single_releases_were_looked_up(rules: str, release: str) -> None:
    # docs/releases.md, "Add a release": what the comments of the file name, in the wheel.
    assert release in yaml.safe_load((RULES / f"{rules}.yml").read_text())["read_in"]


@pytest.mark.parametrize("release", RELEASES)
class TestServeFlags:
    def flags(self, release: str) -> dict[str, dict[str, Any]]:
        flags: dict[str, dict[str, Any]]
        flags = yaml.safe_load(text_of(release, load(release)["serve_flags"]))
        return flags

    def test_every_flag_is_described(self, release: str) -> None:
        flags = self.flags(release)
        assert list(flags) == sorted(flags)
        for name, flag in flags.items():
            assert re.fullmatch(r"[a-z0-9]+(-[a-z0-9]+)*", name)
            assert flag["kind"] in {"bool", "int", "float", "str", "json", "list"}, name
            assert set(flag) <= {"kind", "choices", "negatable", "registered"}, name
            assert flag.get("choices") != [], name
            if flag["kind"] != "bool":
                assert "negatable" not in flag, name

    @pytest.mark.parametrize(
        ("name", "kind"),
        [
            ("model", "str"),
            ("host", "str"),
            ("port", "int"),
            ("served-model-name", "list"),
            ("dtype", "str"),
            ("max-model-len", "int"),
            ("gpu-memory-utilization", "float"),
            ("enforce-eager", "bool"),
            ("max-num-seqs", "int"),
            ("enable-auto-tool-choice", "bool"),
            ("tool-call-parser", "str"),
            ("tensor-parallel-size", "int"),
            ("hf-overrides", "json"),
            ("allowed-origins", "json"),
        ],
    )
    def test_has_what_the_collection_sets(self, release: str, name: str, kind: str) -> None:
        assert self.flags(release)[name]["kind"] == kind

    def test_has_the_flag_that_chooses_the_backend(self, release: str) -> None:
        backend = load(release)["attention_backend"]
        if backend["mechanism"] == "flag":
            assert self.flags(release)[backend["flag"].replace("_", "-")]["kind"] == "str"

    def test_takes_the_number_formats_that_an_instance_can_ask_for(self, release: str) -> None:
        assert set(self.flags(release)["dtype"]["choices"]) == set(DTYPES)

    def test_knows_choices_negations_and_registered_names(self, release: str) -> None:
        flags = self.flags(release)
        assert "float16" in flags["dtype"]["choices"]
        assert flags["enforce-eager"]["negatable"] is True
        assert "hermes" in flags["tool-call-parser"]["registered"]


@pytest.mark.parametrize(("release", "accelerator", "python", "filename"), LOCKS)
class TestLock:
    def test_every_requirement_is_one_pin_with_one_hash(
        self, release: str, accelerator: str, python: str, filename: str
    ) -> None:
        pins = pins_of(text_of(release, filename))
        names = [name for name, _, _ in pins]
        assert len(pins) > 100
        assert names == sorted(set(names))
        for name, _, hashes in pins:
            assert len(hashes) == 1, name
            assert re.fullmatch(r"--hash=sha256:[0-9a-f]{64}", hashes[0]), name

    def test_pins_what_the_release_says(
        self, release: str, accelerator: str, python: str, filename: str
    ) -> None:
        data = load(release)["accelerators"][accelerator]
        pins = {name: version for name, version, _ in pins_of(text_of(release, filename))}
        assert pins[data["distribution"]] == release
        assert pins["torch"] == data["torch"]
        assert pins["triton"] == data["expect"]["triton"]
        for pin in (*data["lock"]["requirements"], *data["lock"]["overrides"]):
            name, _, version = pin.partition("==")
            assert pins[name] == version

    def test_says_how_it_was_made(
        self, release: str, accelerator: str, python: str, filename: str
    ) -> None:
        lock = load(release)["accelerators"][accelerator]["lock"]
        text = text_of(release, filename)
        header = [line for line in text.splitlines() if line.startswith("#")]
        assert text.startswith(f"# vLLM {release}, accelerator {accelerator}, Python {python}.")
        assert text.splitlines()[: len(header)] == header
        for part in (lock["exclude_newer"], lock["platform"], *lock["requirements"]):
            assert any(part in line for line in header), part
        assert f"Wheels: {len(pins_of(text))}." in "\n".join(header)

    def test_torch_and_driver_libraries_are_of_the_expected_cuda(
        self, release: str, accelerator: str, python: str, filename: str
    ) -> None:
        data = load(release)["accelerators"][accelerator]
        pins = {name: version for name, version, _ in pins_of(text_of(release, filename))}
        cuda = data["expect"]["cuda"]
        runtime = pins.get("nvidia-cuda-runtime") or pins["nvidia-cuda-runtime-cu12"]
        assert version_tuple(runtime)[:2] == version_tuple(cuda)
        assert data["expect"]["torch"] == f"{data['torch']}+cu{cuda.replace('.', '')}"


class TestTools:
    text = (ROOT / "requirements" / "tools.txt").read_text()
    requirements = tuple(
        line
        for line in text.replace("\\\n", " ").splitlines()
        if line and not line.lstrip().startswith("#")
    )

    def test_every_requirement_is_pinned_and_hashed_once(self) -> None:
        names = []
        for requirement in self.requirements:
            pin, *rest = requirement.split()
            match = PIN.fullmatch(pin)
            assert match, pin
            names.append(match[1])
            assert any(re.fullmatch(r"--hash=sha256:[0-9a-f]{64}", word) for word in rest), pin
        assert names == sorted(set(names))

    @pytest.mark.parametrize("name", ["uv", "huggingface-hub", "httpx", "nvidia-ml-py"])
    def test_has_the_tools(self, name: str) -> None:
        assert any(requirement.startswith(f"{name}==") for requirement in self.requirements)

    def test_names_no_index(self) -> None:
        assert "://" not in self.text


def test_what_a_quantization_lacks_is_in_no_lock() -> None:
    """The plan refuses it for that; a lock that had it would make the refusal wrong."""
    rows = yaml.safe_load((RULES / "dtypes.yml").read_text())["quantization_packages"]
    packages = {name for row in rows.values() for name in row}
    assert packages == {"bitsandbytes"}
    locks = list(ROOT.glob("releases/*/*-py*.txt"))
    assert locks
    for lock in locks:
        names = {line.partition("==")[0] for line in lock.read_text().splitlines()}
        assert not packages & names, lock
