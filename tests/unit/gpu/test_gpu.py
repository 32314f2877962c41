# Copyright: (c) 2026, compute_plane.vllm contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""tests/gpu: what is left of a library's GPU code, what a trace comes to, what a log tells."""

from __future__ import annotations

import json
import struct
import sys
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).parents[2] / "gpu"))

import fatbin
import machine
import profiles

PTX, ELF = 1, 2


def entry(kind, architecture, code):
    """One entry of a fat binary: 64 bytes of header, then the code."""
    header = struct.pack("<HHIQ", kind, 0x101, 64, len(code)).ljust(28, b"\0")
    return (header + struct.pack("<I", architecture)).ljust(64, b"\0") + code


def fat(*entries):
    body = b"".join(entries)
    return struct.pack("<IHHQ", 0xBA55ED50, 1, 16, len(body)) + body


@pytest.mark.parametrize(
    ("group", "kept"),
    [
        pytest.param([(ELF, 80), (ELF, 90), (PTX, 90)], [(ELF, 90)], id="its own code"),
        pytest.param([(ELF, 80), (PTX, 80), (PTX, 100)], [(PTX, 80)], id="PTX where there is none"),
        pytest.param([(ELF, 100), (ELF, 120)], [], id="nothing for it"),
    ],
)
def test_what_a_capability_keeps(group, kept):
    parts = [entry(kind, number, bytes([number]) * 40) for kind, number in group]
    data = bytearray(b"\x7fELF and more" + fat(*parts) + b"rest")
    before = bytes(data)
    blanked = fatbin.blank(data, 90)
    assert len(data) == len(before)
    assert data.endswith(b"rest")
    assert blanked == 40 * (len(group) - len(kept))
    for one in fatbin.entries(before)[0]:
        here = (PTX if one.ptx else ELF, one.architecture)
        code = bytes(data[one.start : one.start + one.size])
        assert code == (bytes([one.architecture]) * 40 if here in kept else bytes(40))


def test_older_minor_versions_run_on_newer_ones():
    data = bytearray(
        fat(entry(ELF, 80, b"a" * 8), entry(ELF, 86, b"b" * 8), entry(ELF, 89, b"c" * 8))
    )
    fatbin.blank(data, 86)
    assert b"aaaaaaaa" in data
    assert b"bbbbbbbb" in data
    assert b"cccccccc" not in data


def test_several_fat_binaries_and_none():
    assert fatbin.entries(b"no GPU code at all") == []
    assert len(fatbin.entries(fat(entry(ELF, 90, b"x")) + b"..." + fat(entry(PTX, 75, b"y")))) == 2


def test_a_number_that_only_looks_like_one():
    data = bytearray(struct.pack("<IHHQ", 0xBA55ED50, 1, 16, 1 << 40) + b"short")
    assert fatbin.blank(data, 90) == 0


def kernel(name, begin, length):
    return {"ph": "X", "cat": "kernel", "name": name, "ts": begin, "dur": length}


def test_a_steps_parts():
    events = [
        kernel("nvjet_sm90_hsh_384x8", 0, 60),
        kernel("kernel_unified_attention", 60, 10),
        {"ph": "X", "cat": "cpu_op", "name": "nvjet, says the CPU", "ts": 0, "dur": 500},
        kernel("nvjet_sm90_hsh_384x8", 100, 60),
        kernel("triton_red_fused_add_rms_norm_0", 150, 30),  # 10 of it beside the other
    ]
    found = profiles.summarise(events, 2)
    assert found["step_us"] == 90
    assert found["idle_us"] == 15
    assert found["kinds_us"] == {"attention": 5, "fused": 15, "matmul": 60}
    assert found["largest"][0]["times"] == 1


def test_a_trace_without_kernels():
    assert profiles.summarise([{"ph": "X", "cat": "cpu_op", "ts": 0, "dur": 1}], 4)["kernels"] == 0


def test_the_model_takes_the_place_of_its_weights(tmp_path):
    source = tmp_path / "source"
    source.mkdir()
    words = {"model": {"vocab": {"a": 0, "b": 1}}, "added_tokens": [{"id": 2, "content": "<end>"}]}
    (source / "tokenizer.json").write_text(json.dumps(words))
    (source / "tokenizer_config.json").write_text("{}")
    machine.make_model(tmp_path / "model", "tiny", source)
    weights = tmp_path / "model" / "model.safetensors"
    with weights.open("rb") as stream:
        size = int.from_bytes(stream.read(8), "little")
        header = json.loads(stream.read(size))
    ends = [one["data_offsets"][1] for name, one in header.items() if name != "__metadata__"]
    assert weights.stat().st_size == 8 + size + max(ends)
    assert weights.stat().st_blocks * 512 < 1 << 20
    vocabulary = json.loads((tmp_path / "model" / "tokenizer.json").read_text())["model"]["vocab"]
    assert {*vocabulary.values(), 2} == set(range(152064))


def test_weights_over_several_files(tmp_path):
    source = tmp_path / "source"
    source.mkdir()
    words = {"model": {"vocab": {"a": 0}}, "added_tokens": []}
    (source / "tokenizer.json").write_text(json.dumps(words))
    (source / "tokenizer_config.json").write_text("{}")
    machine.make_model(tmp_path / "model", "qwen2.5-7b", source, files=4)
    index = json.loads((tmp_path / "model" / "model.safetensors.index.json").read_text())
    assert set(index["weight_map"]) == set(machine.tensors(machine.QWEN))
    assert index["metadata"]["total_size"] == 15231233024
    found = {}
    for path in sorted((tmp_path / "model").glob("*.safetensors")):
        with path.open("rb") as stream:
            size = int.from_bytes(stream.read(8), "little")
            header = json.loads(stream.read(size))
        names = {name: one for name, one in header.items() if name != "__metadata__"}
        assert path.stat().st_size == 8 + size + max(e["data_offsets"][1] for e in names.values())
        found.update(dict.fromkeys(names, path.name))
    assert found == index["weight_map"]
    assert len(set(found.values())) == 4


def test_qwen_has_the_parameters_that_it_has():
    # https://huggingface.co/Qwen/Qwen2.5-7B-Instruct, model.safetensors.index.json: total_size
    count = 0
    for size in machine.tensors(machine.QWEN).values():
        product = 2
        for one in size:
            product *= one
        count += product
    assert count == 15231233024
