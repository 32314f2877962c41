# Copyright: (c) 2026, compute_plane.vllm contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""An internal authority and its certificates, with the real library; a handshake is the judge."""

from __future__ import annotations

import dataclasses
import socket
import ssl
import threading
from typing import TYPE_CHECKING

import pytest

from ansible_collections.compute_plane.vllm.plugins.module_utils.gateway.certificates import (
    Pair,
    make_ca,
    make_certificate,
    why_new,
)

if TYPE_CHECKING:
    from pathlib import Path

NAMES = ["llm.example", "127.0.0.1", "::1"]


@pytest.fixture(scope="module")
def ca() -> Pair:
    return make_ca("test")


@pytest.fixture(scope="module")
def pair(ca: Pair) -> Pair:
    return make_certificate(ca, NAMES, 90)


def shake_hands(ca: Pair, pair: Pair, name: str, folder: Path) -> None:
    path = folder / "pair.pem"
    path.write_text(pair.certificate + pair.key)
    server = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    server.load_cert_chain(path)
    client = ssl.create_default_context(cadata=ca.certificate)
    client.verify_flags |= ssl.VERIFY_X509_STRICT
    ours, theirs = socket.socketpair()

    def answer() -> None:
        try:
            server.wrap_socket(theirs, server_side=True).close()
        except (ssl.SSLError, OSError):
            theirs.close()

    thread = threading.Thread(target=answer)
    thread.start()
    try:
        client.wrap_socket(ours, server_hostname=name).close()
    finally:
        ours.close()
        thread.join()


@pytest.mark.parametrize("name", NAMES)
def test_clients_trust_it(ca: Pair, pair: Pair, name: str, tmp_path: Path) -> None:
    shake_hands(ca, pair, name, tmp_path)


def test_not_for_another_name_nor_from_another_authority(
    ca: Pair, pair: Pair, tmp_path: Path
) -> None:
    with pytest.raises(ssl.SSLCertVerificationError, match="Hostname mismatch"):
        shake_hands(ca, pair, "other.example", tmp_path)
    with pytest.raises(ssl.SSLCertVerificationError):
        shake_hands(make_ca("test"), pair, NAMES[0], tmp_path)


def test_what_is_right_is_kept(ca: Pair, pair: Pair) -> None:
    assert why_new(pair, ca, list(reversed(NAMES)), 30) is None


def test_why_it_is_made_anew(ca: Pair, pair: Pair) -> None:
    broken = dataclasses.replace(pair, certificate="broken")
    assert why_new(None, ca, NAMES, 30) == "there is none"
    assert why_new(broken, ca, NAMES, 30) == "it cannot be read"
    assert why_new(pair, make_ca("test"), NAMES, 30) == "another authority has signed it"
    assert why_new(pair, ca, NAMES[:1], 30) == "it is for 127.0.0.1, ::1, llm.example"
    assert why_new(pair, ca, NAMES, 91) == "it ends in 89 days"
