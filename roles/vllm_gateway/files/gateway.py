#!/usr/bin/env python3
# Copyright: (c) 2026, compute_plane.vllm contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Count who used what of a gateway, and keep the states of its servers over a reload.

Usage: gateway.py count [--textfile-dir DIR] | keep-state

`count` reads what the access log has since the last time. The table is
/var/lib/vllm-gateway/usage/usage.csv, a line for each day (UTC), key and model; requests whose
answer told no tokens are counted apart. Prompts and answers are not in the log.
"""

from __future__ import annotations

import argparse
import csv
import datetime
import io
import json
import os
import socket
import subprocess
import tempfile
from collections.abc import Iterable
from typing import Any

UNIT = "vllm-gateway.service"
FOLDER = "/var/lib/vllm-gateway/usage"
STATE_FILE = "/var/lib/vllm-gateway/server-state"
SOCKET = "/run/vllm-gateway/admin.sock"
KEPT_DAYS = 400
COLUMNS = ("requests", "failed", "prompt_tokens", "completion_tokens", "without_tokens")
"""`failed`: answered with an error, or broken off; `without_tokens`: answers that told none."""
Counts = dict[str, dict[str, int]]
"""Numbers by `day key model`; names of keys and models have no spaces."""


def is_complete(entry: dict[str, Any]) -> bool:
    """Whether an answer came to its end: HAProxy says `--`, and the status is of a success."""
    return bool(entry["ended"] == "--" and 200 <= entry["status"] < 300)


def number(text: str) -> int | None:
    """A number of the log; `None` for `-`."""
    return int(text) if text.isdigit() else None


def add(counts: Counts, lines: Iterable[str]) -> None:
    """Add what lines of the access log tell; other lines of the journal are passed over."""
    for line in lines:
        try:
            entry = json.loads(line)
            day = datetime.datetime.fromtimestamp(entry["at"], datetime.UTC)
            if "-" in (entry["key"], entry["model"]):
                continue  # nobody that is known, or for no model
            place = f"{day:%Y-%m-%d} {entry['key']} {entry['model']}"
            prompt, completion = number(entry["prompt_tokens"]), number(entry["completion_tokens"])
            complete = is_complete(entry)
        except (ValueError, LookupError, TypeError):
            continue
        row = counts.setdefault(place, dict.fromkeys(COLUMNS, 0))
        row["requests"] += 1
        row["failed"] += not complete
        row["prompt_tokens"] += prompt or 0
        row["completion_tokens"] += completion or 0
        row["without_tokens"] += complete and prompt is None


def table(counts: Counts) -> str:
    """The counts as CSV."""
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(("day", "key", "model", *COLUMNS))
    for place, row in sorted(counts.items()):
        writer.writerow((*place.split(" "), *(row[column] for column in COLUMNS)))
    return text.getvalue()


def metrics(totals: Counts) -> str:
    """Counters since the first request, in Prometheus's text format.

    Args:
        totals: Numbers by `key model`.
    """
    lines = []
    for column in COLUMNS:
        name = f"vllm_gateway_usage_{column}_total"
        lines.append(f"# TYPE {name} counter")
        for place, row in sorted(totals.items()):
            key, model = place.split(" ")
            lines.append(f'{name}{{key="{key}",model="{model}"}} {row[column]}')
    return "\n".join(lines) + "\n"


def write(path: str, text: str) -> None:
    """Replace a file; whoever reads meanwhile sees the former or the new one."""
    handle, temporary = tempfile.mkstemp(dir=os.path.dirname(path), prefix=".")
    with os.fdopen(handle, "w", encoding="utf-8") as stream:
        stream.write(text)
        stream.flush()
        os.fsync(stream.fileno())
    os.chmod(temporary, 0o644)
    os.replace(temporary, path)


def journal(cursor: str | None) -> tuple[list[str], str | None]:
    """What the gateway has logged after a place in the journal, and the place where that ends."""
    command = ["journalctl", "--quiet", "--no-pager", "--output=json", f"--unit={UNIT}"]
    command += [f"--after-cursor={cursor}"] if cursor else []
    said = subprocess.run(command, stdout=subprocess.PIPE, text=True, check=True).stdout
    lines = []
    for line in said.splitlines():
        entry = json.loads(line)
        cursor = entry["__CURSOR"]
        # What is no text comes as a list of numbers.
        if isinstance(entry.get("MESSAGE"), str):
            lines.append(entry["MESSAGE"])
    return lines, cursor


def count(folder: str, textfile_dir: str | None) -> None:
    """Add what the log has, and write the table and the metrics.

    Args:
        folder: Where the counts are.
        textfile_dir: Of node_exporter's collector; `None` for none.
    """
    path = os.path.join(folder, "counts.json")
    known: dict[str, Any] = {"cursor": None, "days": {}, "totals": {}}
    if os.path.exists(path):
        with open(path, encoding="utf-8") as stream:
            known = json.load(stream)
    lines, cursor = journal(known["cursor"])
    new: Counts = {}
    add(new, lines)
    for place, row in new.items():
        day, who = place.split(" ", 1)
        for counts, name in ((known["days"], f"{day} {who}"), (known["totals"], who)):
            mine = counts.setdefault(name, dict.fromkeys(COLUMNS, 0))
            for column in COLUMNS:
                mine[column] += row[column]
    oldest = datetime.datetime.now(datetime.UTC) - datetime.timedelta(days=KEPT_DAYS)
    known["days"] = {
        place: row for place, row in known["days"].items() if place >= f"{oldest:%Y-%m-%d}"
    }
    # In one file with the place in the journal: nothing is counted twice or not at all.
    write(path, json.dumps({**known, "cursor": cursor}))
    write(os.path.join(folder, "usage.csv"), table(known["days"]))
    if textfile_dir:
        write(os.path.join(textfile_dir, "vllm_gateway.prom"), metrics(known["totals"]))


def keep_state(path: str, admin: str) -> None:
    """Write what the running process knows of its servers, for the one that takes over."""
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as stream:
        stream.settimeout(10)
        stream.connect(admin)
        stream.sendall(b"show servers state\n")
        answer = b"".join(iter(lambda: stream.recv(1 << 16), b""))
    write(path, answer.decode())


def main() -> None:
    """Do what the command line says."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    commands = parser.add_subparsers(dest="command", required=True)
    counting = commands.add_parser("count")
    counting.add_argument("--folder", default=FOLDER)
    counting.add_argument("--textfile-dir")
    keeping = commands.add_parser("keep-state")
    keeping.add_argument("--path", default=STATE_FILE)
    keeping.add_argument("--socket", default=SOCKET)
    given = parser.parse_args()
    if given.command == "count":
        count(given.folder, given.textfile_dir)
    else:
        keep_state(given.path, given.socket)


if __name__ == "__main__":
    main()
