# Copyright: (c) 2026, compute_plane.vllm contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""`vllm_status` and `vllm_ready`: systemd is in the test, HTTP and processes are real."""

from __future__ import annotations

import http.server
import json
import sys
import threading
import time
from typing import Any

import pytest
from ansible.module_utils import basic

from ansible_collections.compute_plane.vllm.plugins.filter.status_table import status_table
from ansible_collections.compute_plane.vllm.plugins.module_utils import (
    supervisor as supervisor_package,
)
from ansible_collections.compute_plane.vllm.plugins.module_utils.status import instances
from ansible_collections.compute_plane.vllm.plugins.modules import vllm_ready, vllm_status
from ansible_collections.compute_plane.vllm.plugins.plugin_utils import code
from ansible_collections.compute_plane.vllm.tests.unit.plugins.module_args import patch_module_args

IDLE = b"vllm:num_requests_running 0.0\nvllm:num_requests_waiting 0.0\n"
UNKNOWN_FLAG = "usage: vllm serve\nvllm: error: unrecognized arguments: --max-modle-len\n"


class Handler(http.server.BaseHTTPRequestHandler):
    def do_GET(self):
        self.answer(IDLE if self.path == "/metrics" else b"{}")

    def do_POST(self):
        self.server.asked.append(self.path)  # type: ignore[attr-defined]
        self.server.go_on.wait(30)  # type: ignore[attr-defined]
        key = self.server.key  # type: ignore[attr-defined]
        is_allowed = key is None or self.headers["Authorization"] == f"Bearer {key}"
        self.answer(b'{"usage": {"completion_tokens": 1}}', 200 if is_allowed else 401)

    def answer(self, body, status=200):
        self.send_response(status)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *_):
        pass


class Site:
    """A host: its files, its units, its journal, and a server."""

    def __init__(self, tmp_path, monkeypatch, capsys):
        self.path = tmp_path
        self.capsys = capsys
        self.units: dict[str, dict[str, Any]] = {}
        self.journal: dict[str, str] = {}
        self.answers = True
        monkeypatch.setattr(basic.AnsibleModule, "run_command", self.run)
        monkeypatch.setattr(vllm_ready, "LAST_WORDS", 0.0)
        monkeypatch.setattr(vllm_ready, "GRACE", 0.0)
        for folder in ("etc", "units", "state/proved"):
            (tmp_path / folder).mkdir(parents=True)

    def run(self, command, **_):
        if command[0] == "systemctl":
            if not self.answers:
                return 1, "", "System has not been booted with systemd"
            return 0, self.show(command), ""
        selection = command[-1]
        return 0, self.journal.get(selection, ""), ""

    def show(self, command):
        asked = [unit for unit in command if unit.startswith("vllm@") and "*" not in unit]
        blocks = []
        for unit in sorted({*asked, *self.units}):
            shown = {"Id": unit, "LoadState": "not-found", "ActiveState": "inactive"}
            shown.update(self.units.get(unit, {}))
            blocks.append("\n".join(f"{key}={value}" for key, value in shown.items()))
        return "\n\n".join(blocks)

    def configure(self, name, port):
        text = f'model: "/srv/m"\nhost: "127.0.0.1"\nport: {port}\nserved-model-name: "{name}"\n'
        (self.path / "etc" / f"{name}.yaml").write_text(text)

    def call(self, module, **arguments):
        places = {
            "etc_dir": str(self.path / "etc"),
            "unit_dir": str(self.path / "units"),
            "state_dir": str(self.path / "state"),
        }
        with patch_module_args({**places, **arguments}), pytest.raises(SystemExit):
            module.main()
        return json.loads(self.capsys.readouterr().out)


@pytest.fixture
def site(tmp_path, monkeypatch, capsys):
    return Site(tmp_path, monkeypatch, capsys)


@pytest.fixture
def server():
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler) as made:
        made.asked = []  # type: ignore[attr-defined]
        made.key = None  # type: ignore[attr-defined]
        made.go_on = threading.Event()  # type: ignore[attr-defined]
        made.go_on.set()  # type: ignore[attr-defined]
        thread = threading.Thread(target=made.serve_forever)
        thread.start()
        yield made
        made.go_on.set()  # type: ignore[attr-defined]
        made.shutdown()
        thread.join()


