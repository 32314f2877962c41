# Copyright: (c) 2026, compute_plane.vllm contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
from __future__ import annotations

import json
from pathlib import Path

import pytest

from ansible_collections.compute_plane.vllm.plugins.module_utils.benchmark import (
    client,
    measure,
    run,
)
from ansible_collections.compute_plane.vllm.plugins.module_utils.common.openai_client import (
    EndpointError,
)
from ansible_collections.compute_plane.vllm.plugins.module_utils.deploy import deployment as d
from ansible_collections.compute_plane.vllm.plugins.modules import vllm_benchmark

CONFIG = {"model": "/m", "port": 8000}
LOAD = {"concurrency": 1, "input_tokens": 64, "output_tokens": 32}


class Ended(Exception):
    """What the fake module ends with."""


class Module:
    def __init__(self):
        self.check_mode = False

    def exit_json(self, **result):
        raise Ended(result)

    def run_command(self, command):
        return 0, "Using AttentionBackendEnum.TRITON_ATTN backend.", ""


class Progress:
    lines: list[str]

    def __init__(self):
        self.lines = []

    def update(self, what, **fields):
        self.lines.append(f"{what} {fields.get('detail', '')}".strip())

    def close(self):
        pass


class Services:
    def __init__(self, folder):
        wanted = {
            "name": "a",
            "venv": str(folder / "venv"),
            "config": CONFIG,
            "environment": {},
            "url": "http://127.0.0.1:8000",
            "served_model_name": "a",
        }
        host = d.Host(release="0.14.1", unit="[Service]\n", supervisor="/opt/s")
        self.deployment = d.deployment(wanted, host, [])
        self.serving = self.deployment.fingerprint
        self.module, self.progress, self.results = Module(), Progress(), {}
        self.folder = folder
        self.params = {
            "instances": [{"name": "a", "gpus": [], "attention_backend": None, "memory": None}],
            "accelerator": "cpu",
            "sweep": [LOAD, {**LOAD, "input_tokens": 1000}],
            "repeats": 2,
            "time_limit": 60,
            "run_timeout": 60,
            "bandwidth": None,
            "set_baseline": False,
            "tolerance": 10.0,
            "fail_on_regression": False,
            "results_dir": str(folder / "results"),
            "etc_dir": str(folder),
            "user": "vllm",
            "tools": "/opt/vllm/tools",
        }

    def environment_path(self, name):
        return str(self.folder / "a.env")

    def record(self, name):
        return d.Record(self.deployment)

    def show(self, units):
        return {units[0]: {"ActiveState": "active"}}

    def running(self, state):
        return self.serving

    def systemctl(self, *arguments):
        return "abc\n"

    def fail(self, message):
        raise Ended({"failed": True, "msg": message})


def saved(throughput, prompts):
    return {
        "duration": 2.0 * prompts,
        "total_input_tokens": 256,
        "total_output_tokens": 128,
        "output_throughput": throughput,
        "median_ttft_ms": 100.0,
        "median_tpot_ms": 20.0,
        "median_e2el_ms": 720.0,
    }


@pytest.fixture
def host(tmp_path, monkeypatch):
    services = Services(tmp_path)
    services.throughput = 50.0
    services.keys, services.seeds, services.unanswered = [], [], 0

    class Client:
        def __init__(self, name, venv, user, lifetime, key):
            services.keys.append(key)

        def __enter__(self):
            return self

        def __exit__(self, *error):
            pass

        def wait_until_ready(self):
            pass

        def run(self, argv, timeout):
            services.seeds.append(argv[argv.index("--seed") + 1])
            prompts = int(argv[argv.index("--num-prompts") + 1])
            answered = prompts - services.unanswered
            return {**saved(services.throughput, prompts), "completed": answered}

    class Endpoint:
        def __init__(self, *arguments):
            pass

        def models(self):
            return [{"id": "a", "max_model_len": 512}]

    class File:
        def __init__(self, path, text):
            self.path, self.text = path, text

        def write(self):
            if self.text is None:
                Path(self.path).unlink(missing_ok=True)
                return
            (tmp_path / "results").mkdir(exist_ok=True)
            with open(self.path, "w", encoding="utf-8") as stream:
                stream.write(self.text)

    monkeypatch.setattr(client, "BenchClient", Client)
    monkeypatch.setattr(measure, "Endpoint", Endpoint)
    for user in (run, vllm_benchmark):
        monkeypatch.setattr(user, "File", File)
    return services


def benchmark(services):
    with pytest.raises(Ended) as end:
        vllm_benchmark.benchmark(services)
    return end.value.args[0]


def kept(services, suffix=".json"):
    with open(services.folder / "results" / f"a{suffix}", encoding="utf-8") as stream:
        return json.load(stream) if suffix.endswith("json") else stream.read()


def test_the_first_benchmark_is_the_baseline(host):
    one = benchmark(host)["instances"][0]
    assert one["baseline"] == "set"
    assert kept(host) == kept(host, ".baseline.json")
    assert one["measured"] == kept(host)
    assert one["summary"]["single_stream"]["output_throughput"] == 50.0
    assert one["lines"] == [
        "1 x 64+32: 50.0 tokens/s (spread 0 %), TTFT 100.0 ms, TPOT 20.00 ms",
        "1 x 1000+32: left out, 1032 tokens are more than the context of 512",
    ]


