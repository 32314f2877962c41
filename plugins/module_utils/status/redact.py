# Copyright: (c) 2026, compute_plane.vllm contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Text that a user can paste into a bug report: without secrets, tokens, and names. Pure."""

from __future__ import annotations

import ipaddress
import re
from collections.abc import Iterable, Mapping
from typing import Any

SECRET, HOST, USER, ADDRESS = "SECRET", "HOST", "USER", "ADDRESS"
_SHORTEST_SECRET = 4
_OPEN = frozenset({"root", "vllm", "localhost", "python", "python3", "host", "user"})
"""Names that are everybody's."""

# Hugging Face, OpenAI and its like, GitHub, GitLab, AWS, NVIDIA, Slack, JSON web tokens.
_TOKENS = re.compile(
    r"\bhf_\w{8,}|\b(?:sk|pk|rk)-[\w-]{8,}|\bgh[pousr]_\w{16,}|\bgithub_pat_\w+|\bglpat-[\w-]{8,}"
    r"|\b(?:AKIA|ASIA)[0-9A-Z]{16}\b|\bnvapi-[\w-]{8,}|\bxox[abprs]-[\w-]+"
    r"|\beyJ[\w-]{4,}\.[\w-]{4,}\.[\w-]*"
)
_KEYS = (
    r"(?:[\w-]*[_-])?(?:api[_-]?keys?|token|secrets?(?:[_-]?(?:access[_-]?)?key)?|passw(?:or)?d"
    r"|pass|passphrase|credentials?|private[_-]?key)"
)
_KEY = re.compile(_KEYS, re.IGNORECASE)
_VALUE = r"(?P<value>\[[^\]\n]*\]|'[^'\n]*'|\"[^\"\n]*\"|[^\s,;)}\]]+)"
_ASSIGNED = re.compile(
    rf"(?P<key>(?<![\w-]){_KEYS}['\"]?(?:\s*[:=]\s*)|--{_KEYS}\s+){_VALUE}", re.IGNORECASE
)
_NO_VALUE = re.compile(r"^['\"\[]*(?:None|null|true|false|\*+|SECRET)?['\"\]]*$", re.IGNORECASE)
_BEARER = re.compile(r"\b(bearer|basic)\s+[\w.~+/=-]{6,}", re.IGNORECASE)
_PEM = re.compile(r"-----BEGIN [A-Z ]+-----.*?(?:-----END [A-Z ]+-----|\Z)", re.DOTALL)
_USERINFO = re.compile(r"://[^/\s:@]+(?::[^/\s@]+)?@")
_HOME = re.compile(r"/(home|Users)/(?!USER\b)[^/\s'\":,)]+")
_LOGIN = re.compile(
    r"(?<![\w.-])[\w.+-]+@(?!\S+\.(?:service|slice|scope|socket)\b)[\w-]+(?:\.[\w-]+)*"
)
# journald's and syslog's second word; NCCL's first.
_JOURNAL = re.compile(
    r"^((?:[A-Z][a-z]{2} +\d+ [\d:]{8}|\d{4}-\d\d-\d\dT\S+) )\S+( [\w@.\\/-]+\[\d+\]:)",
    re.MULTILINE,
)
_NCCL = re.compile(r"^[\w.-]+(:\d+:\d+ \[\d+\] )", re.MULTILINE)
_IPV4 = re.compile(r"(?<!==)(?<![\w.-])\d{1,3}(?:\.\d{1,3}){3}(?![\w-]|\.\d)")
_IPV6 = re.compile(r"(?<![\w:.])[0-9A-Fa-f]{0,4}(?::[0-9A-Fa-f]{0,4}){2,7}(?![\w:])")
_MAC = re.compile(r"(?<![\w:])(?:[0-9A-Fa-f]{2}:){5}[0-9A-Fa-f]{2}(?![\w:])")
_UUID = re.compile(r"\b(GPU|MIG)-[0-9a-f]{8}(?:-[0-9a-f]{4}){3}-[0-9a-f]{12}\b")


def _address(match: re.Match[str]) -> str:
    try:
        address = ipaddress.ip_address(match.group(0))
    except ValueError:
        return match.group(0)
    own = address.is_loopback or address.is_unspecified or address.is_multicast
    return match.group(0) if own else ADDRESS


def _assigned(match: re.Match[str]) -> str:
    value = match.group("value")
    return match.group(0) if _NO_VALUE.match(value) else f"{match.group('key')}{SECRET}"


class Redactor:
    """Replaces what is nobody else's business.

    Args:
        secrets: Values that are secret, such as API keys and tokens of the inventory.
        hosts: Names of hosts.
        users: Names of users; those that everybody has, such as root, are left.
    """

    def __init__(
        self, secrets: Iterable[str] = (), hosts: Iterable[str] = (), users: Iterable[str] = ()
    ) -> None:
        known = {str(one) for one in secrets}
        self._secrets = sorted(
            (one for one in known if len(one) >= _SHORTEST_SECRET), key=len, reverse=True
        )
        self._names = [
            (re.compile(rf"(?<![\w-]){re.escape(name)}(?![\w-])", re.IGNORECASE), word)
            for word, names in ((HOST, hosts), (USER, users))
            for name in sorted({str(one) for one in names}, key=len, reverse=True)
            if len(name) > 1 and name.lower() not in _OPEN and not name.isdigit()
        ]

    def text(self, text: str) -> str:
        """A text without them."""
        for secret in self._secrets:
            text = text.replace(secret, SECRET)
        text = _PEM.sub(SECRET, text)
        text = _BEARER.sub(rf"\1 {SECRET}", text)
        text = _TOKENS.sub(SECRET, text)
        text = _USERINFO.sub(f"://{USER}@", text)
        text = _ASSIGNED.sub(_assigned, text)
        text = _JOURNAL.sub(rf"\1{HOST}\2", text)
        text = _NCCL.sub(rf"{HOST}\1", text)
        for pattern, word in self._names:
            text = pattern.sub(word, text)
        text = _HOME.sub(rf"/\1/{USER}", text)
        text = _LOGIN.sub(f"{USER}@{HOST}", text)
        text = _MAC.sub(ADDRESS, text)
        text = _IPV4.sub(_address, text)
        text = _IPV6.sub(_address, text)
        return _UUID.sub(r"\1-UUID", text)

    def value(self, value: Any) -> Any:
        """The same of a document: every text in it, keys too; what a secret's key holds goes."""
        if isinstance(value, str):
            return self.text(value)
        if isinstance(value, Mapping):
            return {
                self.text(str(key)): SECRET
                if _KEY.fullmatch(str(key)) and content not in (None, "", [], {})
                else self.value(content)
                for key, content in value.items()
            }
        if isinstance(value, (list, tuple, set)):
            return [self.value(one) for one in value]
        return value


def secrets_in(value: Any) -> set[str]:
    """Every text that a mapping, or one within it, holds under a secret's name."""
    found: set[str] = set()
    if isinstance(value, Mapping):
        for key, content in value.items():
            found |= _texts(content) if _KEY.fullmatch(str(key)) else secrets_in(content)
    elif isinstance(value, (list, tuple)):
        for one in value:
            found |= secrets_in(one)
    return found


def _texts(value: Any) -> set[str]:
    if isinstance(value, Mapping):
        return {text for one in value.values() for text in _texts(one)}
    if isinstance(value, (list, tuple)):
        return {text for one in value for text in _texts(one)}
    return {str(value)} if isinstance(value, str) else set()