ACTIVE = {"LoadState": "loaded", "ActiveState": "active", "SubState": "running", "Type": "notify"}
FAILED = {
    "LoadState": "loaded",
    "ActiveState": "failed",
    "SubState": "failed",
    "Result": "exit-code",
    "MainPID": "0",
    "ExecMainCode": "1",
    "ExecMainStatus": "2",
    "InvocationID": "abc",
}


def test_nothing_is_deployed(site):
    assert site.call(vllm_status)["instances"] == []


def test_systemd_does_not_answer(site):
    site.answers = False
    site.configure("a-chat", 1)
    (found,) = site.call(vllm_status)["instances"]
    assert found["serves"] is False


def test_an_instance_that_answers(site, server):
    site.configure("a-chat", server.server_address[1])
    site.units["vllm@a-chat.service"] = {**ACTIVE, "MainPID": "1", "NRestarts": "0"}
    (found,) = site.call(vllm_status)["instances"]
    assert (found["state"], found["serves"], found["remedy"]) == ("ready", True, None)
    assert found["model"] == "a-chat"
    assert found["url"] == f"http://127.0.0.1:{server.server_address[1]}"
    assert server.asked == ["/v1/completions"]


def test_a_failed_unit_with_the_cause_from_its_log(site):
    site.configure("a-chat", 1)
    site.units["vllm@a-chat.service"] = FAILED
    site.journal["_SYSTEMD_INVOCATION_ID=abc"] = UNKNOWN_FLAG
    (found,) = site.call(vllm_status)["instances"]
    assert (found["state"], found["cause"]) == ("crashed", "unknown_flag")
    assert found["log"] == UNKNOWN_FLAG.splitlines()
    assert "exit status 2" in found["evidence"]


def test_the_causes_are_asked_for_only_where_a_server_has_ended(site, monkeypatch, tmp_path):
    """As on a host: what is sent with the module has no `causes`."""
    name = f"{supervisor_package.__name__}.causes"
    monkeypatch.setattr(supervisor_package, "causes", supervisor_package.causes)
    monkeypatch.setitem(sys.modules, name, None)
    site.configure("a-chat", 1)
    assert site.call(vllm_status)["instances"][0]["state"] == "stopped"

    site.units["vllm@a-chat.service"] = FAILED
    site.journal["_SYSTEMD_INVOCATION_ID=abc"] = UNKNOWN_FLAG
    asks = site.call(vllm_status)
    assert (asks["failed"], asks["needs_code"]) == (True, True)

    sent = tmp_path / "code.zip"
    sent.write_bytes(code.archive())
    monkeypatch.delitem(sys.modules, name)
    monkeypatch.setattr(supervisor_package, "__path__", [])
    (found,) = site.call(vllm_status, code_archive=str(sent))["instances"]
    assert (found["state"], found["cause"]) == ("crashed", "unknown_flag")
    assert sys.modules[name].__file__ == str(sent / "supervisor" / "causes.py")


def test_wanted_and_not_there(site):
    (found,) = site.call(vllm_status, wanted=["a-chat"])["instances"]
    assert (found["state"], found["summary"]) == ("stopped", "it is not deployed")


def test_a_unit_without_files_is_found_all_the_same(site):
    site.units["vllm@old.service"] = FAILED
    (found,) = site.call(vllm_status)["instances"]
    assert (found["name"], found["state"]) == ("old", "crashed")


def test_an_engine_that_does_not_answer_is_told_within_the_patience(site, server):
    server.go_on.clear()
    site.configure("a-chat", server.server_address[1])
    site.units["vllm@a-chat.service"] = {**ACTIVE, "MainPID": "1"}
    began = time.monotonic()
    (found,) = site.call(vllm_status, patience=2)["instances"]
    assert time.monotonic() - began < 10
    # No process to look at, so it is not said that it hangs; but not that it is ready either.
    assert found["state"] == "busy"
    assert "unanswered" in "\n".join(found["evidence"])


def test_ready_at_once(site, server):
    site.configure("a-chat", server.server_address[1])
    site.units["vllm@a-chat.service"] = {**ACTIVE, "MainPID": "1"}
    result = site.call(vllm_ready, timeout=20)
    assert result["changed"] is False
    assert result["instances"][0]["ready_seconds"] < 10


