# Copyright: (c) 2026, compute_plane.vllm contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
from __future__ import annotations

import signal

import pytest

from ansible_collections.compute_plane.vllm.plugins.module_utils.benchmark import (
    client,
    measure,
    tuning,
)
from ansible_collections.compute_plane.vllm.plugins.module_utils.deploy import deployment as d
from ansible_collections.compute_plane.vllm.plugins.module_utils.service import tuner
from ansible_collections.compute_plane.vllm.plugins.module_utils.service.failures import StartFailed
from ansible_collections.compute_plane.vllm.plugins.modules import vllm_tune

ENVIRONMENT = {"HF_HUB_OFFLINE": "1"}
SPACE = {"max_num_seqs": [None, 4, 8, 99]}


def planned(seqs):
    config = {"model": "/m", "port": 8000}
    if seqs is not None:
        config["max-num-seqs"] = seqs
    problems = ["max_num_seqs: too many"] if seqs == 99 else []
    instance = {"name": "a", "config": config, "environment": ENVIRONMENT, "gpus": []}
    return {
        "choice": {"max_num_seqs": seqs},
        "problems": problems,
        "instance": None if problems else instance,
        "keeps_backend": False,
        "gpu_power": {},
    }


def deployed():
    wanted = {
        **planned(None)["instance"],
        "venv": "/opt/v",
        "url": "http://127.0.0.1:8000",
        "served_model_name": "a",
    }
    host = d.Common(release="0.14.1", unit="[Service]\n", supervisor="/opt/s")
    return d.deployment(wanted, host, [])


class Ended(Exception):
    """What the fake module ends with."""


class Module:
    check_mode = False

    def exit_json(self, **result):
        raise Ended(result)


class Progress:
    def update(self, what, **fields):
        pass

    def close(self):
        pass


class File:
    """The host's files as a dictionary."""

    disk: dict[str, str]

    def __init__(self, path, text, mode=0o644, group="root"):
        self.path, self.text = path, text

    def is_right(self):
        return self.disk.get(self.path) == self.text

    def write(self):
        self.disk[self.path] = self.text


class Services:
    """A host with one server, which a test can make fail.

    `starts` are the fingerprints that were started; `bad` those that do not come up.
    """

    def __init__(self, former, disk):
        self.module, self.progress = Module(), Progress()
        self.former, self.disk = former, disk
        self.serving, self.restarts = former.fingerprint, "0"
        self.starts, self.bad, self.on_start = [], set(), None
        self.state = "verified"
        self.stopping = 0
        self.params = {
            "candidates": [planned(seqs) for seqs in SPACE["max_num_seqs"]],
            "space": SPACE,
            "accelerator": "cpu",
            "goal": "latency",
            "margin": 3.0,
            "sweep": [{"concurrency": 1, "input_tokens": 8, "output_tokens": 8}],
            "repeats": 1,
            "time_limit": 60,
            "run_timeout": 60,
            "start_timeout": 60,
            "drain": 30,
            "answer_timeout": 60,
            "proof": [],
            "user": "vllm",
            "results_dir": "/results",
        }

    def record(self, name):
        return d.Record(self.former)

    def api_key(self, name):
        return None

    def config_path(self, name):
        return "/etc/vllm/a.yaml"

    def drop_in_path(self, name):
        return "/etc/systemd/system/vllm@a.service.d/10.conf"

    def show(self, units):
        if self.stopping:
            self.stopping -= 1
            return {units[0]: {"ActiveState": "deactivating", "NRestarts": "0"}}
        return {units[0]: {"ActiveState": "active", "NRestarts": self.restarts}}

    def running(self, state):
        return "candidate" if state["ActiveState"] == "deactivating" else self.serving

    def publish(self, name, state):
        self.state = state

    def write(self, files):
        for file in files:
            file.write()

    def restart(self, wanted):
        # A server reads what is on the disk, and nobody relies on it meanwhile.
        assert self.state == "starting"
        assert self.disk[self.config_path("a")] == wanted.config_text
        assert self.disk[self.drop_in_path("a")] == wanted.drop_in_text
        self.starts.append(wanted.fingerprint)
        if self.on_start is not None:
            self.on_start(wanted)
        if wanted.fingerprint in self.bad:
            self.serving = None
            raise StartFailed("it did not come up")
        self.serving = wanted.fingerprint
        return 40.0

    def fail(self, message):
        raise Ended({"failed": True, "msg": message})


