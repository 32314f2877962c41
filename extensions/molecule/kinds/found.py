#!/usr/bin/env python3
# Copyright: (c) 2026, compute_plane.vllm contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""See that each model was asked what its kind is asked, and what the reports say of it.

Usage: found.py REPORTS RECORDS HOST
"""

from __future__ import annotations

import json
import sys
from pathlib import Path

SERVED = ["health", "version", "models"]
GENERATES = [*SERVED, "streaming", "structured_output", "concurrency"]
ASKED = {
    "chat": [*GENERATES, "completion"],
    "base": [*GENERATES, "completion"],
    "reasoning": [*GENERATES, "thinking", "completion"],
    "embed": [*SERVED, "concurrency", "embedding", "dimensions", "similarity"],
    "rerank": [*SERVED, "concurrency", "score"],
    "classify": [*SERVED, "concurrency", "classification"],
}
# all-MiniLM-L6-v2 does not say that it is Matryoshka; vLLM 0.14.1 on a CPU dies of a JSON schema
# beside any other request.
SKIPPED = {
    "chat": ["structured_output"],
    "base": ["structured_output"],
    "reasoning": ["structured_output"],
    "embed": ["dimensions"],
}


def main() -> None:
    """See, and say what was seen."""
    reports, records, host = Path(sys.argv[1]), Path(sys.argv[2]), sys.argv[3]
    report = json.loads((reports / f"{host}.json").read_text(encoding="utf-8"))
    wrong = []
    for endpoint in report["endpoints"]:
        name, checks = endpoint["name"], {check["name"]: check for check in endpoint["checks"]}
        for check in checks.values():
            print(f"{name}: {check['name']}: {check['outcome']}: {check['detail'][:150]}")
            wanted = "skipped" if check["name"] in SKIPPED.get(name, ()) else "passed"
            if check["outcome"] != wanted:
                wrong.append(f"{name}: {check['name']} {check['outcome']}, not {wanted}")
        if list(checks) != ASKED[name]:
            wrong.append(f"{name} was asked {list(checks)}, not {ASKED[name]}")
        record = json.loads((records / f"{host}-{name}.endpoint.json").read_text(encoding="utf-8"))
        if record.get("kind", "chat") != name:
            wrong.append(f"the record of {name} says it is {record.get('kind')}")
        if name == "reasoning":
            thinking = checks["thinking"]
            thought, answer = thinking.get("thought", ""), thinking["answer"]
            print(f"{name}: thought {thought!r}, answered {answer!r}")
            if not thought.strip() or not answer.strip() or "think>" in thought + answer:
                wrong.append(f"thought and answer are not told apart: {thinking}")
    if {endpoint["name"] for endpoint in report["endpoints"]} != set(ASKED):
        wrong.append(f"not all are in the report: {[one['name'] for one in report['endpoints']]}")
    if "<summary>Thought</summary>" not in (reports / f"{host}.html").read_text(encoding="utf-8"):
        wrong.append("the page has no thought")
    if wrong:
        sys.exit("\n".join(wrong))


if __name__ == "__main__":
    main()