def test_it_becomes_ready_meanwhile(site, server):
    site.configure("a-chat", server.server_address[1])
    unit = site.units["vllm@a-chat.service"] = {**ACTIVE, "ActiveState": "activating"}
    timer = threading.Timer(2.0, lambda: unit.update(ActiveState="active"))
    timer.start()
    result = site.call(vllm_ready, timeout=20, instances=["a-chat"])
    timer.join()
    assert result["instances"][0]["ready_seconds"] >= 1


def test_each_run_is_asked_with_its_own_key(site, server, monkeypatch):
    """A new key is in force from the restart on; before a run has begun its key is nowhere."""
    server.key = "new"
    site.configure("a-chat", server.server_address[1])
    unit = site.units["vllm@a-chat.service"] = {
        **ACTIVE,
        "ActiveState": "deactivating",
        "InvocationID": "one",
        "ExecMainStartTimestampMonotonic": "1000000",
    }
    keys = {"one": "old", "two": "new"}
    monkeypatch.setattr(instances, "api_key", lambda _: keys[unit["InvocationID"]])
    second = {"InvocationID": "two", "ExecMainStartTimestampMonotonic": "2000000"}
    timer = threading.Timer(1.5, lambda: unit.update(second, ActiveState="active"))
    timer.start()
    result = site.call(vllm_ready, timeout=20)
    timer.join()
    assert "msg" not in result
    assert result["instances"][0]["state"] == "ready"


def test_a_key_that_nobody_knows(site, server):
    server.key = "secret"
    site.configure("a-chat", server.server_address[1])
    site.units["vllm@a-chat.service"] = {**ACTIVE, "MainPID": "1"}
    result = site.call(vllm_ready, timeout=20)
    assert "it wants an API key that is not in its environment" in result["msg"]


def test_the_failure_says_why_and_what_to_do(site):
    site.configure("a-chat", 1)
    site.units["vllm@a-chat.service"] = FAILED
    site.journal["_SYSTEMD_INVOCATION_ID=abc"] = UNKNOWN_FLAG
    result = site.call(vllm_ready, timeout=20, instances=["a-chat"])
    assert result["failed"] is True
    for part in (
        "vllm@a-chat.service: crashed",
        "vLLM does not know one of its arguments",
        "exit status 2",
        "Remedy: Correct extra_args",
        "  vllm: error: unrecognized arguments: --max-modle-len",
    ):
        assert part in result["msg"]


def test_the_endpoint_record_says_whether_it_is_ready(site, server):
    site.configure("a-chat", server.server_address[1])
    site.units["vllm@a-chat.service"] = ACTIVE
    record = site.path / "etc/a-chat.endpoint.json"

    def says(**arguments):
        result = site.call(vllm_ready, timeout=20, instances=["a-chat"], **arguments)
        return result["changed"], json.loads(record.read_text())

    verified = {"schema": 1, "instance": "a-chat", "state": "verified"}
    record.write_text(json.dumps(verified))
    assert says() == (False, verified)
    assert says(publish=True, _ansible_check_mode=True) == (False, verified)
    # A token proves no truth: vllm_verify says that it is verified again.
    assert says(publish=True) == (True, {**verified, "state": "starting"})
    site.units["vllm@a-chat.service"] = FAILED
    assert says(publish=True) == (True, {**verified, "state": "failed"})
    assert says() == (False, {**verified, "state": "failed"})


def test_without_an_endpoint_record_none_is_made(site, server):
    site.configure("a-chat", server.server_address[1])
    site.units["vllm@a-chat.service"] = ACTIVE
    assert site.call(vllm_ready, timeout=20, publish=True)["changed"] is False
    assert not (site.path / "etc/a-chat.endpoint.json").exists()


def test_a_restart_between_two_looks_is_a_failure_of_the_run_before(site, monkeypatch):
    site.configure("a-chat", 1)
    unit = site.units["vllm@a-chat.service"] = {
        **ACTIVE,
        "ActiveState": "activating",
        "NRestarts": "0",
        "InvocationID": "one",
        "ExecMainStartTimestampMonotonic": "1000000",
    }
    site.journal["_SYSTEMD_INVOCATION_ID=one"] = UNKNOWN_FLAG
    monkeypatch.setattr(
        vllm_ready.time,
        "sleep",
        lambda _: unit.update(
            NRestarts="1", InvocationID="two", ExecMainStartTimestampMonotonic="2000000"
        ),
    )
    result = site.call(vllm_ready, timeout=20)
    assert result["failed"] is True
    assert "vLLM does not know one of its arguments" in result["msg"]


