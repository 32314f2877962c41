#!/usr/bin/env python3
# Copyright: (c) 2026, compute_plane.vllm contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Write down what was proved as versions did that wrote schema 1: with the texts of the files."""

from __future__ import annotations

import json
import pathlib
import sys

NAME = "smollm2"
PROVED = pathlib.Path(f"/var/lib/vllm/proved/{NAME}.json")
UNITS = pathlib.Path("/etc/systemd/system")
TEXTS = {
    "unit": UNITS / "vllm@.service",
    "config": pathlib.Path(f"/etc/vllm/{NAME}.yaml"),
    "drop_in": UNITS / f"vllm@{NAME}.service.d" / "10-compute-plane.conf",
}
SAME = ("name", "release", "venv", "fingerprint", "url", "served_model_name", "max_model_len")


def main() -> None:
    """Read, and write."""
    record = json.loads(PROVED.read_text())
    if record["schema"] != 2:
        sys.exit(f"{PROVED} is of schema {record['schema']}")
    current = {name: record["current"][name] for name in SAME}
    current.update({name: path.read_text() for name, path in TEXTS.items()})
    PROVED.write_text(json.dumps({"schema": 1, "current": current, "previous": None}, indent=2))


if __name__ == "__main__":
    main()
