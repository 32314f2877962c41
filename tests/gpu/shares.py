# Copyright: (c) 2026, compute_plane.vllm contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Models on demand that take turns on one GPU: supervisors and broker as units run them."""

from __future__ import annotations

import contextlib
import fcntl
import json
import os
import socket
import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
from typing import Any

from server import FOLDER, Server
from steps import Context, Gpu, broker_figures, used_by

# systemd gives a service its sockets from file descriptor 3 on, and their names.
_BROKER = (
    "import os, sys; fds, names = sys.argv.pop(1).split(), sys.argv.pop(1);"
    "[os.dup2(int(fd), 3 + place) for place, fd in enumerate(fds)];"
    "os.environ.update(LISTEN_PID=str(os.getpid()), LISTEN_FDS=str(len(fds)),"
    " LISTEN_FDNAMES=names);"
    f"sys.path.insert(0, {str(FOLDER)!r}); from supervisor.main import main; sys.exit(main())"
)


@contextlib.contextmanager
def share(context: Context, servers: Sequence[Server]) -> Iterator[None]:
    """A broker for servers of which one fits at a time, whatever the GPU's size."""
    config = context.work / "share"
    config.mkdir(exist_ok=True)
    with contextlib.ExitStack() as stack:
        fds = []
        for server in servers:
            told = dict(server.plan["on_demand"])
            # A server on the CPU ignores sleep, and says so: then only the way is tried.
            held = told.setdefault("asleep", dict.fromkeys(told["size"], 0))
            told["room"] = {key: size + held[key] for key, size in told["size"].items()}
            told |= {"name": server.name, "share": "measured", "uds": server.config["uds"]}
            told |= {"served_model_name": server.served_model_name, "max_model_len": None}
            (config / f"{server.name}.demand.json").write_text(json.dumps(told))
            given = stack.enter_context(socket.socket())
            given.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            given.bind(("127.0.0.1", server.port))
            given.listen(64)
            fds.append(fcntl.fcntl(given.fileno(), fcntl.F_DUPFD, 50))
            stack.callback(os.close, fds[-1])
        command = [sys.executable, "-c", _BROKER, " ".join(map(str, fds))]
        command += [":".join(server.name for server in servers), "broker", "--share=measured"]
        command += [f"--config-dir={config}", f"--run-dir={context.work / 'servers'}"]
        process = subprocess.Popen([*command, "--residence=0", "--linger=0"], pass_fds=fds)
        try:
            yield
        finally:
            process.terminate()
            process.wait(40)
            for file in config.iterdir():
                file.unlink()


def _memory(awake: Server, away: Server) -> dict[str, int]:
    """Bytes of GPU memory that both take."""
    return {"awake_bytes": used_by(awake.pids(".")), "away_bytes": used_by(away.pids("."))}


def demand(context: Context, gpu: Gpu) -> dict[str, Any]:
    """Two models of the shape take turns at level 1, at level 2, and by stop and start."""
    result: dict[str, Any] = {}
    for level in (1, 2, 0):
        row: dict[str, Any] = {"turns": []}
        answers: dict[str, list[int]] = {}
        with contextlib.ExitStack() as stack:
            servers = []
            for number, name in enumerate(("demand-a", "demand-b")):
                instance = context.instance(
                    gpu,
                    model=str(context.model("random")),
                    name=name,
                    port=18060 + 2 * gpu.index + number,
                    attention_backend="TRITON_ATTN",
                    on_demand=True,
                    share="measured",
                    sleep_level=level,
                )
                servers.append(
                    stack.enter_context(context.serve(f"{name}-{level}", instance, caches="starts"))
                )
                servers[-1].start()
            stack.enter_context(share(context, servers))
            # The first turn of each is a start.
            for turn in range(6 if level else 4):
                server, away = servers[turn % 2], servers[1 - turn % 2]
                began = time.monotonic()
                server.complete(1, timeout=context.left(600))
                seconds = round(time.monotonic() - began, 3)
                answer = server.complete(32)
                row["turns"].append(
                    {
                        "first_token_seconds": seconds,
                        "same_answer": answers.setdefault(server.name, answer) == answer,
                        **(_memory(server, away) if gpu.uuid else {}),
                    }
                )
            row["figures"] = [broker_figures(one.request("/metrics")) for one in servers]
        result[f"level_{level}"] = row
        context.keep(result)
    turns = [turn for row in result.values() for turn in row["turns"]]
    falls = [
        one.get("sleep_fall_backs_total", 0) for row in result.values() for one in row["figures"]
    ]
    if not all(turn["same_answer"] for turn in turns) or any(falls):
        result["failed"] = "an answer after sleep is another one, or a server was stopped instead"
    return result