def test_the_time_is_over(site):
    site.configure("a-chat", 1)
    site.units["vllm@a-chat.service"] = {**ACTIVE, "ActiveState": "activating", "InvocationID": "x"}
    site.journal["_SYSTEMD_INVOCATION_ID=x"] = (
        "(EngineCore_DP0 pid=5) Loading safetensors checkpoint shards:  50% Completed | 2/4"
    )
    result = site.call(vllm_ready, timeout=1)
    assert result["failed"] is True
    assert "vllm@a-chat.service: loading, not ready after" in result["msg"]
    assert "it loads the weights, 50 %" in result["msg"]


@pytest.mark.parametrize(
    ("says", "state"),
    [("waiting before start 3 of 5, up to 200 s more", "starting"), ("", "hung at start")],
)
def test_a_supervisor_that_waits_before_a_start_does_not_hang(site, monkeypatch, says, state):
    hung = instances.Verdict("hung at start", "done nothing", ("CPU 0.00 cores",), "Restart")
    monkeypatch.setattr(instances, "classify", lambda *_: hung)
    site.configure("a-chat", 1)
    site.units["vllm@a-chat.service"] = {**ACTIVE, "ActiveState": "activating", "StatusText": says}
    result = site.call(vllm_ready, timeout=2, stall=1)
    assert result["instances"][0]["state"] == state


def test_check_mode_looks_once_and_does_not_fail(site):
    site.configure("a-chat", 1)
    site.units["vllm@a-chat.service"] = FAILED
    result = site.call(vllm_ready, timeout=600, _ansible_check_mode=True)
    assert "failed" not in result
    assert result["instances"][0]["state"] == "crashed"


def test_all_that_are_not_ready_are_named(site):
    for name in ("a", "b"):
        site.configure(name, 1)
        site.units[f"vllm@{name}.service"] = FAILED
    result = site.call(vllm_ready, timeout=5)
    assert "vllm@a.service" in result["msg"]
    assert "vllm@b.service" in result["msg"]


@pytest.mark.parametrize(
    ("age", "told"),
    [(0, "hung while serving"), (9000, None)],
)
def test_what_the_supervisor_said_counts_for_the_run_it_ended(tmp_path, monkeypatch, age, told):
    said = {
        "at": time.time() - age,
        "state": "hung while serving",
        "summary": "no token for 60 s",
        "evidence": ["3 running"],
        "remedy": "Restart",
    }
    monkeypatch.setattr(instances, "read_file", lambda _: json.dumps(said))
    began = int((time.monotonic() - 100) * 1e6)
    show = {"RuntimeDirectory": "vllm/a-chat", "ExecMainStartTimestampMonotonic": str(began)}
    verdict = instances.last_words(show)
    assert (None if verdict is None else verdict.state) == told


@pytest.mark.parametrize("text", ["", "{", "[]", '{"at": "x"}', '{"at": 1}', "null"])
def test_what_the_supervisor_said_is_not_to_be_read(monkeypatch, text):
    monkeypatch.setattr(instances, "read_file", lambda _: text)
    assert instances.last_words({"RuntimeDirectory": "x"}) is None


@pytest.mark.parametrize(("said", "told"), [("gpu_lost", "gpu_lost"), ("unknown", "unknown_flag")])
def test_a_card_that_the_supervisor_saw_lost_counts_more_than_the_log(
    site, monkeypatch, said, told
):
    site.configure("a-chat", 1)
    site.units["vllm@a-chat.service"] = FAILED
    site.journal["_SYSTEMD_INVOCATION_ID=abc"] = UNKNOWN_FLAG
    last = instances.Verdict("crashed", "the GPU is lost", ("Xid 79",), "Reboot", cause=said)
    monkeypatch.setattr(instances, "last_words", lambda _show: last)
    [found] = site.call(vllm_status)["instances"]
    assert found["cause"] == told


# -- the table ------------------------------------------------------------------------------------


