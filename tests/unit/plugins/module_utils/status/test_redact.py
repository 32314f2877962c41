# Copyright: (c) 2026, compute_plane.vllm contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ansible_collections.compute_plane.vllm.plugins.module_utils.status.redact import (
    Redactor,
    secrets_in,
)

REDACTOR = Redactor(["s3cr3tvalue"], ["gpu-box", "gpu-box.example.org"], ["alice", "root"])


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("key s3cr3tvalue!", "key SECRET!"),
        ("token=hf_abcdefghijklmnop", "token=SECRET"),
        ("using hf_abcdefghijklmnop now", "using SECRET now"),
        ("'api_key': ['k1-abcdef', 'k2'], 'port': 8000", "'api_key': SECRET, 'port': 8000"),
        ("--api-key mysecretkey --port 8000", "--api-key SECRET --port 8000"),
        ("VLLM_API_KEY=abc123def", "VLLM_API_KEY=SECRET"),
        ("password: hunter2, next", "password: SECRET, next"),
        ("Authorization: Bearer abcdef123456", "Authorization: Bearer SECRET"),
        ("http://bob:pw@proxy.corp:3128/", "http://USER@HOST:3128/"),
        ("-----BEGIN RSA PRIVATE KEY-----\nMIIE\n-----END RSA PRIVATE KEY-----", "SECRET"),
        ("at gpu-box.example.org and GPU-BOX", "at HOST and HOST"),
        ("/home/alice/models and /home/bob/x", "/home/USER/models and /home/USER/x"),
        ("alice@gpu-box:~$ ls", "USER@HOST:~$ ls"),
        ("Aug 17 18:42:18 lab7 vllm[80]: (APIServer", "Aug 17 18:42:18 HOST vllm[80]: (APIServer"),
        ("lab7:1201:1201 [0] NCCL WARN a", "HOST:1201:1201 [0] NCCL WARN a"),
        ("tcp://10.1.2.3:39423, fd00::2", "tcp://ADDRESS:39423, ADDRESS"),
        ("GPU-8f2b1c34-1111-2222-3333-444455556666", "GPU-UUID"),
    ],
)
def test_it_goes(text: str, expected: str) -> None:
    assert REDACTOR.text(text) == expected


@pytest.mark.parametrize(
    "text",
    [
        "api_key=None, hf_token=None, max_num_batched_tokens=2048, tokenizer='/srv/m'",
        "(EngineCore_DP0 pid=1100) ERROR 11-20 10:15:42 [core.py:936] KeyError: 'a.b'",
        "nvidia-cublas-cu12==12.4.5.8, driver 550.54.15, CUDA 12.8",
        "http://127.0.0.1:8000 and 0.0.0.0, ::1",
        "vllm@chat.service failed, user root",
        "Avg generation throughput: 210.4 tokens/s",
    ],
)
def test_it_stays(text: str) -> None:
    assert REDACTOR.text(text) == text


def test_a_document_is_redacted_by_its_keys_too() -> None:
    document = {"environment": {"HF_TOKEN": "x", "OMP_NUM_THREADS": "4"}, "gpu-box": [1, "alice"]}
    assert REDACTOR.value(document) == {
        "environment": {"HF_TOKEN": "SECRET", "OMP_NUM_THREADS": "4"},
        "HOST": [1, "USER"],
    }


def test_secrets_are_found_in_variables() -> None:
    variables = [
        {"vllm_service_api_keys": {"chat": ["k1", "k2"]}},
        {"vllm_instances": [{"name": "a", "environment": {"MY_API_KEY": "k3", "A": "b"}}]},
        {"ansible_become_password": "k4", "ansible_ssh_pass": "k5"},
    ]
    assert secrets_in(variables) == {"k1", "k2", "k3", "k4", "k5"}


@given(st.text(max_size=200))
def test_any_text_can_be_redacted_and_no_known_secret_is_left(text: str) -> None:
    assert "s3cr3tvalue" not in REDACTOR.text(f"{text}s3cr3tvalue{text}")
