# Copyright: (c) 2026, compute_plane.vllm contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The command line."""

from __future__ import annotations

import argparse
import json
import os
import shlex
import signal
import sys
from pathlib import Path
from typing import NoReturn

from . import hosts, images, needs
from .common import HostsError, Settings, become, parse_size, say
from .launcher import Machine, enter_argv, enter_environment, leader, supervise

EPILOG = """\
environment:
  XDG_CACHE_HOME     images lie in $XDG_CACHE_HOME/compute_plane.vllm/images (default ~/.cache)
  TESTHOSTS_STATE    hosts, key and locks (default /var/lib/compute_plane.vllm/hosts)
  TESTHOSTS_SUBNET   the hosts' subnet (default: the first free of 10.77.0.0/24, 10.78.0.0/24, …)
  TESTHOSTS_DNS      name servers for the hosts (default: the machine's)
  TESTHOSTS_ENVIRONMENT
                     variables of all services on new hosts (systemd's DefaultEnvironment=)
  TESTHOSTS_MIRROR   Debian mirror for new images (default: the machine's, else mmdebstrap's)

exit status: 0 done, 2 something is missing or wrong (one line each); exec and ssh: the command's
"""


def _pair(text: str) -> tuple[str, str]:
    left, equals, right = text.rpartition("=")
    if not equals or not left or not right.startswith("/"):
        raise argparse.ArgumentTypeError(f"{text!r} is not DIRECTORY=/ABSOLUTE/PATH")
    return left, right


def _harvest_pair(text: str) -> tuple[str, Path]:
    left, equals, right = text.partition("=")
    if not equals or not left.startswith("/") or not right:
        raise argparse.ArgumentTypeError(f"{text!r} is not /ABSOLUTE/PATH=DIRECTORY")
    return left, Path(right)


def _size(text: str) -> int:
    try:
        return parse_size(text)
    except HostsError as error:
        raise argparse.ArgumentTypeError(str(error)) from None