def points(milliseconds):
    figures = {"output_throughput": {"median": 1.0}, "e2el_ms": {"median": milliseconds}}
    load = {"concurrency": 1, "input_tokens": 8, "output_tokens": 8}
    return [{**load, "figures": figures, "runs": []}]


@pytest.fixture
def host(monkeypatch):
    former = deployed()
    disk = {}
    monkeypatch.setattr(File, "disk", disk, raising=False)
    monkeypatch.setattr(tuner, "File", File)
    services = Services(former, disk)
    disk[services.config_path("a")] = former.config_text
    disk[services.drop_in_path("a")] = former.drop_in_text
    services.costs = {None: 100.0, 4: 50.0, 8: 200.0}

    class Client:
        def __init__(self, *arguments):
            pass

        def __enter__(self):
            return self

        def __exit__(self, *error):
            pass

        def wait_until_ready(self):
            pass

    class Endpoint:
        def __init__(self, *arguments):
            pass

        def models(self):
            return [{"id": "a", "max_model_len": 512}]

    def measured(runner, watch, now, loads, params, **options):
        # While it is measured, the former configuration is on the disk.
        assert disk[services.config_path("a")] == former.config_text
        assert disk[services.drop_in_path("a")] == former.drop_in_text
        for seqs, cost in services.costs.items():
            if serving_seqs(services) == seqs:
                if isinstance(cost, Exception):
                    raise cost
                return points(cost)
        raise AssertionError("an unknown server is measured")

    monkeypatch.setattr(client, "BenchClient", Client)
    for user in (measure, tuner):
        monkeypatch.setattr(user, "Endpoint", Endpoint)
    monkeypatch.setattr(tuner, "verify", lambda *arguments: [])
    monkeypatch.setattr(measure, "measure", measured)
    before = signal.getsignal(signal.SIGTERM)
    yield services
    signal.signal(signal.SIGTERM, before)


def serving_seqs(services):
    """Which candidate serves."""
    for seqs in (None, 4, 8):
        if services.serving == fingerprint(services, seqs):
            return seqs
    return "nothing"


def fingerprint(services, seqs):
    if seqs is None:
        return services.former.fingerprint
    return tuning.variant(
        services.former, ENVIRONMENT, planned(seqs)["instance"]["config"], ENVIRONMENT
    ).fingerprint


def tune(services):
    with pytest.raises(Ended) as end:
        vllm_tune.tune(services)
    return end.value.args[0]


def is_as_before(services):
    return (
        services.serving == services.former.fingerprint
        and services.state == "verified"
        and services.disk[services.config_path("a")] == services.former.config_text
        and services.disk[services.drop_in_path("a")] == services.former.drop_in_text
    )


def test_the_best_is_named_and_what_served_serves_again(host):
    result = tune(host)
    assert result["best"] == {"max_num_seqs": 4}
    assert (result["better"], result["lines"]) == (True, ["max_num_seqs: 4"])
    states = {row["choice"]["max_num_seqs"]: row["state"] for row in result["candidates"]}
    assert states == {None: "measured", 4: "measured", 8: "measured", 99: "impossible"}
    # What served was measured as it was; each other was started once, and it once again.
    assert host.starts == [fingerprint(host, seqs) for seqs in (4, 8, None)]
    assert is_as_before(host)
    assert "/results/a.tune.json" in host.disk


def test_for_the_startup_each_is_started_with_filled_caches(host):
    host.params["goal"] = "startup"
    tune(host)
    assert [host.starts.count(fingerprint(host, seqs)) for seqs in (4, 8)] == [2, 2]
    assert is_as_before(host)


@pytest.mark.parametrize("seqs", [4, 8])
def test_a_candidate_that_does_not_come_up_is_named_and_the_next_one_tried(host, seqs):
    host.bad = {fingerprint(host, seqs)}
    result = tune(host)
    states = {row["choice"]["max_num_seqs"]: row["state"] for row in result["candidates"]}
    assert states[seqs] == "failed"
    assert [row["reason"] for row in result["candidates"] if row["state"] == "failed"] == [
        "it did not come up"
    ]
    assert states[12 - seqs] == "measured"
    assert is_as_before(host)


def test_a_candidate_whose_measurement_fails_is_named(host):
    host.costs[4] = client.BenchClientError("3 of 4 requests were answered")
    result = tune(host)
    assert result["better"] is False
    assert is_as_before(host)


