# Copyright: (c) 2026, compute_plane.vllm contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""An internal certificate authority and the certificates that it gives, by python3-cryptography.

Debian 12 has version 38, Debian 13 version 43; times without a zone were deprecated in 42
(https://cryptography.io/en/latest/x509/reference/).
"""

from __future__ import annotations

import datetime
import ipaddress
from collections.abc import Collection, Sequence
from dataclasses import dataclass
from typing import Any

try:
    from cryptography import x509
    from cryptography.exceptions import InvalidSignature
    from cryptography.hazmat.primitives import hashes, serialization
    from cryptography.hazmat.primitives.asymmetric import ec
    from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

    MISSING = None
except ImportError as problem:
    MISSING = problem

DAYS_OF_CA = 3650


@dataclass(frozen=True)
class Pair:
    """A certificate and its key, both as PEM."""

    certificate: str
    key: str


def _now() -> datetime.datetime:
    return datetime.datetime.now(datetime.timezone.utc)


def _ends(certificate: Any) -> datetime.datetime:
    if hasattr(certificate, "not_valid_after_utc"):
        end: datetime.datetime = certificate.not_valid_after_utc
        return end
    old: datetime.datetime = certificate.not_valid_after
    return old.replace(tzinfo=datetime.timezone.utc)


def _name(common: str) -> Any:
    return x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, common[:64])])


def _key_text(key: Any) -> str:
    text: str = key.private_bytes(
        serialization.Encoding.PEM,
        serialization.PrivateFormat.PKCS8,
        serialization.NoEncryption(),
    ).decode()
    return text


def _text(certificate: Any) -> str:
    text: str = certificate.public_bytes(serialization.Encoding.PEM).decode()
    return text


def _general(name: str) -> Any:
    try:
        return x509.IPAddress(ipaddress.ip_address(name))
    except ValueError:
        return x509.DNSName(name)


def _builder(subject: Any, issuer: Any, public_key: Any, days: int) -> Any:
    return (
        x509.CertificateBuilder()
        .subject_name(subject)
        .issuer_name(issuer)
        .public_key(public_key)
        .serial_number(x509.random_serial_number())
        # Clocks differ a little.
        .not_valid_before(_now() - datetime.timedelta(hours=1))
        .not_valid_after(_now() + datetime.timedelta(days=days))
        .add_extension(x509.SubjectKeyIdentifier.from_public_key(public_key), critical=False)
    )


def _usage(**allowed: bool) -> Any:
    every = dict.fromkeys(
        (
            *("digital_signature", "content_commitment", "key_encipherment", "data_encipherment"),
            *("key_agreement", "key_cert_sign", "crl_sign", "encipher_only", "decipher_only"),
        ),
        False,
    )
    return x509.KeyUsage(**{**every, **allowed})


def make_ca(common: str) -> Pair:
    """A new certificate authority, which can sign no other one."""
    key = ec.generate_private_key(ec.SECP256R1())
    name = _name(common)
    certificate = (
        _builder(name, name, key.public_key(), DAYS_OF_CA)
        .add_extension(x509.BasicConstraints(ca=True, path_length=0), critical=True)
        .add_extension(_usage(key_cert_sign=True, crl_sign=True), critical=True)
        .sign(key, hashes.SHA256())
    )
    return Pair(_text(certificate), _key_text(key))


def make_certificate(ca: Pair, names: Sequence[str], days: int) -> Pair:
    """A new certificate of a server, with a new key.

    Args:
        ca: Who signs it.
        names: DNS names and IP addresses.
        days: How long it is valid.
    """
    issuer = x509.load_pem_x509_certificate(ca.certificate.encode())
    signer: Any = serialization.load_pem_private_key(ca.key.encode(), None)
    key = ec.generate_private_key(ec.SECP256R1())
    identifier = issuer.extensions.get_extension_for_class(x509.SubjectKeyIdentifier).value
    certificate = (
        _builder(_name(names[0]), issuer.subject, key.public_key(), days)
        .add_extension(x509.BasicConstraints(ca=False, path_length=None), critical=True)
        .add_extension(_usage(digital_signature=True), critical=True)
        .add_extension(x509.ExtendedKeyUsage([ExtendedKeyUsageOID.SERVER_AUTH]), critical=False)
        .add_extension(x509.SubjectAlternativeName([_general(n) for n in names]), critical=False)
        .add_extension(
            x509.AuthorityKeyIdentifier.from_issuer_subject_key_identifier(identifier),
            critical=False,
        )
        .sign(signer, hashes.SHA256())
    )
    return Pair(_text(certificate), _key_text(key))


def _names(certificate: Any) -> set[str]:
    extension = certificate.extensions.get_extension_for_class(x509.SubjectAlternativeName)
    return {str(name.value) for name in extension.value}


def why_new(pair: Pair | None, ca: Pair, names: Collection[str], renew: int) -> str | None:
    """Say why a certificate has to be made anew; `None` where it is right.

    Args:
        pair: What there is; `None` for nothing.
        ca: Who must have signed it.
        names: What it must be for.
        renew: Days before its end in which it is made anew.
    """
    if pair is None:
        return "there is none"
    try:
        certificate = x509.load_pem_x509_certificate(pair.certificate.encode())
        issuer = x509.load_pem_x509_certificate(ca.certificate.encode())
        public_key: Any = issuer.public_key()
        public_key.verify(
            certificate.signature,
            certificate.tbs_certificate_bytes,
            ec.ECDSA(hashes.SHA256()),
        )
        there = _names(certificate)
    except (ValueError, x509.ExtensionNotFound):
        return "it cannot be read"
    except InvalidSignature:
        return "another authority has signed it"
    if there != {str(_general(name).value) for name in names}:
        return f"it is for {', '.join(sorted(there))}"
    left = _ends(certificate) - _now()
    if left < datetime.timedelta(days=renew):
        return f"it ends in {left.days} days"
    return None
