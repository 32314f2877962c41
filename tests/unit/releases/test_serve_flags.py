# Copyright: (c) 2026, compute_plane.vllm contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""scripts/serve-flags: how an argparse parser becomes data."""

from __future__ import annotations

import argparse
import json
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import pytest

if TYPE_CHECKING:
    from types import ModuleType


def optional_type(return_type: Callable[[str], Any]) -> Callable[[str], Any]:
    """As in vllm 0.14.1, vllm/engine/arg_utils.py."""

    def _optional_type(val: str) -> Any:
        return None if val in ("", "None") else return_type(val)

    return _optional_type


def union_dict_and_str(val: str) -> Any:
    return json.loads(val) if val.startswith("{") else val


@pytest.mark.parametrize(
    ("options", "expected"),
    [
        ({"action": "store_true"}, {"kind": "bool"}),
        ({"action": argparse.BooleanOptionalAction}, {"kind": "bool", "negatable": True}),
        ({}, {"kind": "str"}),
        ({"type": str}, {"kind": "str"}),
        ({"type": int}, {"kind": "int"}),
        ({"type": float}, {"kind": "float"}),
        ({"type": json.loads}, {"kind": "json"}),
        ({"type": optional_type(int)}, {"kind": "int"}),
        ({"type": optional_type(optional_type(json.loads))}, {"kind": "json"}),
        ({"type": optional_type(str), "nargs": "+"}, {"kind": "list"}),
        ({"type": str, "nargs": "?"}, {"kind": "str"}),
        ({"type": union_dict_and_str, "default": {}}, {"kind": "json"}),
        ({"type": union_dict_and_str, "default": "cpu"}, {"kind": "str"}),
        ({"type": int, "choices": [16, 1]}, {"kind": "int", "choices": [16, 1]}),
    ],
)
def test_value_kinds(
    serve_flags_program: ModuleType, options: dict[str, Any], expected: dict[str, Any]
) -> None:
    parser = argparse.ArgumentParser(add_help=False)
    parser.add_argument("model_tag", nargs="?")
    parser.add_argument("--some-flag", "-s", **options)
    assert serve_flags_program.describe(parser._actions) == {"some-flag": expected}


def test_unknown_converter_is_refused(serve_flags_program: ModuleType) -> None:
    parser = argparse.ArgumentParser(add_help=False)
    parser.add_argument("--some-flag", type=complex)
    with pytest.raises(ValueError, match="--some-flag: what does the converter complex take"):
        serve_flags_program.describe(parser._actions)


SERVES = [
    *("attention-backend", "host", "max-model-len", "model", "port"),
    *("reasoning-parser", "served-model-name", "tool-call-parser"),
]


def test_flags_of_vllm_serve_are_taken(serve_flags_program: ModuleType) -> None:
    serve_flags_program.check_whose([*SERVES, "seed"])


def test_another_programs_flags_are_refused(serve_flags_program: ModuleType) -> None:
    # `vllm run-batch` of 0.32.0 has a make_arg_parser too, beside that of `vllm serve`.
    of_run_batch = sorted({*SERVES, "input-file", "output-file"} - {"port"})
    with pytest.raises(ValueError, match=r"not the parser of `vllm serve`: it has no --port$"):
        serve_flags_program.check_whose(of_run_batch)
