# Copyright: (c) 2026, compute_plane.vllm contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Programs that talk to OpenAI's API ask the real server, with the settings that are written."""

from __future__ import annotations

import json
import os
import re
import shutil
import socket
import subprocess
from collections.abc import Sequence
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
# Runs a program with the variables of a file.
WITH_SETTINGS = 'set -a; . "$1"; set +a; shift; exec "$@"'
QUESTION = "What is the capital of France?"


# Open WebUI's own interface, as its page uses it: whoever comes first signs in without a password
# where WEBUI_AUTH is false. https://docs.openwebui.com/reference/api-endpoints
OPEN_WEBUI = """
import json, os, subprocess, sys, time, urllib.request

def ask(path, body=None, token=""):
    request = urllib.request.Request(
        f"http://127.0.0.1:{PORT}{path}",
        json.dumps(body).encode() if body else None,
        {"Content-Type": "application/json", "Authorization": f"Bearer {token}"})
    return json.load(urllib.request.urlopen(request, timeout=120))

PORT = sys.argv[2]
server = subprocess.Popen(
    [sys.argv[1], "serve", "--host", "127.0.0.1", "--port", PORT], stdout=sys.stderr)
try:
    for _second in range(120):
        if server.poll() is not None:
            sys.exit("Open WebUI has ended")
        try:
            ask("/health")
            break
        except OSError:
            time.sleep(1)
    token = ask("/api/v1/auths/signin", {"email": "", "password": ""})["token"]
    model = os.environ["DEFAULT_MODELS"]
    assert model in [each["id"] for each in ask("/api/models", token=token)["data"]]
    answer = ask("/api/chat/completions", {
        "model": model, "max_tokens": 32,
        "messages": [{"role": "user", "content": "What is the capital of France?"}]}, token)
    print(answer["choices"][0]["message"]["content"])
finally:
    server.terminate()
    try:
        server.wait(20)
    except subprocess.TimeoutExpired:
        server.kill()
"""


def environment(lock: str) -> Path:
    """The programs of an environment that a lock makes."""
    done = subprocess.run(
        [str(ROOT / "scripts/locked-env"), str(ROOT / "requirements" / lock)],
        stdout=subprocess.PIPE,
        text=True,
        check=True,
    )
    return Path(done.stdout.strip()) / "bin"


@pytest.fixture(scope="session")
def programs() -> Path:
    """The environment that has most of them."""
    return environment("clients.txt")


def answered(box: Box) -> float:
    """How many requests the server has answered whole."""
    page = "http://127.0.0.1:8000/metrics"
    script = f"import urllib.request as u; print(u.urlopen({page!r}).read().decode())"
    said = box("python3", "-c", script)
    rows = re.findall(r"^vllm:request_success_total\{.*\} ([0-9.e+]+)$", said, re.MULTILINE)
    return sum(map(float, rows))


def answer_of(
    box: Box, argv: Sequence[str | Path], tmp_path: Path, path: Path, **variables: str
) -> str:
    """What a program prints, once the server has answered it whole.

    Args:
        box: The host with the server.
        argv: The program; it runs in the folder with the settings of single programs.
        tmp_path: Its home.
        path: Where its own programs are.
        variables: More of its environment.
    """
    folder = box.directory / "clients" / "box-smollm2"
    before = answered(box)
    done = subprocess.run(
        ["sh", "-c", WITH_SETTINGS, "sh", f"{folder}.env", *map(str, argv)],
        # A copy: aider writes beside its settings.
        cwd=shutil.copytree(folder, tmp_path / "settings"),
        env={"PATH": f"{path}:{os.environ['PATH']}", "HOME": str(tmp_path), **variables},
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        timeout=240,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    assert answered(box) > before
    return done.stdout


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
    (tmp_path / "extra-openai-models.yaml").write_text((folder / "llm.yaml").read_text())
    (tmp_path / "keys.json").write_text(json.dumps({"box-smollm2": KEY}))
    said = answer_of(
        box,
        argv,
        tmp_path,
        programs,
        LLM_USER_PATH=str(tmp_path),
        OPENAI_API_KEY=KEY,
        LITELLM_LOCAL_MODEL_COST_MAP="True",  # asks nobody for prices
    )
    # Clients sample as they like, and the model is small: that it answers, not what.
    assert re.search(r"\w{2}", said)


def test_continue_gets_an_answer(box: Box, programs: Path, tmp_path: Path) -> None:
    """Its program for the terminal, which reads what its extensions for editors read."""
    for name in ("package.json", "package-lock.json"):
        shutil.copy(Path(__file__).parent / name, tmp_path)
    subprocess.run(
        ["npm", "ci", "--ignore-scripts"],
        cwd=tmp_path,
        env={**os.environ, "PATH": f"{programs}:{os.environ['PATH']}"},
        check=True,
    )
    said = answer_of(
        box,
        # Without its tools, which this server has no parser for.
        [
            tmp_path / "node_modules/.bin/cn",
            "--config",
            "continue.yaml",
            "--exclude",
            "*",
            "-p",
            QUESTION,
        ],
        tmp_path,
        programs,
        OPENAI_API_KEY=KEY,
        CONTINUE_CLI_AUTO_UPDATED="true",  # asks nobody for a newer one
    )
    assert re.search(r"\w", said)


def test_open_webui_gets_an_answer(box: Box, tmp_path: Path) -> None:
    programs = environment("open-webui.txt")
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    said = answer_of(
        box,
        [
            *("sh", "-c", WITH_SETTINGS, "sh", "./open-webui.env"),
            *(programs / "python", "-c", OPEN_WEBUI, programs / "open-webui", str(port)),
        ],
        tmp_path,
        programs,
        OPENAI_API_KEY=KEY,
        DATA_DIR=str(tmp_path / "data"),
        WEBUI_AUTH="false",
        OFFLINE_MODE="true",
    )
    assert re.search(r"\w{2}", said)


def test_no_key_is_written(box: Box) -> None:
    files = [path for path in (box.directory / "clients").rglob("*") if path.is_file()]
    assert len(files) == 10
    assert [path for path in files if KEY in path.read_text()] == []
