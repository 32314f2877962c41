# Copyright: (c) 2026, compute_plane.vllm contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Files for EnvironmentFile=: written, read as systemd reads them, and read by systemd itself."""

from __future__ import annotations

import ctypes
import glob
from typing import TYPE_CHECKING

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ansible_collections.compute_plane.vllm.plugins.module_utils.deploy.environment import (
    environment_file,
    read_environment_file,
)

if TYPE_CHECKING:
    from pathlib import Path

PRINTABLE = st.text(st.characters(exclude_categories=("C",)), min_size=1)

# What a person may write, from the rules of systemd.exec(5), "EnvironmentFile=".
WRITTEN = [
    ("VLLM_API_KEY=abc\n", {"VLLM_API_KEY": "abc"}),
    ("VLLM_API_KEY=abc", {"VLLM_API_KEY": "abc"}),
    ("# mine\n\n ; not this\nX='y z'\nnothing\n", {"X": "y z"}),
    ("# VLLM_API_KEY=abc\n", {}),
    ("  A  =  b c  \n", {"A": "b c"}),
    ("A=\n", {"A": ""}),
    ("A='$x \"y\" \\z'\n", {"A": '$x "y" \\z'}),
    ('A="\\"\\\\\\$\\`\\x"\n', {"A": '"\\$`\\x'}),
    ("A=\\\\a\\b\\ \n", {"A": "\\ab "}),
    ("A=b'c\"d\n", {"A": "b'c\"d"}),
    ("A='b'\"c\" d\n", {"A": "bcd"}),
    ("A=\"b\" 'c' d\n", {"A": "bcd"}),
    ("A=one \\\n two\nB=3\n", {"A": "one  two", "B": "3"}),
    ('A="one \\\ntwo"\n', {"A": "one two"}),
    ('A="one\ntwo"\nB=3\n', {"A": "one\ntwo", "B": "3"}),
    ("A=b # no comment\n", {"A": "b # no comment"}),
    ("A=1\nA=2\n", {"A": "2"}),
    ("A=1\r\nB=2\r\n", {"A": "1", "B": "2"}),
    ("A='never closed\n", {"A": "never closed\n"}),
    ("A=b=c\n", {"A": "b=c"}),
    ("A=b \\", {"A": "b "}),
    ('A="b\\', {"A": "b"}),
    # systemd ignores what is no name of a variable.
    ("export A=1\n1B=2\nC-D=3\n=4\nE=5\n", {"E": "5"}),
    ("A=1\u2028B=2\n", {"A": "1\u2028B=2"}),
]


@pytest.mark.parametrize(("text", "variables"), WRITTEN)
def test_it_is_read_by_systemds_rules(text: str, variables: dict[str, str]) -> None:
    assert read_environment_file(text) == variables


def test_no_file_has_no_variables() -> None:
    assert read_environment_file(None) == {}


@given(PRINTABLE)
def test_every_printable_key_is_read_as_it_was_written(key: str) -> None:
    text = environment_file("vllm@a.service", {"VLLM_API_KEY": key, "B": "2"})
    assert read_environment_file(text) == {"VLLM_API_KEY": key, "B": "2"}


def test_a_secret_of_several_lines_is_refused_without_being_shown() -> None:
    with pytest.raises(ValueError, match="VLLM_API_KEY") as refusal:
        environment_file("u", {"VLLM_API_KEY": "geheim\nB=2"})
    assert "geheim" not in str(refusal.value)


class Systemd:
    """The code by which systemd itself reads such a file; it is in a library of its own."""

    def __init__(self, library: str, path: Path) -> None:
        self.path = path
        self.libc = ctypes.CDLL(None)
        self.libc.fopen.restype = ctypes.c_void_p
        self.libc.fopen.argtypes = [ctypes.c_char_p, ctypes.c_char_p]
        self.libc.fclose.argtypes = [ctypes.c_void_p]
        strings = ctypes.POINTER(ctypes.c_char_p)
        self.load = ctypes.CDLL(library).load_env_file
        self.load.argtypes = [ctypes.c_void_p, ctypes.c_char_p, ctypes.POINTER(strings)]
        self.found = strings()

    def read(self, text: str) -> dict[str, str]:
        self.path.write_text(text, encoding="utf-8", newline="")
        stream = self.libc.fopen(bytes(self.path), b"r")
        try:
            assert self.load(stream, bytes(self.path), ctypes.byref(self.found)) >= 0
        finally:
            self.libc.fclose(stream)
        entries, index = [], 0
        while self.found and self.found[index] is not None:
            entries.append(self.found[index].decode("utf-8"))
            index += 1
        # What is no name of a variable is left out later, when a process is started.
        variables = dict(entry.split("=", 1) for entry in entries)
        return {
            name: value
            for name, value in variables.items()
            if name.isidentifier() and name.isascii()
        }


@pytest.fixture(scope="module")
def systemd(tmp_path_factory: pytest.TempPathFactory) -> Systemd:
    libraries = glob.glob("/usr/lib/*/systemd/libsystemd-shared-*.so")
    libraries += glob.glob("/usr/lib*/systemd/libsystemd-shared-*.so")
    if not libraries:
        pytest.skip("there is no systemd here to be asked")
    return Systemd(libraries[0], tmp_path_factory.mktemp("systemd") / "a.env")


@pytest.mark.parametrize(("text", "variables"), WRITTEN)
def test_systemd_reads_the_same(systemd: Systemd, text: str, variables: dict[str, str]) -> None:
    assert systemd.read(text) == variables


@given(PRINTABLE)
def test_systemd_reads_every_printable_key_as_it_was_written(systemd: Systemd, key: str) -> None:
    text = environment_file("vllm@a.service", {"VLLM_API_KEY": key})
    assert systemd.read(text) == {"VLLM_API_KEY": key}


@settings(max_examples=1000)
@given(st.text(st.sampled_from("AB=\"'\\$` \n"), max_size=40))
def test_whatever_is_in_a_file_is_read_as_systemd_reads_it(systemd: Systemd, text: str) -> None:
    assert read_environment_file(text) == systemd.read(text)
