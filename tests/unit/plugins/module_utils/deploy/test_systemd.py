# Copyright: (c) 2026, compute_plane.vllm contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
from __future__ import annotations

import pytest

from ansible_collections.compute_plane.vllm.plugins.module_utils.deploy import systemd


@pytest.mark.parametrize(
    ("word", "quoted"),
    [
        ("plain", '"plain"'),
        ("two words", '"two words"'),
        ('say "hi"', r'"say \"hi\""'),
        ("back\\slash", r'"back\\slash"'),
        ("100%", '"100%%"'),
        ("$HOME", '"$HOME"'),
        ("é", '"é"'),
    ],
)
def test_words_are_quoted_as_systemd_reads_them(word: str, quoted: str) -> None:
    assert systemd.quote(word) == quoted


@pytest.mark.parametrize("word", ["a\nb", "a\0b", "\x1b[0m", "a\x7f"])
def test_control_characters_are_refused(word: str) -> None:
    with pytest.raises(ValueError, match="control character"):
        systemd.quote(word)


def test_a_dollar_in_an_argument_is_not_a_variable() -> None:
    assert systemd.argument("$5") == '"$$5"'


def test_the_drop_in_keeps_each_setting_on_a_line_of_its_own() -> None:
    text = systemd.drop_in(
        "vllm@a.service",
        ["/opt/vllm/releases/r/bin/python", "-I", "100%"],
        "/opt/vllm/releases/r",
        {"A": "1 2"},
        ["DevicePolicy=closed"],
        ["/srv/m"],
    )
    assert text.splitlines()[1:] == [
        "[Unit]",
        'RequiresMountsFor="/srv/m"',
        "[Service]",
        'ExecStart="/opt/vllm/releases/r/bin/python" "-I" "100%%"',
        "DevicePolicy=closed",
        'Environment="A=1 2"',
        (
            'Environment="PATH=/opt/vllm/releases/r/bin:'
            '/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"'
        ),
        'Environment="PYTHONPYCACHEPREFIX=/opt/vllm/releases/r/.pycache"',
        'Environment="VIRTUAL_ENV=/opt/vllm/releases/r"',
    ]


def test_the_cuda_toolkit_is_on_the_path_where_the_plan_names_it() -> None:
    text = systemd.drop_in("u", ["/v"], "/v", {"CUDA_HOME": "/usr/local/cuda"}, [], [])
    assert 'Environment="PATH=/v/bin:/usr/local/cuda/bin:/usr/local/sbin:' in text


def test_the_configuration_is_what_a_yaml_parser_reads() -> None:
    import yaml

    config = {
        "model": "/srv/a: b",
        "port": 8000,
        "enforce-eager": True,
        "gpu-memory-utilization": 0.85,
        "served-model-name": ["a", "é"],
        "limit-mm-per-prompt": {"image": 1},
        "dtype": "off",
    }
    assert yaml.safe_load(systemd.config_file("vllm@a.service", config)) == config


def test_fingerprints_tell_configurations_apart() -> None:
    one = systemd.fingerprint("unit", {"a": 1, "b": 2})
    assert one == systemd.fingerprint("unit", {"b": 2, "a": 1})
    assert one != systemd.fingerprint("unit", {"a": 1, "b": 3})
    assert len(one) == 16


def test_the_fingerprint_of_a_running_server() -> None:
    environ = b"PATH=/bin\0COMPUTE_PLANE_FINGERPRINT=0123456789abcdef\0HOME=/\0"
    assert systemd.variable(environ, systemd.FINGERPRINT) == "0123456789abcdef"
    assert systemd.variable(b"PATH=/bin\0", systemd.FINGERPRINT) is None
    assert systemd.variable(None, systemd.FINGERPRINT) is None


def test_every_gpu_is_allowed_where_the_driver_does_not_tell() -> None:
    policy = systemd.device_policy(None)
    assert policy[0] == "DevicePolicy=closed"
    assert "DeviceAllow=char-195 rw" in policy
    assert "DeviceAllow=char-nvidia-uvm rw" in policy
    assert systemd.device_policy([]) == ["DevicePolicy=closed"]


@pytest.mark.parametrize(
    ("active", "running", "reason"),
    [
        ("active", "new", None),
        ("activating", "new", None),
        ("active", "old", "its configuration has changed"),
        ("activating", "old", "its configuration has changed"),
        ("active", None, "it is not running"),
        ("activating", None, "it is not running"),
        ("inactive", None, "it is inactive"),
        ("failed", None, "it is failed"),
        ("", None, "it is not there"),
    ],
)
def test_why_a_service_is_started(active: str, running: str | None, reason: str | None) -> None:
    assert systemd.needs_start(active, running, "new") == reason
