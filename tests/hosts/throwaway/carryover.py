# Copyright: (c) 2026, compute_plane.vllm contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What a guest needs to reach the package indexes that this machine reaches.

pip, uv, apt and proxies are configured on this machine somehow; a guest gets the same, less what
only makes sense here: paths, `file:` addresses and servers on this machine's loopback.
"""

from __future__ import annotations

import configparser
import hashlib
import ipaddress
import json
import os
import re
import tomllib
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from .common import run

GUEST_BUNDLE = "/etc/ssl/certs/ca-certificates.crt"
"""Where Debian keeps the certificate authorities it trusts, in one file."""

BUNDLES = ("/etc/ssl/certs/ca-certificates.crt", "/etc/pki/tls/certs/ca-bundle.crt")

PROXY_VARIABLES = ("http_proxy", "https_proxy", "all_proxy", "no_proxy")

APT_SETTINGS = (
    "Acquire::http::Proxy",
    "Acquire::https::Proxy",
    "Acquire::Check-Valid-Until",
    "Acquire::Check-Date",
    "Acquire::Retries",
)


@dataclass
class Indexes:
    """Where Python packages come from, as pip and uv share it.

    Attributes:
        index: The index's address; None for the tools' default.
        extra: Further indexes.
        find_links: Pages of links to archives.
        trusted: Hosts (`host` or `host:port`) whose certificate is not checked.
        timeout: Seconds without an answer; None for the tools' default.
        system_certs: Whether uv must use the system's certificate authorities.
        strategy: uv's `index-strategy`; None for its default.
        dropped: What was left out because it only makes sense on this machine.
    """

    index: str | None = None
    extra: list[str] = field(default_factory=list)
    find_links: list[str] = field(default_factory=list)
    trusted: list[str] = field(default_factory=list)
    timeout: int | None = None
    system_certs: bool = False
    strategy: str | None = None
    dropped: list[str] = field(default_factory=list)

    def differs(self) -> bool:
        """Whether a guest needs anything else than the tools' defaults."""
        return any(
            (self.index, self.extra, self.find_links, self.trusted, self.timeout, self.strategy)
        )


def reachable_from_guest(address: str) -> bool:
    """Whether an address can mean the same inside a guest.

    Args:
        address: A URL or a path.

    Returns:
        False for a path, a `file:` address and a server on the loopback.
    """
    parts = urlsplit(address)
    if parts.scheme not in ("http", "https", "socks5", "socks5h") or not parts.hostname:
        return False
    if parts.hostname == "localhost" or parts.hostname.endswith(".localhost"):
        return False
    try:
        return not ipaddress.ip_address(parts.hostname).is_loopback
    except ValueError:
        return True


def _keep(found: Indexes, addresses: list[str]) -> list[str]:
    kept = []
    for address in addresses:
        if reachable_from_guest(address):
            kept.append(address)
        elif address not in found.dropped:
            found.dropped.append(address)
    return kept


def pip_settings(files: list[str], environ: Mapping[str, str]) -> Indexes:
    """What pip would use for `pip install`.

    Later files win over earlier ones, `[install]` over `[global]`, `PIP_*` over all
    (https://pip.pypa.io/en/stable/topics/configuration/).

    Args:
        files: The texts of pip's configuration files, in pip's order.
        environ: Where `PIP_*` are looked up.

    Returns:
        The settings, without what a guest cannot reach.
    """
    merged: dict[str, str] = {}
    for text in files:
        parser = configparser.RawConfigParser()
        try:
            parser.read_string(text)
        except configparser.Error:
            continue  # pip itself would refuse; what it would not use, a guest need not have
        for section in ("global", "install"):
            if parser.has_section(section):
                for key, value in parser.items(section):
                    merged[key.replace("_", "-")] = value
    for name, value in environ.items():
        if name.startswith("PIP_") and value:
            merged[name[len("PIP_") :].lower().replace("_", "-")] = value

    found = Indexes()
    index = merged.get("index-url") or merged.get("pypi-url")
    found.index = next(iter(_keep(found, [index] if index else [])), None)
    found.extra = _keep(found, merged.get("extra-index-url", "").split())
    found.find_links = _keep(found, merged.get("find-links", "").split())
    found.trusted = merged.get("trusted-host", "").split()
    timeout = merged.get("timeout") or merged.get("default-timeout", "")
    found.timeout = int(timeout) if timeout.isdigit() else None
    return found