def test_what_serves_must_be_measurable(host):
    host.costs[None] = client.BenchClientError("no")
    result = tune(host)
    assert result["failed"]
    assert "what serves now could not be measured: no" in result["msg"]
    assert host.starts == []
    assert is_as_before(host)


@pytest.mark.parametrize("problem", [SystemExit(143), KeyboardInterrupt(), RuntimeError("odd")])
def test_whatever_ends_it_what_served_serves_again(host, problem):
    def on_start(wanted):
        if wanted.fingerprint != host.former.fingerprint:
            host.serving = wanted.fingerprint
            raise problem

    host.on_start = on_start
    with pytest.raises(type(problem)):
        vllm_tune.tune(host)
    assert is_as_before(host)


def test_a_run_of_the_site_playbook_meanwhile_wins(host):
    def on_start(wanted):
        # It has put the inventory's configuration in place and started that.
        host.disk[host.config_path("a")] = "somebody's"
        host.serving = "somebody's"

    host.bad = {fingerprint(host, 4)}
    host.on_start = on_start
    result = tune(host)
    assert result["failed"]
    assert "is left as it is" in result["msg"]
    assert len(host.starts) == 1
    assert host.disk[host.config_path("a")] == "somebody's"


def test_so_does_one_that_wants_what_served(host):
    def restarted(wanted):
        host.serving = host.former.fingerprint
        raise StartFailed("another configuration answers")

    host.on_start = restarted
    result = tune(host)
    assert "was restarted by somebody else" in result["msg"]
    assert len(host.starts) == 1
    host.state = "verified"  # the site playbook says so when it has proved it
    assert is_as_before(host)


def test_a_candidate_that_ends_is_restarted_by_systemd_as_the_former(host):
    def crashed(wanted):
        if wanted.fingerprint == fingerprint(host, 4):
            host.serving, host.restarts = host.former.fingerprint, "1"
            raise StartFailed("it ended by itself")
        host.restarts = "0"

    host.on_start = crashed
    states = {row["choice"]["max_num_seqs"]: row["state"] for row in tune(host)["candidates"]}
    assert (states[4], states[8]) == ("failed", "measured")
    assert is_as_before(host)


@pytest.mark.parametrize(
    ("spoil", "words"),
    [
        (lambda host: setattr(host, "record", lambda name: None), "was never proved here"),
        (lambda host: setattr(host, "serving", None), "does not run as it was proved"),
        (lambda host: setattr(host, "serving", "x"), "its configuration has changed"),
        (
            lambda host: host.params["candidates"][0]["instance"]["config"].update({"port": 1}),
            "is not what the inventory says",
        ),
    ],
)
def test_what_serves_must_be_what_the_inventory_says(host, spoil, words):
    spoil(host)
    result = tune(host)
    assert result["failed"]
    assert words in result["msg"]
    assert "run the site playbook first" in result["msg"]
    assert host.starts == []


def test_a_backend_that_was_found_on_the_host_stays(host):
    flags = {"model": "/m", "port": 8000, "attention-backend": "FLASH_ATTN"}
    found = tuning.variant(host.former, ENVIRONMENT, flags, ENVIRONMENT)
    host.former, host.serving = found, found.fingerprint
    host.disk[host.config_path("a")] = found.config_text
    host.disk[host.drop_in_path("a")] = found.drop_in_text
    for row in host.params["candidates"]:
        row["keeps_backend"] = True
        if row["instance"]:
            row["instance"]["config"]["attention-backend"] = "TRITON_ATTN"
    tuned = tuner.Tuning(host)
    assert tuned.deployment({"max_num_seqs": None}) == found
    four = tuned.deployment({"max_num_seqs": 4})
    assert (four.config["attention-backend"], four.attention_backend) == (
        "FLASH_ATTN",
        "FLASH_ATTN",
    )


def test_a_server_that_is_being_stopped_is_waited_for(host, monkeypatch):
    monkeypatch.setattr(tuner.time, "sleep", lambda seconds: None)

    def restarted(wanted):
        host.serving, host.stopping = host.former.fingerprint, 3
        raise StartFailed("its requests were refused")

    host.on_start = restarted
    assert "was restarted by somebody else" in tune(host)["msg"]
    assert len(host.starts) == 1
