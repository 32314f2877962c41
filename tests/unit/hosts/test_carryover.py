# Copyright: (c) 2026, compute_plane.vllm contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
from __future__ import annotations

import configparser
import tomllib

import pytest
from throwaway import carryover
from throwaway.carryover import Indexes


@pytest.mark.parametrize(
    ("address", "reachable"),
    [
        ("https://index.example/simple", True),
        ("http://192.0.2.7:3141/root", True),
        ("https://user:secret@index.example/simple", True),
        ("http://localhost:3141/root", False),
        ("http://index.localhost/simple", False),
        ("http://127.0.0.1:8080", False),
        ("http://[::1]:8080", False),
        ("file:///opt/index/simple", False),
        ("/opt/wheels", False),
        ("wheels", False),
        ("", False),
    ],
)
def test_reachable_from_guest(address: str, reachable: bool) -> None:
    assert carryover.reachable_from_guest(address) is reachable


def test_pip_nothing_configured() -> None:
    settings = carryover.pip_settings([], {"PATH": "/bin"})
    assert settings == Indexes()
    assert carryover.pip_conf(settings) == "[global]\ncert = /etc/ssl/certs/ca-certificates.crt\n"


def test_pip_files_sections_and_environment_win_in_order() -> None:
    system = "[global]\nindex-url = https://one.example/simple\ntimeout = 30\n"
    user = """
[install]
index_url = https://two.example/simple
[global]
trusted-host =
    a.example
    b.example:8443
"""
    assert carryover.pip_settings([system], {}).index == "https://one.example/simple"
    both = carryover.pip_settings([system, user], {})
    assert both.index == "https://two.example/simple"
    assert both.timeout == 30
    assert both.trusted == ["a.example", "b.example:8443"]
    environ = {"PIP_INDEX_URL": "https://three.example/simple", "PIP_DEFAULT_TIMEOUT": "180"}
    last = carryover.pip_settings([system, user], environ)
    assert last.index == "https://three.example/simple"


def test_pip_leaves_out_what_only_this_machine_has() -> None:
    text = """
[global]
extra-index-url = file:///opt/index/simple https://extra.example/simple
find-links =
    /opt/wheels
    https://wheels.example/list
cert = /home/u/own.pem
"""
    settings = carryover.pip_settings([text], {"PIP_INDEX_URL": "http://127.0.0.1:3141/simple"})
    assert settings.index is None
    assert settings.extra == ["https://extra.example/simple"]
    assert settings.find_links == ["https://wheels.example/list"]
    assert settings.dropped == [
        "http://127.0.0.1:3141/simple",
        "file:///opt/index/simple",
        "/opt/wheels",
    ]
    guest = carryover.pip_conf(settings)
    assert "/opt" not in guest
    assert "own.pem" not in guest


def test_a_broken_pip_configuration_counts_as_none() -> None:
    assert carryover.pip_settings(["index-url = x"], {}) == Indexes()


def test_pip_conf_is_read_back_by_pips_own_parser() -> None:
    settings = Indexes(
        index="https://user:p%40ss@one.example/simple",
        extra=["https://two.example/simple", "https://three.example/simple"],
        trusted=["four.example"],
        timeout=60,
    )
    parser = configparser.RawConfigParser()
    parser.read_string(carryover.pip_conf(settings))
    read = dict(parser.items("global"))
    assert read["index-url"] == "https://user:p%40ss@one.example/simple"
    assert read["extra-index-url"].split() == settings.extra
    assert carryover.pip_settings([carryover.pip_conf(settings)], {}) == settings


def test_uv_takes_pips_settings_where_it_has_none() -> None:
    pip = Indexes(
        index="https://one.example/simple",
        extra=["https://two.example/simple"],
        find_links=["https://links.example/"],
        trusted=["two.example"],
        timeout=60,
        dropped=["/opt/wheels"],
    )
    uv = carryover.uv_settings([], {}, pip)
    assert uv == pip
    read = tomllib.loads(carryover.uv_toml(uv))
    assert read == {
        "find-links": ["https://links.example/"],
        "allow-insecure-host": ["two.example"],
        "index": [
            {"url": "https://two.example/simple"},
            {"url": "https://one.example/simple", "default": True},
        ],
    }


