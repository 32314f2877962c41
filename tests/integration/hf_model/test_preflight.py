# Copyright: (c) 2026, compute_plane.vllm contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Preflight on a host that has nothing yet but a GPU: which models of the Hub will do, and how.

The GPU is a substitute (tests/hosts/fake_gpu). The weights of the models are holes in files, of
which nobody may ask a byte.
"""

from __future__ import annotations

import json
import os
import struct
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import fake_gpu
import pytest
from hub import Hub, Store
from hub.models import File
from hub.testing import ROOT
from throwaway.testing import TOOL, own_environment, said_by_tool

from ansible_collections.compute_plane.vllm.plugins.module_utils.hub.listing import HEADER_GUESS

from .conftest import TOKEN
from .test_info import QWEN3_8B

STRANGER = "hf_KnownTokenWithoutAccessToAnything"
MACHINE = ROOT / "tests" / "hosts" / "fake_gpu" / "machines" / "ac-3090.ini"

pytestmark = [
    pytest.mark.skipif(os.geteuid() != 0, reason="throwaway hosts need root"),
    pytest.mark.timeout(400),
]

SMALL = {
    "config.json": QWEN3_8B,
    "generation_config.json": {},
    "tokenizer_config.json": {"chat_template": "{{ messages }}"},
    "tokenizer.json": {},
}
ADAPTER = {"base_model_name_or_path": "org/good", "r": 16}
UNKNOWN = {**QWEN3_8B, "architectures": ["Qwen9MoonForCausalLM"]}
# Qwen/Qwen3-8B has 16.4 GB in five shards; Qwen/Qwen3-32B 65.5 GB.
MODELS: dict[str, tuple[dict[str, Any], dict[str, int]]] = {
    "org/good": (
        SMALL,
        {f"model-0000{n}-of-00005.safetensors": 3_276_000_000 for n in range(1, 6)},
    ),
    "org/large": (SMALL, {"model.safetensors": 65_500_000_000}),
    "org/hybrid": (
        {**SMALL, "config.json": {**QWEN3_8B, "mamba_d_state": 1}},
        {"model.safetensors": 65_500_000_000},
    ),
    "org/gated": (SMALL, {"model.safetensors": 1_000_000}),
    "org/adapter": ({"adapter_config.json": ADAPTER}, {"adapter_model.safetensors": 40_000_000}),
    "org/gguf": ({"README.md": {}}, {"good-Q4_K_M.gguf": 5_000_000_000}),
    "org/mistral": (
        {"params.json": {"dim": 4096}, "tekken.json": {}},
        {"consolidated.safetensors": 14_000_000_000},
    ),
    "org/original": (SMALL, {"consolidated.00.pth": 14_000_000_000}),
    "org/unknown": ({**SMALL, "config.json": UNKNOWN}, {"model.safetensors": 1_000_000}),
}
WEIGHTS = (".safetensors", ".gguf", ".pth")


def hole(path: Path, size: int) -> None:
    """A file of a size that takes no room: a safetensors header where it is of that format."""
    with path.open("wb") as stream:
        if path.suffix == ".safetensors":
            data = (size - 1008) // 2 * 2
            entry = {"dtype": "BF16", "shape": [data // 2], "data_offsets": [0, data]}
            header = json.dumps({"weight": entry}).encode().ljust(size - 8 - data)
            stream.write(struct.pack("<Q", len(header)) + header)
        stream.truncate(size)


class Virgin:
    """A host that has a GPU, and a hub that it reaches.

    Attributes:
        hub: With `MODELS`.
    """

    def __init__(self, directory: Path) -> None:
        self.directory = directory
        self.environment = own_environment(directory)
        up = json.loads(self.tool("up", "virgin", "--json"))
        fake_gpu.install(Path(up["directory"]) / "root", MACHINE)
        self("sh", "-c", "systemctl daemon-reload && systemctl start fake-gpu")
        (directory / "inventory").mkdir()
        (directory / "inventory" / "hosts.yml").write_text(self.tool("inventory", "virgin"))
        store = Store()
        store.tokens |= {TOKEN, STRANGER}
        for name, (documents, weights) in MODELS.items():
            folder = directory / "models" / name
            folder.mkdir(parents=True)
            for file, content in documents.items():
                (folder / file).write_text(json.dumps(content))
            for file, size in weights.items():
                hole(folder / file, size)
            store.add(name, folder, gated=name == "org/gated")
        store.repositories["org/gguf"].card = {"base_model": ["org/good"]}
        store.repositories["org/gated"].readers.add(TOKEN)
        self.hub = Hub(store, address=up["ip"].rpartition(".")[0] + ".1", cdn_address=None)

    def tool(self, *words: str) -> str:
        """Run the hosts' own tool and return what it printed."""
        return said_by_tool(self.environment, *words)

    def __call__(self, *argv: str) -> str:
        """Run a command on the host and return what it printed."""
        return self.tool("exec", "virgin", "--", *argv)

    def preflight(
        self, *models: Any, fails: bool = False, **variables: Any
    ) -> tuple[str, Any, float]:
        """Run preflight for instances of these models.

        Returns:
            What it printed without its lines' ends, its document, and its seconds.
        """
        instances = [
            {
                "name": f"m{number}",
                "port": 8000 + number,
                "gpu_memory_utilization": round(0.85 / len(models), 3),
                **({"model": model} if isinstance(model, str) else model),
            }
            for number, model in enumerate(models)
        ]
        given = {
            "vllm": {
                "hosts": {"virgin": None},
                "vars": {
                    "vllm_instances": instances,
                    "vllm_model_endpoint": self.hub.url,
                    "vllm_preflight_json": str(self.directory / "document.json"),
                    **variables,
                },
            }
        }
        (self.directory / "inventory" / "groups.yml").write_text(json.dumps(given))
        began = time.monotonic()
        done = subprocess.run(
            [
                f"{sys.prefix}/bin/ansible-playbook",
                *("-i", str(self.directory / "inventory"), "playbooks/preflight.yml"),
            ],
            cwd=ROOT,
            env={"PATH": os.environ["PATH"], "HOME": str(self.directory), "LANG": "C.UTF-8"},
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            check=False,
        )
        seconds = time.monotonic() - began
        assert (done.returncode != 0) == fails, done.stdout + done.stderr
        assert TOKEN not in done.stdout + done.stderr
        document = json.loads((self.directory / "document.json").read_text())
        return " ".join(done.stdout.split()), document, seconds


