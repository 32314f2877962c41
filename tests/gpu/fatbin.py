# Copyright: (c) 2026, compute_plane.vllm contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Blanks out the GPU code in a library that one kind of GPU never runs, so that it packs small.

A CUDA program carries fat binaries: a header, then entries of machine code (`elf`) or PTX, each for
one architecture. The driver takes the entry that fits and leaves the others alone, so their bytes
can be zeros. The layout is that of `fatbinary_section.h` in the CUDA toolkit and of what
`cuobjdump --list-elf` prints of the same file.
"""

from __future__ import annotations

import struct
from dataclasses import dataclass

_MAGIC = b"\x50\xed\x55\xba"
_HEADER = struct.Struct("<IHHQ")
_VERSION = 1
_PTX, _ELF = 1, 2


@dataclass(frozen=True)
class Entry:
    """One piece of GPU code.

    Attributes:
        ptx: Whether it is PTX, which the driver compiles.
        architecture: 86 is compute capability 8.6.
        start: Where its code begins in the file.
        size: Bytes of it.
    """

    ptx: bool
    architecture: int
    start: int
    size: int


def entries(data: bytes | bytearray) -> list[list[Entry]]:
    """The entries of each fat binary in a file."""
    found, at = [], data.find(_MAGIC)
    while at >= 0:
        if at + _HEADER.size > len(data):
            break
        _magic, version, header, size = _HEADER.unpack_from(data, at)
        if version != _VERSION or header != _HEADER.size or at + header + size > len(data):
            at = data.find(_MAGIC, at + 4)
            continue
        group, here, end = [], at + header, at + header + size
        while here < end:
            kind, _version, offset, length = struct.unpack_from("<HHIQ", data, here)
            architecture = struct.unpack_from("<I", data, here + 28)[0]
            group.append(Entry(kind == _PTX, architecture, here + offset, length))
            here += offset + length
        found.append(group)
        at = data.find(_MAGIC, end)
    return found


def needed(group: list[Entry], capability: int) -> set[Entry]:
    """The entries of a fat binary that a GPU may run.

    Machine code runs on its own major version from its minor version on. PTX of an older or the
    same version is compiled by the driver where there is no such machine code.
    """
    code = {
        entry
        for entry in group
        if not entry.ptx
        and entry.architecture // 10 == capability // 10
        and entry.architecture <= capability
    }
    return code or {entry for entry in group if entry.ptx and entry.architecture <= capability}


def blank(data: bytearray, capability: int) -> int:
    """Blank out what a GPU does not run; returns how many bytes those are."""
    blanked = 0
    for group in entries(data):
        keep = needed(group, capability)
        for entry in group:
            if entry not in keep:
                data[entry.start : entry.start + entry.size] = bytes(entry.size)
                blanked += entry.size
    return blanked