@pytest.mark.parametrize(
    ("files", "environ", "index", "extra"),
    [
        (['index-url = "https://a.example/"'], {}, "https://a.example/", ["https://pip.example/x"]),
        (['[[index]]\nurl = "https://a.example/"\ndefault = true'], {}, "https://a.example/", None),
        (['[[index]]\nname = "n"\nurl = "https://e.example/"'], {}, None, ["https://e.example/"]),
        (['[pip]\nindex-url = "https://a.example/"'], {}, "https://a.example/", None),
        ([], {"UV_DEFAULT_INDEX": "own=https://a.example/"}, "https://a.example/", None),
        ([], {"UV_INDEX_URL": "https://a.example/"}, "https://a.example/", None),
        (
            ['index-url = "https://file.example/"'],
            {"UV_INDEX": "n=https://b.example/ https://c.example/"},
            "https://file.example/",
            ["https://b.example/", "https://c.example/"],
        ),
        (
            [
                'extra-index-url = ["https://system.example/"]',
                'index-url = "https://user.example/"',
            ],
            {},
            "https://user.example/",
            ["https://system.example/"],
        ),
        (["this is no TOML"], {}, None, None),
        ([], {"UV_DEFAULT_INDEX": "file:///opt/index"}, None, None),
    ],
)
def test_uv_settings(
    files: list[str], environ: dict[str, str], index: str | None, extra: list[str] | None
) -> None:
    pip = Indexes(index="https://pip.example/", extra=["https://pip.example/x"])
    uv = carryover.uv_settings(files, environ, pip)
    assert uv.index == (index or pip.index)
    assert uv.extra == (extra or pip.extra)


@pytest.mark.parametrize(
    ("files", "environ", "wanted"),
    [
        ([], {}, False),
        (["system-certs = true"], {}, True),
        (["native-tls = true"], {}, True),
        (["native-tls = false"], {}, False),
        ([], {"UV_SYSTEM_CERTS": "1"}, True),
        ([], {"UV_NATIVE_TLS": "true"}, True),
        ([], {"UV_NATIVE_TLS": "0"}, False),
    ],
)
def test_uv_system_certificates(files: list[str], environ: dict[str, str], wanted: bool) -> None:
    uv = carryover.uv_settings(files, environ, Indexes())
    assert uv.system_certs is wanted
    assert ("system-certs = true" in carryover.uv_toml(uv)) is wanted


def test_no_uv_settings_no_file() -> None:
    assert carryover.uv_toml(Indexes()) == ""


def test_uv_toml_quotes() -> None:
    uv = Indexes(index='https://one.example/"quoted"\\', strategy="unsafe-best-match")
    read = tomllib.loads(carryover.uv_toml(uv))
    assert read["index"][0]["url"] == 'https://one.example/"quoted"\\'
    assert read["index-strategy"] == "unsafe-best-match"


@pytest.mark.parametrize(
    ("environ", "lines"),
    [
        ({}, []),
        ({"HTTP_PROXY": "http://127.0.0.1:3128", "NO_PROXY": "x"}, []),
        ({"no_proxy": "only.example"}, []),
        (
            {"https_proxy": "http://proxy.example:3128", "NO_PROXY": "in.example"},
            [
                "https_proxy=http://proxy.example:3128",
                "HTTPS_PROXY=http://proxy.example:3128",
                "no_proxy=in.example",
                "NO_PROXY=in.example",
            ],
        ),
    ],
)
def test_environment_file_has_reachable_proxies(environ: dict[str, str], lines: list[str]) -> None:
    assert carryover.environment_file(environ, Indexes()).splitlines() == lines


def test_environment_file_has_uvs_timeout() -> None:
    assert carryover.environment_file({}, Indexes(timeout=90)) == "UV_HTTP_TIMEOUT=90\n"


APT_DUMP = """\
APT "";
APT::Architecture "amd64";
Acquire::http::Proxy "http://127.0.0.1:3142";
Acquire::HTTPS::Proxy "http://proxy.example:3128";
Acquire::Check-Valid-Until "false";
Acquire::Retries "3";
Acquire::Languages "";
Acquire::Languages:: "none";
DPkg::Post-Invoke:: "rm -f /var/cache/apt/*.bin || true";
"""


def test_apt_conf_for_a_guest() -> None:
    assert carryover.apt_conf(APT_DUMP).splitlines() == [
        'Acquire::HTTPS::Proxy "http://proxy.example:3128";',
        'Acquire::Check-Valid-Until "false";',
        'Acquire::Retries "3";',
    ]


def test_apt_conf_for_a_build_on_this_machine() -> None:
    lines = carryover.apt_conf(APT_DUMP, for_guest=False).splitlines()
    assert lines[0] == 'Acquire::http::Proxy "http://127.0.0.1:3142";'
    assert len(lines) == 4


def test_certificates() -> None:
    one = "-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----"
    two = "-----BEGIN CERTIFICATE-----\nBBBB\n-----END CERTIFICATE-----"
    assert carryover.certificates(f"# a comment\n{one}\n{two}\n") == [one, two]
    assert carryover.certificates("") == []