def spent(hub: Hub) -> float:
    """Seconds from the first question to the hub to the last."""
    moments = [request.moment for request in hub.log]
    return max(moments) - min(moments)


@pytest.fixture(scope="module")
def virgin() -> Iterator[Virgin]:
    """The host, which the tests of this file share, and none of them changes."""
    with tempfile.TemporaryDirectory(prefix="virgin-", dir="/var/tmp") as directory:
        patch = pytest.MonkeyPatch()
        # The hash of a hole would be that of a thousand million zeros.
        patch.setattr(
            File,
            "_hash",
            lambda file, hasher: (hasher.update(str(file).encode()), hasher.hexdigest())[1],
        )
        try:
            virgin = Virgin(Path(directory))
            with virgin.hub:
                yield virgin
        finally:
            patch.undo()
            environment = {**os.environ, "TESTHOSTS_STATE": f"{directory}/state"}
            subprocess.run([sys.executable, str(TOOL), "clean"], env=environment, check=False)


@pytest.fixture(autouse=True)
def only_small_files_come(virgin: Virgin) -> Iterator[None]:
    """Shows by the hub's log that no weights were asked for, and that nothing is written.

    Of Mistral's own format, which the Hub does not count, the header is read.
    """
    virgin.hub.clear_log()
    virgin.hub.faults.clear()
    yield
    asked = {one.path for one in virgin.hub.log if one.path.endswith(WEIGHTS)}
    assert asked <= {"consolidated.safetensors"}
    assert virgin.hub.sent("consolidated.safetensors") <= HEADER_GUESS
    assert virgin.hub.sent() < 50_000 + HEADER_GUESS
    assert virgin("sh", "-c", "ls -A /opt /var/lib/vllm /etc/vllm 2>/dev/null; true").split() == [
        "/opt:"
    ]


def test_two_lines_are_planned_whole(virgin: Virgin) -> None:
    shown, document, _seconds = virgin.preflight("org/good")
    plan = document["plan"]["instances"][0]
    commit = virgin.hub.store.repositories["org/good"].resolve("main")
    assert plan["model"]["commit"] == commit
    assert plan["model"]["known"] == "hub"
    assert plan["model"]["download_bytes"] > 16_380_000_000
    assert plan["memory"]["weights_bytes"] == 16_380_000_000
    # 36 layers of 8 key-value heads of 128 elements of 2 bytes, keys and values.
    assert plan["memory"]["kv_cache_bytes_per_token"] == 2 * 36 * 8 * 128 * 2
    assert plan["dtype"] == "bfloat16"
    assert plan["config"]["max-model-len"] < 40960
    assert plan["config"]["model"].endswith(f"/models--org--good/snapshots/{commit}")
    assert f"org/good at {commit[:12]}, 16.4 GB to download" in shown
    assert any(
        "models to fetch" in what for disk in document["plan"]["disks"] for what in disk["for"]
    )
    # One question about the repository, and its small files.
    assert len([one for one in virgin.hub.log if one.route == "info"]) == 1
    assert len(virgin.hub.log) <= 1 + 2 * 3