def uv_settings(files: list[str], environ: Mapping[str, str], pip: Indexes) -> Indexes:
    """What uv would use, completed by pip's settings where uv has none.

    A person who configured an index for pip alone means it for Python packages; uv would not look
    there by itself, and a guest would reach nothing.

    Args:
        files: The texts of uv's configuration files (`/etc/uv/uv.toml`, the user's), the more
            specific ones later (https://docs.astral.sh/uv/concepts/configuration-files/).
        environ: Where `UV_*` are looked up
            (https://docs.astral.sh/uv/reference/environment/).
        pip: pip's settings.

    Returns:
        The settings, without what a guest cannot reach.
    """
    found = Indexes()
    merged: dict[str, Any] = {}
    named: list[dict[str, Any]] = []
    for text in files:
        try:
            data = tomllib.loads(text)
        except tomllib.TOMLDecodeError:
            continue
        data = {**data, **data.pop("pip", {})}
        named = [*data.pop("index", []), *named]
        merged.update(data)

    def from_environment(*names: str) -> str:
        return next((environ[name] for name in names if environ.get(name)), "")

    def address(text: str) -> str:
        # An index may be written name=https://…
        return re.sub(r"^[A-Za-z0-9._-]+=", "", text)

    default = next((entry["url"] for entry in named if entry.get("default")), None)
    index = from_environment("UV_DEFAULT_INDEX", "UV_INDEX_URL") or default
    index = index or merged.get("index-url")
    found.index = next(iter(_keep(found, [address(index)] if index else [])), None) or pip.index

    extra = [address(word) for word in from_environment("UV_INDEX", "UV_EXTRA_INDEX_URL").split()]
    extra += [entry["url"] for entry in named if not entry.get("default")]
    extra += merged.get("extra-index-url", [])
    found.extra = _keep(found, extra) or pip.extra

    links = from_environment("UV_FIND_LINKS").replace(",", " ").split()
    found.find_links = _keep(found, links + merged.get("find-links", [])) or pip.find_links

    trusted = from_environment("UV_INSECURE_HOST").split()
    found.trusted = trusted + merged.get("allow-insecure-host", []) or pip.trusted

    timeout = from_environment("UV_HTTP_TIMEOUT", "UV_REQUEST_TIMEOUT")
    found.timeout = int(timeout) if timeout.isdigit() else pip.timeout
    certificates = from_environment("UV_SYSTEM_CERTS", "UV_NATIVE_TLS").lower()
    found.system_certs = certificates in ("1", "true", "yes", "on") or bool(
        merged.get("system-certs", merged.get("native-tls", False))
    )
    found.strategy = from_environment("UV_INDEX_STRATEGY") or merged.get("index-strategy")
    found.dropped += [entry for entry in pip.dropped if entry not in found.dropped]
    return found


def pip_conf(settings: Indexes) -> str:
    """Write pip's configuration for a guest.

    Args:
        settings: What `pip_settings` found.

    Returns:
        The text of `/etc/pip.conf`.
    """
    lines = ["[global]", f"cert = {GUEST_BUNDLE}"]
    if settings.index:
        lines.append(f"index-url = {settings.index}")
    for key, values in (
        ("extra-index-url", settings.extra),
        ("find-links", settings.find_links),
        ("trusted-host", settings.trusted),
    ):
        if values:
            lines += [f"{key} =", *(f"    {value}" for value in values)]
    if settings.timeout:
        lines.append(f"timeout = {settings.timeout}")
    return "\n".join(lines) + "\n"


def uv_toml(settings: Indexes) -> str:
    """Write uv's configuration for a guest.

    Args:
        settings: What `uv_settings` found.

    Returns:
        The text of `/etc/uv/uv.toml`; `system-certs` needs a uv that knows it (it was
        `native-tls` before, and uv refuses keys it does not know), so it stands there only
        where it is needed.
    """
    # A JSON string without control characters is a TOML basic string.
    lines = []
    if settings.system_certs:
        lines.append("system-certs = true")
    if settings.strategy:
        lines.append(f"index-strategy = {json.dumps(settings.strategy)}")
    for key, values in (
        ("find-links", settings.find_links),
        ("allow-insecure-host", settings.trusted),
    ):
        if values:
            lines.append(f"{key} = {json.dumps(values)}")
    for url in settings.extra:
        lines += ["", "[[index]]", f"url = {json.dumps(url)}"]
    if settings.index:
        lines += ["", "[[index]]", f"url = {json.dumps(settings.index)}", "default = true"]
    return "\n".join(lines) + "\n" if lines else ""