def test_a_page_that_a_former_release_kept_on_the_host_does_not_grow_old_there(host):
    (host.folder / "results").mkdir()
    (host.folder / "results" / "a.html").write_text("figures of another benchmark")
    benchmark(host)
    assert sorted(one.name for one in (host.folder / "results").iterdir()) == [
        "a.baseline.json",
        "a.json",
    ]


def test_a_result_says_what_was_measured(host):
    benchmark(host)
    result = kept(host)
    assert result["config"] == CONFIG
    assert result["attention_backend"] == {"planned": None, "engine": "TRITON_ATTN"}
    assert [len(point["runs"]) for point in result["points"]] == [2]
    assert result["ceiling"]["reason"].startswith("on a CPU")
    assert result["fingerprint"] == host.deployment.fingerprint


def test_the_endpoints_record_gets_the_figures(host):
    path = host.folder / "a.endpoint.json"
    path.write_text(json.dumps({"fingerprint": host.deployment.fingerprint, "benchmark": None}))
    one = benchmark(host)["instances"][0]
    figures = {"at": kept(host)["measured_at"], **kept(host)["summary"]}
    assert one["record"]["benchmark"] == figures
    assert json.loads(path.read_text()) == one["record"]


def test_a_regression_is_in_the_record_too(host):
    path = host.folder / "a.endpoint.json"
    path.write_text(json.dumps({"fingerprint": host.deployment.fingerprint}))
    benchmark(host)
    host.throughput, host.params["fail_on_regression"] = 40.0, True
    assert benchmark(host)["failed"]
    record = json.loads(path.read_text())
    assert record["benchmark"]["single_stream"]["output_throughput"] == 40.0


def test_without_a_record_there_is_none_afterwards(host):
    assert benchmark(host)["instances"][0]["record"] is None
    assert not (host.folder / "a.endpoint.json").exists()


def test_every_run_has_prompts_of_its_own(host):
    benchmark(host)
    assert len(host.seeds) == 4  # a warm-up, one that was too short, and two runs
    assert len(set(host.seeds)) == 4


def test_a_run_lasts_long_enough_to_mean_something(host):
    benchmark(host)
    point = kept(host)["points"][0]
    assert point["prompts"] == 5
    assert [run["seconds"] for run in point["runs"]] == [10.0, 10.0]


def test_the_number_of_requests_can_be_stated(host):
    host.params["sweep"] = [{**LOAD, "prompts": 2}]
    benchmark(host)
    point = kept(host)["points"][0]
    assert point["prompts"] == 2
    assert [run["seconds"] for run in point["runs"]] == [4.0, 4.0]


def test_a_slower_server_is_worse_and_fails_when_asked(host):
    benchmark(host)
    host.throughput = 40.0
    one = benchmark(host)["instances"][0]
    assert (one["baseline"], one["worse"]) == ("compared", 1)
    assert "worse: 1 x 64+32: output 50 -> 40 tokens/s (-20 %)" in one["lines"]
    host.params["fail_on_regression"] = True
    result = benchmark(host)
    assert result["failed"]
    assert "a: worse: 1 x 64+32: output 50 -> 40 tokens/s (-20 %)" in result["msg"]
    # The result is kept, the baseline stays.
    assert kept(host)["comparison"]["worse"] == 1
    assert kept(host, ".baseline.json")["points"][0]["figures"]["output_throughput"]["max"] == 50.0


def test_a_baseline_is_set_anew_when_asked(host):
    benchmark(host)
    host.throughput, host.params["set_baseline"] = 40.0, True
    assert benchmark(host)["instances"][0]["baseline"] == "set"
    host.params["set_baseline"] = False
    assert benchmark(host)["instances"][0]["worse"] == 0


def test_a_baseline_of_other_loads_is_no_regression(host):
    benchmark(host)
    host.params["sweep"] = [{**LOAD, "output_tokens": 16}]
    one = benchmark(host)["instances"][0]
    assert (one["baseline"], one["worse"]) == ("other loads", 0)


def test_requests_without_an_answer_are_a_failure_and_no_figures(host):
    host.unanswered = 1
    result = benchmark(host)
    assert result["failed"]
    assert "1 stream, 64 in, 16 out: 0 of 1 requests were answered" in result["msg"]
    assert not (host.folder / "results").exists()


def test_the_servers_key_is_read_where_the_server_has_it(host):
    (host.folder / "a.env").write_text('VLLM_API_KEY="a \\"b\\""\n')
    benchmark(host)
    assert host.keys == ['a "b"']


def test_check_mode_runs_nothing(host):
    host.module.check_mode = True
    assert benchmark(host)["instances"][0]["lines"] == ["would run 1 stream, 64 in, 32 out"]
    assert host.seeds == []
    assert not (host.folder / "results").exists()


@pytest.mark.parametrize(
    ("spoil", "words"),
    [
        (lambda host: setattr(host, "record", lambda name: None), "was never proved here"),
        (lambda host: setattr(host, "serving", "x"), "its configuration has changed"),
        (lambda host: host.params.update(sweep=[{}]), "sweep[0].concurrency: is missing"),
        (
            lambda host: host.params.update(sweep=[{**LOAD, "input_tokens": 1000}]),
            "none of the loads fits a",
        ),
    ],
)
def test_what_cannot_be_measured_says_why(host, spoil, words):
    spoil(host)
    assert words in benchmark(host)["msg"]


def test_a_server_that_does_not_answer(host, monkeypatch):
    def models(self):
        raise EndpointError("/v1/models cannot be reached")

    monkeypatch.setattr(measure.Endpoint, "models", models)
    assert "http://127.0.0.1:8000 cannot be measured" in benchmark(host)["msg"]