def test_the_table(site, server):
    site.configure("a-chat", server.server_address[1])
    site.units["vllm@a-chat.service"] = {**ACTIVE, "MainPID": "1"}
    site.units["vllm@old.service"] = FAILED
    site.journal["_SYSTEMD_INVOCATION_ID=abc"] = UNKNOWN_FLAG
    found = site.call(vllm_status)["instances"]
    lines = status_table({"two": found, "one": []}).splitlines()
    assert lines[0].split() == (
        ["HOST", "INSTANCE", "STATE", "SINCE", "REQUESTS", "MEMORY", "GPU", "VLLM", "ADDRESS"]
    )
    assert lines[1].split()[:5] == ["two", "a-chat", "ready", "-", "0+0"]
    assert lines[2].split()[:3] == ["two", "old", "crashed"]
    assert "one has none." in lines
    assert (
        "two old: crashed: vLLM does not know one of its arguments, or refuses its value" in lines
    )
    assert "    vllm: error: unrecognized arguments: --max-modle-len" in lines


def test_what_the_engine_measured_is_shown_beside_what_was_predicted(site, server):
    site.configure("a-chat", server.server_address[1])
    site.units["vllm@a-chat.service"] = {**ACTIVE, "MainPID": "1"}
    predicted = {"weights_bytes": 15 << 30, "kv_cache_tokens": 90704, "max_model_len": 90704}
    proved = {
        "current": {
            "release": "0.26.0",
            "fingerprint": "f",
            "expected": {"key": "k", "for": {}, "predicted": predicted},
        }
    }
    engine = {"weights_bytes": 15 << 30, "kv_cache_tokens": 90608}
    verified = {"fingerprint": "f", "max_model_len": 90608, "engine": engine}
    (site.path / "state/proved/a-chat.json").write_text(json.dumps(proved))
    (site.path / "state/verified").mkdir()
    (site.path / "state/verified/a-chat.json").write_text(json.dumps(verified))
    (one,) = site.call(vllm_status)["instances"]
    assert one["engine"] == {
        "measured": {**engine, "max_model_len": 90608},
        "predicted": predicted,
    }
    assert status_table({"a": [one]}).splitlines()[-1] == (
        "a a-chat: weights 15.0 GiB (predicted 15.0 GiB, +0.0 %); KV tokens 90,608 (predicted "
        "90,704, -0.1 %); context 90,608 (predicted 90,704, -0.1 %)"
    )


@pytest.mark.parametrize(
    ("proved", "verified"),
    [
        (None, None),
        ('{"current": {"fingerprint": "f"}}', None),
        # Of another deployment, and of a collection that read no log yet.
        ('{"current": {"fingerprint": "f"}}', '{"fingerprint": "g", "engine": {"a": 1}}'),
        ('{"current": {"fingerprint": "f"}}', '{"fingerprint": "f", "max_model_len": 1}'),
        ("[]", "[]"),
    ],
)
def test_nothing_is_shown_of_what_was_not_measured(proved, verified):
    assert instances.engine_of(proved, verified) is None


def test_the_table_of_nothing():
    assert status_table({"one": [], "two": []}) == "No vLLM instance is deployed on: one, two"
    assert status_table({}) == "No vLLM instance is deployed on: no host"


@pytest.mark.parametrize(
    ("said", "state", "serves"),
    [
        ({"state": "asleep", "summary": "it is asleep"}, "asleep", True),
        ({"state": "starting", "summary": "it has not computed a token yet"}, "starting", False),
        ({"state": "put out", "summary": "it is put out"}, "starting", False),
    ],
)
def test_one_on_demand_is_what_its_supervisor_says(site, said, state, serves):
    run = site.path / "run" / "a"
    run.mkdir(parents=True)
    (run / "state.json").write_text(json.dumps(said))
    site.configure("a", 8000)
    with (site.path / "etc" / "a.yaml").open("a") as stream:
        stream.write(f'uds: "{run}/server.sock"\n')
    places = instances.Places(
        str(site.path / "etc"), str(site.path), str(site.path), str(run.parent)
    )
    # The unit has been active for days; there is no server that could hang.
    show = {**ACTIVE, "ExecMainStartTimestampMonotonic": "1", "MainPID": "1"}
    instance = instances.Instance("a", lambda _command: (0, "", ""), places, 1.0)
    instance.look(show, ask=True)
    described = instance.describe(instance.verdict(instances.Limits()), lines=0)
    assert (described["state"], described["serves"]) == (state, serves)
    assert not instance.has_asked
    waiting = vllm_ready.Waiting(instance, instances.Limits(), 60)
    waiting.look(show, elapsed=5.0)
    assert (waiting.ready_seconds is not None, waiting.why) == (serves, None)