def environment_file(environ: Mapping[str, str], settings: Indexes) -> str:
    """What sessions on a guest find in their environment.

    Args:
        environ: This machine's environment.
        settings: uv's settings; its timeout has no place in `uv.toml`.

    Returns:
        The text of `/etc/environment` (pam_env(8)): proxies that a guest can reach.
    """
    lines = []
    for name in PROXY_VARIABLES:
        value = environ.get(name) or environ.get(name.upper(), "")
        if value and (name == "no_proxy" or reachable_from_guest(value)):
            lines += [f"{name}={value}", f"{name.upper()}={value}"]
    if not any("proxy=" in line and "no_proxy" not in line for line in lines):
        lines = []
    if settings.timeout:
        lines.append(f"UV_HTTP_TIMEOUT={settings.timeout}")
    return "\n".join(lines) + "\n" if lines else ""


def apt_conf(dump: str, for_guest: bool = True) -> str:
    """Write apt's configuration for a guest.

    Args:
        dump: What `apt-config dump` prints on this machine.
        for_guest: Whether to leave out proxies that a guest cannot reach.

    Returns:
        Lines for `/etc/apt/apt.conf.d/`: proxies, retries and checks of dates.
    """
    lines = []
    for line in dump.splitlines():
        match = re.fullmatch(r'([A-Za-z:-]+) "(.*)";', line)
        if match and match[1].lower() in {name.lower() for name in APT_SETTINGS} and match[2]:
            is_proxy = match[1].lower().endswith("::proxy")
            usable = not is_proxy or match[2] == "DIRECT" or reachable_from_guest(match[2])
            if usable or not for_guest:
                lines.append(line)
    return "\n".join(lines) + "\n" if lines else ""


def certificates(bundle: str) -> list[str]:
    """The certificates in a PEM bundle, each as its own text."""
    return re.findall(
        r"-----BEGIN CERTIFICATE-----.+?-----END CERTIFICATE-----", bundle, flags=re.DOTALL
    )


def machine_bundle() -> str:
    """The certificate authorities that this machine trusts, as one PEM text."""
    for path in (os.environ.get("SSL_CERT_FILE", ""), *BUNDLES):
        if path:
            try:
                return Path(path).read_text(encoding="utf-8", errors="replace")
            except OSError:
                continue
    return ""


def bundle_digest() -> str:
    """A digest of the certificate authorities that this machine trusts."""
    return hashlib.sha256("\n".join(sorted(certificates(machine_bundle()))).encode()).hexdigest()


def _texts(*paths: Path | str) -> list[str]:
    texts = []
    for path in paths:
        try:
            texts.append(Path(path).read_text(encoding="utf-8"))
        except OSError:
            continue
    return texts


def read_machine(environ: Mapping[str, str] | None = None) -> tuple[Indexes, Indexes]:
    """Read pip's and uv's settings on this machine.

    Args:
        environ: The environment to read; the process's own by default.

    Returns:
        pip's and uv's.
    """
    env = os.environ if environ is None else environ
    home = Path(env.get("HOME") or "/root")
    config = Path(env.get("XDG_CONFIG_HOME") or home / ".config")
    pip_files: list[Path | str] = [
        "/etc/xdg/pip/pip.conf",
        "/etc/pip.conf",
        home / ".pip" / "pip.conf",
        config / "pip" / "pip.conf",
    ]
    if env.get("PIP_CONFIG_FILE"):
        pip_files.append(env["PIP_CONFIG_FILE"])
    uv_files: list[Path | str] = ["/etc/uv/uv.toml", config / "uv" / "uv.toml"]
    if env.get("UV_CONFIG_FILE"):
        uv_files = [env["UV_CONFIG_FILE"]]
    pip = pip_settings(_texts(*pip_files), env)
    return pip, uv_settings(_texts(*uv_files), env, pip)


def read_apt(for_guest: bool = True) -> str:
    """Read apt's settings on this machine, as `apt_conf` gives them; empty without apt."""
    return apt_conf(run(["apt-config", "dump"], check=False).stdout, for_guest)
