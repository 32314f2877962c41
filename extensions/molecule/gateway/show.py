#!/usr/bin/env python3
# Copyright: (c) 2026, compute_plane.vllm contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Ask a gateway with OpenAI's client while what stands behind it breaks, and say what became of it.

Ends with 1 at the first thing that is not as it must be.
"""

from __future__ import annotations

import argparse
import csv
import datetime
import json
import ssl
import subprocess
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import httpx
import httpx2
import openai

ALICE, BOB = "key-of-alice-0123456789", "key-of-bob-0123456789"
MODEL, OTHER = "smollm2", "org/other"
QUESTION: Any = [{"role": "user", "content": "What is the capital of France?"}]
STREAMS = 8
"""How many ask at once."""
DETECTION = 5.0
"""Seconds within which a gateway has to know that a server is gone."""


class Wrong(Exception):
    """Something is not as it must be."""


def must(condition: object, what: str) -> None:
    """Go on only where something is so."""
    if not condition:
        raise Wrong(what)


class Hosts:
    """The throwaway hosts, and the playbooks on them."""

    def __init__(self, given: argparse.Namespace) -> None:
        self.given = given

    def run(self, host: str, *command: str, check: bool = True) -> str:
        """Run something on a host."""
        argv = [self.given.testhosts, "exec", host, "--", *command]
        return subprocess.run(argv, stdout=subprocess.PIPE, text=True, check=check).stdout

    def play(self, playbook: str, check: bool = True, **variables: Any) -> str:
        """Run one of our playbooks as a user does."""
        argv = ["ansible-playbook", f"{self.given.playbooks}/{playbook}", *self.given.inventory]
        argv += ["--extra-vars", json.dumps(variables)]
        done = subprocess.run(
            argv, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, check=False
        )
        must((done.returncode == 0) == check, f"{playbook}: {done.stdout[-3000:]}")
        return done.stdout

    def status(self, server: str) -> str:
        """How the gateway sees a server of the model."""
        code = (
            "import socket; s = socket.socket(socket.AF_UNIX);"
            "s.connect('/run/vllm-gateway/admin.sock');"
            "s.sendall(b'show stat\\n'); print(b''.join(iter(lambda: s.recv(65536), b'')).decode())"
        )
        text = self.run("gateway-front", "python3", "-c", code)
        rows = csv.DictReader(text.lstrip("# ").splitlines())
        return next(
            row["status"]
            for row in rows
            if (row["pxname"], row["svname"]) == (f"model:{MODEL}", f"{server}:{MODEL}")
        )

    def wait(self, server: str, wanted: str, seconds: float) -> float:
        """Wait until the gateway sees a server so; returns the seconds it took."""
        began = time.monotonic()
        while not self.status(server).startswith(wanted):
            must(time.monotonic() - began < seconds, f"{server} is not {wanted} after {seconds} s")
            time.sleep(0.1)
        return time.monotonic() - began


class Load:
    """Streams without a pause, each from a thread with a client of its own, without its retries."""

    def __init__(self, connect: Callable[..., openai.OpenAI]) -> None:
        self.connect = connect
        self.stopping = threading.Event()
        self.outcomes: list[tuple[float, float, str]] = []
        self.threads = [threading.Thread(target=self.run) for _each in range(STREAMS)]

    def run(self) -> None:
        """Ask until it is over."""
        with self.connect(ALICE) as client:
            while not self.stopping.is_set():
                began = time.monotonic()
                try:
                    last = None
                    for part in client.chat.completions.create(
                        model=MODEL, messages=QUESTION, max_tokens=24, temperature=0, stream=True
                    ):
                        last = part.choices[0].finish_reason if part.choices else last
                    outcome = "answered" if last else "a stream without an end"
                except (openai.OpenAIError, httpx2.HTTPError, OSError) as problem:
                    outcome = f"{type(problem).__name__}: {problem} ({problem.__cause__!r})"
                self.outcomes.append((began, time.monotonic(), outcome))
                if outcome != "answered":
                    time.sleep(0.2)

    def __enter__(self) -> Load:
        for thread in self.threads:
            thread.start()
        time.sleep(2)
        return self

    def __exit__(self, *_what: object) -> None:
        time.sleep(2)
        self.stopping.set()
        for thread in self.threads:
            thread.join()

    def failed(self, since: float = 0.0) -> list[str]:
        """What failed of those that were begun at a time or later."""
        return [
            what for began, _end, what in self.outcomes if what != "answered" and began >= since
        ]

    def say(self, what: str) -> None:
        """Say how many were answered."""
        print(f"{what}: {len(self.outcomes)} requests, {len(self.failed())} failed", flush=True)


class Show:
    """All that is shown, in order."""

    def __init__(self, given: argparse.Namespace) -> None:
        self.given = given
        self.hosts = Hosts(given)
        self.url = f"https://{given.address}"
        self.context = ssl.create_default_context(cafile=given.ca)

    def connect(self, key: str, **options: Any) -> openai.OpenAI:
        """OpenAI's client."""
        return openai.OpenAI(
            base_url=f"{self.url}/v1",
            api_key=key,
            max_retries=0,
            timeout=120,
            http_client=httpx2.Client(verify=self.context, timeout=120),
            **options,
        )

    def refused(self) -> None:
        """What no client gets."""
        for key in ("wrong", f"{ALICE}x"):
            with self.connect(key) as client:
                try:
                    client.models.list()
                except openai.AuthenticationError as problem:
                    must(problem.code == "invalid_api_key", str(problem))
                else:
                    raise Wrong(f"the key {key} was taken")
        with httpx.Client(verify=self.context, base_url=self.url) as anybody:
            must(anybody.get("/v1/models").status_code == 401, "no key was needed")
            anybody.headers["authorization"] = f"Bearer {ALICE}"
            for path in ("/metrics", "/tokenize", "/version", "/v1/load_lora_adapter", "/docs"):
                must(anybody.get(path).status_code == 404, f"{path} is reached")
        with self.connect(ALICE) as client:
            try:
                client.chat.completions.create(
                    model=MODEL, messages=[{"role": "user", "content": "x" * (1 << 20)}]
                )
            except openai.APIStatusError as problem:
                must(problem.status_code == 413, str(problem))
                must(problem.code == "request_too_large", str(problem))
            else:
                raise Wrong("a body of more than 1 MiB was taken")
            try:
                client.chat.completions.create(model="nothing", messages=QUESTION)
            except openai.NotFoundError as problem:
                must(problem.code == "model_not_found", str(problem))
            else:
                raise Wrong("there is a model of any name")
        print("refused: no key, wrong keys, other paths, a large body, an unknown model")

    def answered(self) -> None:
        """What a client gets, of each model, as a stream and whole."""
        with self.connect(BOB) as client:
            names = {model.id for model in client.models.list()}
            must(names == {MODEL, OTHER}, f"{names}")
            for model in (MODEL, OTHER):
                # Much before the model's name, and more than the model takes.
                try:
                    client.chat.completions.create(
                        model=model, messages=[{"role": "user", "content": "long " * 20_000}]
                    )
                except openai.BadRequestError as problem:
                    must("context length" in str(problem), str(problem))
                else:
                    raise Wrong("a prompt of 20000 words was answered")
                whole = client.chat.completions.create(
                    model=model, messages=QUESTION, max_tokens=24, temperature=0
                )
                must("Paris" in (whole.choices[0].message.content or ""), str(whole))
                parts = client.chat.completions.create(
                    model=model,
                    messages=QUESTION,
                    max_tokens=24,
                    temperature=0,
                    stream=True,
                    stream_options={"include_usage": True},
                )
                text = "".join(p.choices[0].delta.content or "" for p in parts if p.choices)
                must("Paris" in text, text)
        print("answered: both models, whole and streamed")

    def revoked(self) -> None:
        """A key is taken away while others' streams go on; no server is restarted."""
        before = self.starts()
        with Load(self.connect) as load:
            keys = [{"name": "alice", "key": ALICE}]
            self.hosts.play("gateway.yml", keys_of_all=json.dumps(keys))
            with self.connect(BOB) as client:
                try:
                    client.models.list()
                except openai.AuthenticationError:
                    pass
                else:
                    raise Wrong("a key that was taken away is taken")
        must(not load.failed(), str(load.failed()))
        must(self.starts() == before, "a server was restarted")
        load.say("a key taken away, with a reload")
        said = self.hosts.play("gateway.yml", keys_of_all=json.dumps(keys))
        must("changed=0" in said, said[-500:])

    def starts(self) -> list[str]:
        """When the servers have started."""
        show = ("systemctl", "show", "--property=ExecMainStartTimestamp", "vllm@smollm2")
        return [self.hosts.run(host, *show) for host in ("gateway-a", "gateway-b")]

    def killed(self) -> None:
        """A server's processes are killed."""
        with Load(self.connect) as load:
            self.hosts.run("gateway-a", "systemctl", "kill", "--signal=KILL", "vllm@smollm2")
            at = time.monotonic()
            down = self.hosts.wait("gateway-a", "DOWN", DETECTION + 2)
            time.sleep(3)
        self.judge(load, at, f"killed, out after {down:.1f} s")
        self.hosts.wait("gateway-a", "UP", 180)

    def hung(self) -> None:
        """A server's engine stands still, and the supervisor sees it long before it ends it."""
        with Load(self.connect) as load:
            # The engine is the unit's process with that title.
            find = "pgrep -f VLLM::EngineCore"
            pid = self.hosts.run("gateway-b", "sh", "-c", find).split()[0]
            self.hosts.run("gateway-b", "kill", "-STOP", pid)
            at = time.monotonic()
            down = self.hosts.wait("gateway-b", "DOWN", DETECTION + 2)
            time.sleep(2)
            told = time.monotonic()
            # Its requests end when the supervisor ends the server.
            self.hosts.wait("gateway-b", "UP", 240)
        after = load.failed(since=at + max(down, DETECTION))
        must(not after, f"failed though begun after it was out: {after}")
        must(len(load.failed()) <= STREAMS, str(load.failed()))
        load.say(f"hung, out after {down:.1f} s, up again {time.monotonic() - told:.0f} s later")

    def rebooted(self) -> None:
        """A host reboots."""
        with Load(self.connect) as load:
            self.hosts.run("gateway-a", "systemctl", "reboot", check=False)
            at = time.monotonic()
            down = self.hosts.wait("gateway-a", "DOWN", 30)
            time.sleep(2)
        self.judge(load, at, f"rebooted, out after {down:.1f} s")
        self.hosts.wait("gateway-a", "UP", 240)

    def judge(self, load: Load, at: float, what: str) -> None:
        """At most the streams that were under way fail, and none begun after the window."""
        after = load.failed(since=at + DETECTION)
        must(
            not after, f"{what}; failed though begun {DETECTION} s after: {after}; {self.broken()}"
        )
        must(len(load.failed()) <= STREAMS, f"{load.failed()}; {self.broken()}")
        load.say(what)

    def broken(self) -> str:
        """What the gateway's log has of the last requests that were not answered in full."""
        log = self.hosts.run("gateway-front", "journalctl", "--unit=vllm-gateway", "--output=cat")
        rows = (json.loads(line) for line in log.splitlines() if line.startswith("{"))
        broken = [row for row in rows if row["ended"] != "--" or row["status"] >= 500]
        names = ("at", "status", "server", "first_byte_ms", "total_ms", "ended", "retries")
        return "; ".join(str({name: row[name] for name in names}) for row in broken[-8:])

    def rolling(self) -> None:
        """Both servers are changed, then restarted, one after the other."""
        began = self.starts()
        with Load(self.connect) as load:
            self.hosts.play("rolling.yml", context=1000)
        must(not load.failed(), str(load.failed()))
        load.say("a change of both, one after the other")
        changed = self.starts()
        must(
            all(one != other for one, other in zip(began, changed, strict=True)),
            "not all were changed",
        )
        with Load(self.connect) as load:
            variables: Any = {
                "vllm_restart_rolling": True,
                "vllm_restart_instances": [MODEL],
            }
            self.hosts.play("rolling.yml", context=1000, **variables)
        must(not load.failed(), str(load.failed()))
        load.say("a restart of both, one after the other")
        restarted = self.starts()
        must(
            all(one != other for one, other in zip(changed, restarted, strict=True)),
            "not all were restarted",
        )

    def last(self) -> None:
        """The only server of a model is not taken out by a rolling run."""
        before = self.starts()
        variables: Any = {"vllm_restart_rolling": True, "vllm_restart_instances": ["other"]}
        said = self.hosts.play(
            "rolling.yml", check=False, context=1000, vllm_hosts="gateway-b", **variables
        )
        must("nobody would serve model:org_other" in " ".join(said.split()), said[-2000:])
        must(self.starts() == before, "something was restarted")
        print("refused: to restart the only server of a model in a rolling run")

    def used(self) -> None:
        """The table of who used what."""
        self.hosts.play("usage.yml")
        text = Path(self.given.usage, "gateway-front-usage.csv").read_text(encoding="utf-8")
        rows = {(row["key"], row["model"]): row for row in csv.DictReader(text.splitlines())}
        bob = rows["bob", OTHER]
        # One prompt that is too long, one answer whole and one as a stream, both with their tokens.
        must((bob["requests"], bob["failed"], bob["without_tokens"]) == ("3", "1", "0"), str(bob))
        must(int(bob["prompt_tokens"]) > 20 and int(bob["completion_tokens"]) > 10, str(bob))
        today = f"{datetime.datetime.now(datetime.UTC):%Y-%m-%d}"
        must({row["day"] for row in rows.values()} <= {today, bob["day"]}, text)
        must("France" not in text and ALICE not in text, text)
        log = self.hosts.run("gateway-front", "journalctl", "--unit=vllm-gateway", "--output=cat")
        must("France" not in log and ALICE not in log, "the log has prompts or keys")
        print(text)


def main() -> None:
    """Show all of it."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    for name in ("address", "ca", "usage", "testhosts", "playbooks"):
        parser.add_argument(f"--{name}", required=True)
    parser.add_argument("--only", nargs="*")
    parser.add_argument("--inventory", action="append", required=True)
    given = parser.parse_args()
    given.inventory = [f"--inventory={one}" for one in given.inventory]
    show = Show(given)
    steps = (
        "refused",
        "answered",
        "revoked",
        "killed",
        "hung",
        "rebooted",
        "rolling",
        "last",
        "used",
    )
    for step in given.only or steps:
        began = time.monotonic()
        getattr(show, step)()
        print(f"  {step}: {time.monotonic() - began:.0f} s", flush=True)


if __name__ == "__main__":
    main()