def test_what_cannot_be_served_is_refused_within_seconds(virgin: Virgin) -> None:
    shown, document, seconds = virgin.preflight(
        {"model": "org/large"},
        {"model": "org/hybrid"},
        {"model": "org/gated"},
        {"model": "org/missing"},
        {"model": "org/good", "revision": "v9"},
        {"model": "org/adapter"},
        {"model": "org/gguf"},
        {"model": "org/mistral"},
        {"model": "org/original"},
        {"model": "org/unknown"},
        fails=True,
    )
    found = {(problem["where"], problem["code"]) for problem in document["problems"]}
    place = "vllm_instances[{}].{}".format
    codes = {
        0: "weights-do-not-fit",
        1: "weights-do-not-fit",
        2: "model-gated",
        3: "model-not-found",
        5: "model-adapter",
        6: "model-no-weights",
        7: "model-no-config",
        8: "model-no-weights",
        9: "architecture-unknown",
    }
    assert {(place(number, "model"), code) for number, code in codes.items()} <= found
    assert (place(4, "revision"), "revision-not-found") in found
    for text in (
        "Ask for access at".lower(),
        "there is no model org/missing",
        "set model: org/good, and lora: {",
        "use the model that it was made from: model: org/good",
        "config_format: mistral",
        "consolidated.00.pth",
        "Qwen9MoonForCausalLM",
    ):
        assert text in shown, text
    # Seconds are told and not judged: they are the machine's, which has other work. What is asked
    # of the hub is what makes a refusal quick.
    print(f"10 refusals: {seconds:.1f} s, {spent(virgin.hub):.1f} s of them at the hub")
    assert len(virgin.hub.log) <= len(MODELS) * (1 + 2 * 4)


@pytest.mark.parametrize(
    ("model", "code", "remedy"),
    [
        ("org/large", "weights-do-not-fit", "smaller or quantized model"),
        ("org/unknown", "architecture-unknown", "choose another model"),
        ("org/gated", "model-gated", "vllm_model_token"),
        ("org/adapter", "model-adapter", "set model: org/good, and lora: {adapter: org/adapter}"),
    ],
)
def test_each_alone_with_its_remedy(virgin: Virgin, model: str, code: str, remedy: str) -> None:
    shown, document, seconds = virgin.preflight(model, fails=True)
    print(f"{model}: {seconds:.1f} s, {spent(virgin.hub):.1f} s of them at the hub")
    # How much room the disk has is the machine's.
    problems = [one for one in document["problems"] if one["code"] != "disk-space"]
    assert len(problems) == 1, problems
    (problem,) = problems
    assert problem["code"] == code
    assert remedy in problem["remedy"]
    assert problem["remedy"] in shown
    assert len(virgin.hub.log) <= 1 + 2 * 4


def test_a_token_without_access_and_one_with_it(virgin: Virgin) -> None:
    _shown, document, seconds = virgin.preflight("org/gated", fails=True, vllm_model_token=STRANGER)
    (problem,) = document["problems"]
    assert problem["code"] == "model-gated"
    assert "has not been granted access" in problem["message"]
    print(f"a gated model: {seconds:.1f} s")
    _shown, document, _seconds = virgin.preflight("org/gated", vllm_model_token=TOKEN)
    assert document["plan"]["instances"][0]["model"]["known"] == "hub"
    _shown, document, _seconds = virgin.preflight("org/gated", fails=True, vllm_model_token="hf_x")
    assert [problem["where"] for problem in document["problems"]] == ["vllm_model_token"]


def test_without_a_hub_it_is_said_and_nothing_is_held_up(virgin: Virgin) -> None:
    nowhere = virgin.hub.url.rpartition(":")[0] + ":9"
    shown, document, _seconds = virgin.preflight("org/good", vllm_model_endpoint=nowhere)
    assert document["plan"]["instances"][0]["memory"] is None
    assert document["plan"]["instances"][0]["model"]["known"] is None
    assert f"{nowhere} could not be asked what it is" in shown
    assert "the plan is made again when it is there" in shown
    virgin.hub.faults.order("stall", route="info", seconds=60)
    _shown, document, seconds = virgin.preflight("org/good")
    assert "model-not-on-host" in [note["code"] for note in document["notes"]]
    assert seconds < 60, "the hub's stall was waited for"
