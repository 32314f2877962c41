# Copyright: (c) 2026, compute_plane.vllm contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Run a hub: `python -m hub ROOT`, where ROOT holds ORG/NAME/…files."""

from __future__ import annotations

import argparse
import signal
import threading
from pathlib import Path

from hub.models import Store
from hub.server import Hub


def main() -> None:
    """Serve until SIGTERM or SIGINT."""
    parser = argparse.ArgumentParser(prog="hub", description=__doc__)
    parser.add_argument("root", type=Path, help="directory of models, ORG/NAME/…files")
    parser.add_argument("--address", default="127.0.0.1", help="address to listen on")
    parser.add_argument("--port", type=int, default=0, help="port (default: any)")
    parser.add_argument(
        "--cdn-address",
        help="another address, for LFS files (default: 127.0.0.2 beside 127.0.0.1, else none)",
    )
    parser.add_argument("--rate", type=float, default=0.0, help="bytes a second, of all together")
    parser.add_argument("--no-xet", action="store_true", help="do not offer xet")
    arguments = parser.parse_args()
    store = Store()
    try:
        store.add_tree(arguments.root)
    except (OSError, ValueError) as error:
        parser.error(str(error))
    cdn = arguments.cdn_address
    if cdn is None and arguments.address == "127.0.0.1":
        cdn = "127.0.0.2"
    hub = Hub(
        store,
        address=arguments.address,
        port=arguments.port,
        cdn_address=cdn,
        rate=arguments.rate,
        xet=not arguments.no_xet,
    )
    ended = threading.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda *_: ended.set())
    with hub:
        print(hub.url, flush=True)
        ended.wait()


if __name__ == "__main__":
    main()
