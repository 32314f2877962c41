# Copyright: (c) 2026, compute_plane.vllm contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Programs that talk to OpenAI's API ask the real server, with the settings that are written."""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from .conftest import KEY, ROOT

if TYPE_CHECKING:
    from .conftest import Box

LITELLM = """
import sys, yaml, litellm
settings = yaml.safe_load(open("litellm.yaml"))["model_list"]
answer = litellm.Router(model_list=settings).completion(
    model=settings[0]["model_name"], max_tokens=32,
    messages=[{"role": "user", "content": "What is the capital of France?"}])
print(answer.choices[0].message.content)
"""
OPENAI = """
import os, openai
client = openai.OpenAI()
chunks = client.chat.completions.create(
    model=os.environ["OPENAI_MODEL"], max_tokens=32, stream=True,
    messages=[{"role": "user", "content": "What is the capital of France?"}])
print("".join(chunk.choices[0].delta.content or "" for chunk in chunks if chunk.choices))
"""
QUESTION = "What is the capital of France?"


@pytest.fixture(scope="session")
def programs() -> Path:
    """The environment that has them."""
    done = subprocess.run(
        [str(ROOT / "scripts/locked-env"), str(ROOT / "requirements/clients.txt")],
        stdout=subprocess.PIPE,
        text=True,
        check=True,
    )
    return Path(done.stdout.strip()) / "bin"


def answered(box: Box) -> float:
    """How many requests the server has answered whole."""
    page = "http://127.0.0.1:8000/metrics"
    script = f"import urllib.request as u; print(u.urlopen({page!r}).read().decode())"
    said = box("python3", "-c", script)
    rows = re.findall(r"^vllm:request_success_total\{.*\} ([0-9.e+]+)$", said, re.MULTILINE)
    return sum(map(float, rows))


@pytest.mark.parametrize(
    "argv",
    [
        pytest.param(["python", "-c", OPENAI], id="openai"),
        pytest.param(["python", "-c", LITELLM], id="litellm"),
        pytest.param(["python", "langchain_client.py"], id="langchain"),
        pytest.param(["python", "llama_index_client.py"], id="llama_index"),
        pytest.param(["llm", "--model", "acme/SmolLM2-135M-Instruct", QUESTION], id="llm"),
        pytest.param(
            [
                *(
                    "aider",
                    "--config",
                    "aider.conf.yml",
                    "--edit-format",
                    "ask",
                    "--map-tokens",
                    "0",
                ),
                *("--no-git", "--yes-always", "--no-stream", "--analytics-disable"),
                *("--message", QUESTION),
            ],
            id="aider",
        ),
        pytest.param(["sh", "curl.sh"], id="curl"),
    ],
)
def test_a_client_gets_an_answer(box: Box, programs: Path, tmp_path: Path, argv: list[str]) -> None:
    folder = box.directory / "clients" / "box-smollm2"
    before = answered(box)
    shell = f'set -a; . {folder}.env; set +a; exec "$@"'
    (tmp_path / "extra-openai-models.yaml").write_text((folder / "llm.yaml").read_text())
    (tmp_path / "keys.json").write_text(json.dumps({"box-smollm2": KEY}))
    done = subprocess.run(
        ["sh", "-c", shell, "sh", *argv],
        # A copy: aider writes beside its settings.
        cwd=shutil.copytree(folder, tmp_path / "settings"),
        env={
            "PATH": f"{programs}:{os.environ['PATH']}",
            "HOME": str(tmp_path),
            "LLM_USER_PATH": str(tmp_path),
            "OPENAI_API_KEY": KEY,
            "LITELLM_LOCAL_MODEL_COST_MAP": "True",  # asks nobody for prices
        },
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        timeout=240,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    # Clients sample as they like, and the model is small: that it answers, not what.
    assert re.search(r"\w{2}", done.stdout), done.stderr
    assert answered(box) > before


def test_no_key_is_written(box: Box) -> None:
    files = [path for path in (box.directory / "clients").rglob("*") if path.is_file()]
    assert len(files) == 10
    assert [path for path in files if KEY in path.read_text()] == []
