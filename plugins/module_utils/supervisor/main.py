# Copyright: (c) 2026, compute_plane.vllm contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Start a vLLM server, watch it, and say what it does."""

from __future__ import annotations

import argparse
import os
import sys
from collections.abc import Sequence

from . import cards
from .kinds import KINDS
from .process import Supervisor


def arguments() -> argparse.ArgumentParser:
    """The command line."""
    parser = argparse.ArgumentParser(prog="supervisor", description=__doc__.splitlines()[0])
    parser.add_argument("--name", required=True, help="the instance")
    parser.add_argument("--vllm", required=True, help="the vllm program")
    parser.add_argument("--config", required=True, help="its --config file")
    parser.add_argument("--kind", choices=KINDS, default="chat", help="what it is asked for")
    parser.add_argument("--start-timeout", type=float, default=600.0, help="seconds to a token")
    parser.add_argument("--start-stall", type=float, default=120.0, help="seconds without any work")
    parser.add_argument("--drain", type=float, default=30.0, help="seconds for requests at a stop")
    parser.add_argument("--starts", type=int, default=5, help="failed ones in a row to give up")
    parser.add_argument(
        "--no-truthful-health",
        dest="truthful_health",
        action="store_false",
        help="leave /health to vLLM alone",
    )
    parser.add_argument("--device", action="append", default=[], help="device node to wait for")
    parser.add_argument("--device-timeout", type=float, default=120.0, help="seconds for them")
    parser.add_argument(
        "--gpu-lost", choices=cards.POLICIES, default=cards.FAIL, help="what follows of a lost card"
    )
    parser.add_argument("--group", help="the hosts that it spans, as JSON")
    parser.add_argument(
        "--sleep-level", type=int, choices=(0, 1, 2), default=0, help="of vLLM; 0 stops the server"
    )
    parser.add_argument(
        "--sleep-memory", type=int, default=0, help="bytes of the host's memory for level 1"
    )
    parser.add_argument(
        "--on-demand", action="store_true", help="start the server when the broker asks for it"
    )
    return parser


def main(argv: Sequence[str] | None = None) -> int:
    """Run the supervisor, or with `broker` as the first word the broker of a share."""
    words = sys.argv[1:] if argv is None else list(argv)
    # What is imported below most servers need nothing of.
    if words[:1] == ["broker"]:
        from .broker import main as broker

        return broker(words[1:])
    options = arguments().parse_args(words)
    if options.on_demand:
        from .demand import OnDemand

        return OnDemand(options, os.environ).run()
    if options.group is None:
        return Supervisor(options, os.environ).run()
    from .spanning import supervisor_of

    return supervisor_of(options, os.environ).run()