def parser() -> argparse.ArgumentParser:
    """The command line's grammar."""
    top = argparse.ArgumentParser(
        prog="testhosts.py",
        description="Throwaway hosts: real systemd machines for tests, without Docker or KVM.",
        epilog=EPILOG,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    commands = top.add_subparsers(dest="command", metavar="COMMAND", required=True)

    up = commands.add_parser("up", help="make a host and wait until it is ready")
    up.add_argument("name", metavar="NAME")
    up.add_argument("--image", choices=images.SUITES, help=f"default {images.SUITES[0]}")
    up.add_argument("--ip", metavar="A.B.C.D", help="default: the lowest free one")
    up.add_argument("--memory", type=_size, metavar="SIZE", help="all it may use, such as 2G")
    up.add_argument(
        "--seed",
        type=_pair,
        action="append",
        default=[],
        metavar="DIR=TARGET",
        help="put a directory of this machine into it, without copying",
    )
    up.add_argument(
        "--bind",
        action="append",
        default=[],
        metavar="SRC[:DEST[:OPT]]",
        help="bind-mount, as systemd-nspawn's --bind=",
    )
    up.add_argument(
        "--bind-ro",
        action="append",
        default=[],
        metavar="SRC[:DEST[:OPT]]",
        help="the same, read-only",
    )
    up.add_argument(
        "--timeout",
        type=float,
        default=hosts.READY_SECONDS,
        metavar="SECONDS",
        help="from its start until ready (default %(default)s)",
    )
    up.add_argument("--json", action="store_true", help="print a JSON object")

    down = commands.add_parser("down", help="power hosts off and remove them")
    down.add_argument("names", nargs="*", metavar="NAME")
    down.add_argument("--all", action="store_true", help="every host")

    listing = commands.add_parser("list", help="the hosts there are")
    listing.add_argument("--json", action="store_true", help="print a JSON array")

    execute = commands.add_parser("exec", help="run a command in a host (not through SSH)")
    execute.add_argument("name", metavar="NAME")
    execute.add_argument("argv", nargs=argparse.REMAINDER, metavar="-- CMD …")

    logs = commands.add_parser("logs", help="a host's console and journal")
    logs.add_argument("name", metavar="NAME")
    logs.add_argument("-f", "--follow", action="store_true", help="go on with the journal")

    ssh = commands.add_parser("ssh", help="log in as root, or run a command through SSH")
    ssh.add_argument("name", metavar="NAME")
    ssh.add_argument("argv", nargs=argparse.REMAINDER, metavar="[CMD …]")

    inventory = commands.add_parser("inventory", help="an Ansible inventory (YAML) of hosts")
    inventory.add_argument("names", nargs="+", metavar="NAME")

    harvest = commands.add_parser("harvest", help="copy what a host added back to a directory")
    harvest.add_argument("name", metavar="NAME")
    harvest.add_argument("pairs", type=_harvest_pair, nargs="+", metavar="TARGET=DIR")

    image = commands.add_parser("image", help="build an image, unless it is there")
    image.add_argument("suite", choices=images.SUITES)

    commands.add_parser("check", help="say everything that is missing on this machine")

    clean = commands.add_parser("clean", help="remove all hosts, leftovers of crashes, the bridge")
    clean.add_argument("--images", action="store_true", help="also the images")
    return top


def main(argv: list[str] | None = None) -> int:
    """Run a command.

    Args:
        argv: Arguments; those of the process by default.

    Returns:
        The exit status.
    """
    words = sys.argv[1:] if argv is None else argv
    if words[:1] == ["_supervise"]:
        return supervise(Machine(words[1], words[2], Path(words[3]), None, tuple(words[4:])))
    arguments = parser().parse_args(words)
    # A terminated `up` must clean up like an interrupted one.
    signal.signal(signal.SIGTERM, lambda signum, _: sys.exit(128 + signum))
    try:
        return _dispatch(arguments, Settings.from_environment())
    except HostsError as error:
        say(f"testhosts: {error}")
        return 2
    except KeyboardInterrupt:
        return 128 + signal.SIGINT
    except BrokenPipeError:
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 128 + signal.SIGPIPE


def _dispatch(arguments: argparse.Namespace, settings: Settings) -> int:
    command = arguments.command
    if command == "check":
        return _check(settings)
    if command == "inventory":
        print(inventory_yaml([hosts.Host(settings, name) for name in arguments.names]), end="")
        return 0
    needs.require_root()
    if command == "list":
        return _list(settings, arguments.json)
    if command in ("up", "image"):
        needs.require(settings)
    if command == "up":
        return _up(arguments, settings)
    if command == "down":
        return _down(arguments, settings)
    if command == "exec":
        host = hosts.Host(settings, arguments.name)
        given = arguments.argv[1:] if arguments.argv[:1] == ["--"] else arguments.argv
        if not given:
            raise HostsError("exec needs a command", "exec NAME -- CMD …")
        become(enter_argv(host.leader(), given), enter_environment())
    if command == "ssh":
        given = arguments.argv[1:] if arguments.argv[:1] == ["--"] else arguments.argv
        become(hosts.Host(settings, arguments.name).ssh_argv(given))
    if command == "logs":
        _logs(hosts.Host(settings, arguments.name), arguments.follow)
    if command == "harvest":
        for source, target in arguments.pairs:
            tally = hosts.Host(settings, arguments.name).harvest(source, target)
            print(f"{source}: {tally.copied} new files copied to {target}")
        return 0
    if command == "image":
        image, built = images.ensure(settings, arguments.suite)
        print(f"{'built' if built else 'exists'} {image}")
        return 0
    for name in hosts.clean(settings, arguments.images):
        print(f"removed {name}")
    return 0


def _up(arguments: argparse.Namespace, settings: Settings) -> int:
    wanted = hosts.Wanted(
        name=arguments.name,
        image=arguments.image,
        ip=arguments.ip,
        memory=arguments.memory,
        seeds=tuple(arguments.seed),
        binds=tuple(arguments.bind),
        binds_ro=tuple(arguments.bind_ro),
    )
    result = hosts.Host(settings, wanted.name).up(wanted, arguments.timeout)
    if arguments.json:
        print(json.dumps(result))
    else:
        word = "created" if result["changed"] else "exists"
        print(f"{word} {result['name']} {result['ip']} {result['image']} {result['state']}")
    return 0


def _down(arguments: argparse.Namespace, settings: Settings) -> int:
    if arguments.all == bool(arguments.names):
        raise HostsError("down needs names, or --all")
    names = [host.name for host in hosts.every(settings)] if arguments.all else arguments.names
    for name in names:
        print(f"{'removed' if hosts.Host(settings, name).down() else 'absent'} {name}", flush=True)
    return 0


def _list(settings: Settings, as_json: bool) -> int:
    found = [host.describe() for host in hosts.every(settings) if host.record]
    if as_json:
        print(json.dumps(found, indent=2))
        return 0
    rows = [("NAME", "STATE", "ADDRESS", "IMAGE", "CREATED")]
    rows += [(h["name"], h["state"], h["ip"], h["image"], h["created"]) for h in found]
    widths = [max(len(row[column]) for row in rows) for column in range(len(rows[0]))]
    for row in rows:
        print(
            "  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip()
        )
    return 0


def _check(settings: Settings) -> int:
    missing = needs.missing(settings, thorough=True)
    for need in missing:
        print(need)
    if not missing:
        print("nothing is missing")
    for name in hosts.leftovers(settings) if os.geteuid() == 0 else []:
        print(f"note: a crash left something of {name}; `testhosts.py clean` removes it")
    return 2 if missing else 0


def _logs(host: hosts.Host, follow: bool) -> NoReturn:
    host.require()
    console = host.machine.console
    if console.exists():
        print(f"== console of {host.name}")
        print(console.read_text(encoding="utf-8", errors="replace"), end="")
    print(f"== journal of {host.name}", flush=True)
    words = ["journalctl", "--no-pager", "--output=short-iso"]
    pid = leader(host.launcher.nspawn_pid(host.machine))
    if pid is None:
        become([*words, f"--directory={host.root / 'var/log/journal'}"])
    if follow:
        words += ["--follow", "--lines=all"]
    become(enter_argv(pid, words), enter_environment())


def inventory_yaml(chosen: list[hosts.Host]) -> str:
    """An Ansible inventory of hosts.

    Args:
        chosen: The hosts.

    Returns:
        YAML. Strings are written as JSON strings, which YAML reads as they are.

    Raises:
        HostsError: One of them does not exist.
    """
    lines = ["all:", "  hosts:"]
    for host in chosen:
        variables = {
            "ansible_host": host.require()["ip"],
            "ansible_user": "root",
            "ansible_ssh_private_key_file": str(host.settings.key),
            "ansible_ssh_common_args": shlex.join(host.ssh_options()),
            "ansible_python_interpreter": "/usr/bin/python3",
        }
        lines.append(f"    {host.name}:")
        lines += [f"      {key}: {json.dumps(value)}" for key, value in variables.items()]
    return "\n".join(lines) + "\n"
