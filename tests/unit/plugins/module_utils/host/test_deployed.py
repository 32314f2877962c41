# Copyright: (c) 2026, compute_plane.vllm contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
from __future__ import annotations

import json

import pytest

from ansible_collections.compute_plane.vllm.plugins.module_utils.host import deployed
from ansible_collections.compute_plane.vllm.plugins.module_utils.host.deployed import Deployed
from ansible_collections.compute_plane.vllm.tests.unit.plugins.module_utils.fake_host import (
    FakeHost,
    ok,
)

RELEASE = "/opt/vllm/releases/0.14.1-cpu-0123456789ab"
WANTS = "/etc/systemd/system/multi-user.target.wants"
SHOW = """\
Id=vllm@chat.service
LoadState=loaded
ActiveState=active
SubState=running
MainPID=4711
UnitFileState=enabled
User=vllm
ExecStart={ path=/opt/vllm/tools/bin/python ; argv[]=/opt/vllm/tools/bin/python -m x ; status=0/0 }
Environment=PATH=/opt/vllm/releases/0.14.1-cpu-0123456789ab/bin:/usr/bin VLLM_NO_USAGE_STATS=1

Id=vllm@old.service
LoadState=not-found
ActiveState=inactive
SubState=dead
MainPID=0
UnitFileState=
"""


def systemd(files, show=SHOW, **more):
    return FakeHost(
        {"/run/systemd/system/x": "", **files}, programs={"/usr/bin/systemctl": ok(show)}, **more
    )


def test_nothing_is_deployed_and_nothing_is_started():
    host = systemd({})
    assert Deployed(host).result() == {
        "tools": None,
        "releases": [],
        "instances": {},
        "measured": [],
        "power_unit": False,
        "recovery_unit": False,
    }
    assert host.started == []


@pytest.mark.parametrize("name", ["power", "recovery"])
def test_units_of_ours_for_cards(name):
    unit = {"power": "vllm-power", "recovery": "vllm-gpu-recovery"}[name]
    host = FakeHost({f"/etc/systemd/system/{unit}.service": "[Service]\n"})
    found = Deployed(host).result()
    assert {key: found[f"{key}_unit"] for key in ("power", "recovery")} == {
        "power": name == "power",
        "recovery": name == "recovery",
    }


def test_releases():
    manifest = {"release": "0.14.1", "accelerator": "cpu"}
    host = FakeHost(
        {
            f"{RELEASE}/.proved.json": json.dumps(manifest),
            "/opt/vllm/releases/half/bin/x": "",
            "/opt/vllm/releases/torn/.proved.json": '{"release": ',
            "/opt/vllm/releases/odd/.proved.json": "[]",
            "/opt/vllm/releases/.tmp-1/.proved.json": json.dumps(manifest),
            "/opt/vllm/releases/file": "",
        }
    )
    releases = {entry["name"]: entry for entry in Deployed(host).result()["releases"]}
    assert sorted(releases) == ["0.14.1-cpu-0123456789ab", "half", "odd", "torn"]
    assert releases["0.14.1-cpu-0123456789ab"] == {
        "path": RELEASE,
        "name": "0.14.1-cpu-0123456789ab",
        "proved": True,
        "manifest": manifest,
    }
    assert not any(releases[name]["proved"] for name in ("half", "torn", "odd"))


def test_tools():
    host = FakeHost(programs={"/opt/vllm/tools/bin/python": ok("")})
    assert Deployed(host).result()["tools"] == "/opt/vllm/tools"
    assert Deployed(FakeHost(directories=["/opt/vllm/tools/bin"])).result()["tools"] is None


def test_instances():
    host = systemd(
        {
            "/etc/vllm/chat.yaml": "model: /m\nport: 8001\n",
            "/etc/vllm/chat.env": "",
            "/etc/vllm/old.yaml": "",
        },
        links={
            f"{WANTS}/vllm@chat.service": "../vllm@.service",
            f"{WANTS}/ssh.service": "/lib/systemd/system/ssh.service",
        },
    )
    assert Deployed(host).result()["instances"] == {
        "chat": {
            "unit": "vllm@chat.service",
            "active_state": "active",
            "sub_state": "running",
            "enabled": True,
            "main_pid": 4711,
            "user": "vllm",
            "port": 8001,
            "venv": RELEASE,
        },
        "old": {
            "unit": "vllm@old.service",
            "active_state": "inactive",
            "sub_state": "dead",
            "enabled": False,
            "main_pid": None,
            "user": None,
            "port": None,
            "venv": None,
        },
    }
    # One program for all of them.
    [argv] = host.started
    assert argv[0:2] == ["/usr/bin/systemctl", "show"]
    assert argv[-3:] == ["vllm@chat.service", "vllm@old.service", "vllm@*.service"]


def test_a_unit_that_runs_without_its_files_is_found():
    host = systemd({"/etc/vllm/old.yaml": ""})
    assert sorted(Deployed(host).result()["instances"]) == ["chat", "old"]


def test_the_drop_in_tells_the_venv_of_a_unit_that_is_not_loaded():
    host = systemd(
        {
            "/etc/vllm/old.yaml": "",
            "/etc/systemd/system/vllm@old.service.d/10-plan.conf": (
                f"[Service]\nExecStart={RELEASE}/bin/vllm\n"
            ),
        }
    )
    assert Deployed(host).result()["instances"]["old"]["venv"] == RELEASE


def test_without_systemd():
    host = FakeHost({"/etc/vllm/chat.yaml": "port: 8000\n"})
    facts = Deployed(host).result()["instances"]["chat"]
    assert (facts["active_state"], facts["sub_state"], facts["port"]) == (None, None, 8000)


def test_whoever_may_not_read_the_configuration_reads_the_endpoint_record():
    record = json.dumps({"url": "http://[fd00::5]:8001"})
    host = systemd(
        {"/etc/vllm/chat.yaml": "port: 8001\n", "/etc/vllm/chat.endpoint.json": record},
        unreadable=["/etc/vllm/chat.yaml"],
    )
    assert Deployed(host).result()["instances"]["chat"]["port"] == 8001


@pytest.mark.parametrize("text", ["", "[]", "{}", '{"url": 1}', '{"url": "http://a:x"}'])
def test_a_record_without_a_port(text):
    assert deployed.port_in_record(text) is None


def test_other_directories():
    host = FakeHost({"/srv/etc/a.yaml": "", "/srv/opt/releases/r/.proved.json": "{}"})
    facts = Deployed(host, "/srv/opt/", "/srv/etc/").result()
    assert list(facts["instances"]) == ["a"]
    assert facts["releases"][0]["path"] == "/srv/opt/releases/r"


@pytest.mark.parametrize(
    ("text", "port"),
    [
        ("port: 8000\n", 8000),
        ("model: x\nport: '8001'\n", 8001),
        ('port: "8002"  # ours\n', 8002),
        ("max-num-seqs: 1\n", None),
        ("transport: 3\n", None),
        ("  port: 8000\n", None),
        ("port: many\n", None),
        ("", None),
    ],
)
def test_port(text, port):
    assert deployed.port_in_config(text) == port


@pytest.mark.parametrize(
    ("text", "venv"),
    [
        ("ExecStart=/opt/vllm/releases/a-b-c/bin/vllm serve", "/opt/vllm/releases/a-b-c"),
        ('Environment="VENV=/opt/vllm/releases/a"', "/opt/vllm/releases/a"),
        ("PATH=/opt/vllm/releases/a:/usr/bin", "/opt/vllm/releases/a"),
        ("/opt/vllm/tools/bin/python", None),
        ("/srv/opt/vllm-old/releases/a", None),
        ("", None),
    ],
)
def test_venv(text, venv):
    assert deployed.venv_in(text, "/opt/vllm") == venv
