# Copyright: (c) 2026, compute_plane.vllm contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Every check against the scripted server: right, wrong, refused, malformed, broken off, hanging.

The check that runs a model's code needs systemd: tests/integration/verify has its table.
"""

from __future__ import annotations

import base64
import dataclasses
import json
import struct
import sys
import time
import zlib
from typing import TYPE_CHECKING, Any

import pytest
from endpoints.scripted import (
    GOOD,
    KEY,
    LENGTH,
    MODEL,
    REFUSAL,
    SIMPLIFIED,
    TRADITIONAL,
    ScriptedServer,
    chat,
    chunks,
    serving,
    tool_call,
)

from ansible_collections.compute_plane.vllm.plugins.module_utils.verify import (
    checks as verify_checks,
)
from ansible_collections.compute_plane.vllm.plugins.module_utils.verify import (
    sandbox as verify_sandbox,
)
from ansible_collections.compute_plane.vllm.plugins.module_utils.verify.checks import (
    Checks,
    Subject,
)
from ansible_collections.compute_plane.vllm.plugins.module_utils.verify.client import (
    Client,
    ClientError,
)
from ansible_collections.compute_plane.vllm.plugins.module_utils.verify.suite import (
    DEFAULT_QUESTIONS,
    DEFAULT_SUITE,
    read_suite,
)

if TYPE_CHECKING:
    from collections.abc import Iterator

QUESTION = {"name": "capital", "prompt": "What is the capital of France?", "expect": "Paris"}
GIB = 1 << 30
GPU = "GPU-1"


class FakeMachine:
    """The machine as the checks see it.

    Attributes:
        lines: The lines of the unit's journal.
        used: What the unit's process holds of a GPU of 24 GiB, in GiB.
    """

    def __init__(self) -> None:
        self.lines = ["(EngineCore_DP0 pid=1) INFO Using AttentionBackendEnum.TRITON_ATTN backend."]
        self.used = 20.0
        self.uuids = [GPU]
        self.files: dict[str, Any] = {}

    def model_file(self, path: str) -> Any:
        return self.files.get(path)

    def gpus(self) -> list[dict[str, Any]]:
        ours = {"unit": "vllm@m.service", "memory_used_bytes": int(self.used * GIB)}
        other = {"unit": None, "memory_used_bytes": GIB}
        return [
            {
                "index": index,
                "uuid": uuid,
                "name": "NVIDIA GeForce RTX 3090",
                "memory_total_bytes": 24 * GIB,
                "memory_free_bytes": int((23 - self.used) * GIB),
                "processes": [ours, other],
            }
            for index, uuid in enumerate(self.uuids)
        ]

    def journal(self, unit: str, pattern: str) -> list[str]:
        assert unit == "vllm@m.service"
        return self.lines


SUBJECT = Subject(
    name="m",
    release="0.14.1",
    max_model_len=LENGTH,
    tools=True,
    attention_backend="TRITON_ATTN",
    gpus=(GPU,),
    gpu_memory_utilization=0.85,
    unit="vllm@m.service",
)


@pytest.fixture(scope="module")
def shared() -> Iterator[tuple[ScriptedServer, Client]]:
    with serving() as server:
        server.key = KEY
        with Client(sys.executable, server.url, MODEL, key=KEY) as client:
            yield server, client


@pytest.fixture
def server(shared: tuple[ScriptedServer, Client]) -> ScriptedServer:
    shared[0].script, shared[0].key = dict(GOOD), KEY
    return shared[0]


@pytest.fixture
def client(shared: tuple[ScriptedServer, Client]) -> Client:
    return shared[1]


def verdicts(
    client: Client, machine: FakeMachine | None = None, subject: Subject = SUBJECT
) -> dict[str, dict[str, Any]]:
    """The results of the whole suite, but for the check that needs a sandbox."""
    suite = [name for name in DEFAULT_SUITE if name != "is_prime"]
    checks = Checks(client, subject, machine or FakeMachine())
    return {
        check.name: checks.run(check) for check in read_suite(suite, [QUESTION], "warning", "m")
    }


def failed(results: dict[str, dict[str, Any]]) -> list[str]:
    return [name for name, result in results.items() if result["outcome"] == "failed"]


def test_a_good_server_passes_every_check(server: ScriptedServer, client: Client) -> None:
    results = verdicts(client)
    assert {name: result["outcome"] for name, result in results.items()} == dict.fromkeys(
        results, "passed"
    )
    assert results["capital"]["answer"] == "It is Paris."
    assert results["capital"]["question"] == "What is the capital of France?"
    assert results["streaming"]["figures"]["ttft_seconds"] > 0
    assert results["gpu_memory"]["detail"].startswith("GPU 0: 20.0 GiB used of a budget of 20.4")
    assert "2.0" not in results["concurrency"]["question"]


BREAKS = ("break off", b'{"choices": [')


def third_hangs(body: dict[str, Any]) -> Any:
    """Of several requests at once the third is not answered."""
    return "hang" if "number 3" in json.dumps(body) else chat("one")


CASES: list[tuple[str, Any, str, str]] = [
    ("/health", (503, b""), "health", "answered 503"),
    ("/health", "hang", "health", "did not answer within 1 s"),
    ("/version", {"version": "0.13.0"}, "version", "vLLM 0.13.0, expected 0.14.1"),
    ("/version", b"<html>", "version", "JSON object"),
    ("/version", [1], "version", "JSON object"),
    ("/version", "hang", "version", "did not answer within 1 s"),
    ("/v1/models", {"data": []}, "models", "no model"),
    ("/v1/models", {}, "models", "no list of models"),
    (
        "/v1/models",
        {"data": [{"id": MODEL, "max_model_len": 64}]},
        "models",
        "max_model_len 64, expected 128",
    ),
    ("/v1/models", {"data": [{"id": "other"}]}, "models", "the server has other, not m"),
    # Traditional Chinese
    ("chinese", chat(SIMPLIFIED), "chinese", "not in traditional Chinese"),
    ("chinese", chat(TRADITIONAL + SIMPLIFIED), "chinese", "not in traditional Chinese"),
    ("chinese", chat(REFUSAL), "chinese", "not in Chinese"),
    ("chinese", chat("機器學習是讓電腦學習。"), "chinese", "at least 40"),
    ("chinese", chat("機器學習是機器學習。" * 20), "chinese", "round in circles"),
    (
        "chinese",
        chat("春眠不覺曉處處聞啼鳥夜來風雨聲花落知多少床前明月光" * 3),
        "chinese",
        "does not explain",
    ),
    ("chinese", chat(""), "chinese", "answered nothing"),
    ("chinese", chat(None), "chinese", "answered nothing"),
    # Two turns
    ("turn 2", chat("It is 70."), "multi_turn", "its last number is 70, expected equals 69"),
    ("turn 2", chat(REFUSAL), "multi_turn", "no number in it"),
    ("turn 2", chat("169"), "multi_turn", "169"),
    ("turn 2", chat("sixty-nine"), "multi_turn", "no number in it"),
    ("turn 1", (500, b"EngineDeadError"), "multi_turn", "answered 500"),
    # Streaming
    ("stream", chunks(["one ", "two"], done=False), "streaming", "without [DONE]"),
    ("stream", ("break off", chunks(["one "], done=False)), "streaming", "broke off"),
    ("stream", chunks(["one ", "two"], reason=None), "streaming", "finish_reason"),
    ("stream", chunks(["all at once"]), "streaming", "1 pieces"),
    ("stream", b"data: {nonsense\n\ndata: [DONE]\n\n", "streaming", "a chunk that is none"),
    ("stream", chat("no stream"), "streaming", "without [DONE]"),
    ("stream", (500, b"EngineDeadError"), "streaming", "EngineDeadError"),
    ("stream", "hang", "streaming", "did not answer within 1 s"),
    # JSON by a schema
    ("structured", chat('{"city": "Paris"'), "structured_output", "not JSON"),
    ("structured", chat("{}"), "structured_output", "does not fit the schema"),
    (
        "structured",
        chat('{"city": "Rome", "is_capital": true}'),
        "structured_output",
        "does not fit the schema",
    ),
    ("structured", chat(REFUSAL), "structured_output", "not JSON"),
    ("structured", (400, b"no grammar"), "structured_output", "no grammar"),
    # Tools
    ("tools", chat("It is sunny."), "tool_call", "called no tool: 'It is sunny.'"),
    ("tools", chat(REFUSAL), "tool_call", "called no tool"),
    ("tools", tool_call("get_weather", '{"city": '), "tool_call", "malformed"),
    ("tools", tool_call("get_weather", "[]"), "tool_call", "malformed"),
    ("tools", tool_call("get_weather", '{"city": "Paris"}'), "tool_call", "expected get_weather"),
    ("tools", tool_call("rm", '{"city": "Taipei"}'), "tool_call", "called rm"),
    # Several at once
    ("concurrent", (503, b"overloaded"), "concurrency", "4 of 4 requests failed"),
    ("concurrent", chat(""), "concurrency", "answered nothing"),
    (
        "concurrent",
        third_hangs,
        "concurrency",
        "1 of 4 requests failed: request 3",
    ),
    # The context's limit
    ("/v1/completions", (400, b"too long"), "context_limit", "answered 400, expected 200"),
    (
        "/v1/completions",
        lambda body: {"usage": {"prompt_tokens": len(body["prompt"])}},
        "context_limit",
        "answered 200, expected 400",
    ),
    (
        "/v1/completions",
        lambda body: (
            {"usage": {"prompt_tokens": 5}} if len(body["prompt"]) < LENGTH else (400, b"")
        ),
        "context_limit",
        "it read 5",
    ),
    (
        "/v1/completions",
        lambda body: (
            {"usage": {"prompt_tokens": len(body["prompt"])}}
            if len(body["prompt"]) < LENGTH
            else (500, b"CUDA error")
        ),
        "context_limit",
        "500, expected 400",
    ),
    # A user's own question
    ("question", chat("Berlin."), "capital", "nothing in it matches 'Paris'"),
    ("question", chat(REFUSAL), "capital", "nothing in it matches"),
    ("question", chat(None), "capital", "nothing in it matches"),
    ("question", {"choices": []}, "capital", "no choice in it"),
    ("question", b"{", "capital", "JSON object"),
    ("question", (500, b"EngineDeadError"), "capital", "EngineDeadError"),
    ("question", BREAKS, "capital", "broke off"),
    ("question", "hang", "capital", "did not answer within 1 s"),
]
# What every question to the model can meet.
CASES += [
    (kind, action, check, detail)
    for kind, check in (
        ("chinese", "chinese"),
        ("turn 2", "multi_turn"),
        ("structured", "structured_output"),
        ("tools", "tool_call"),
    )
    for action, detail in (
        ((500, b"EngineDeadError"), "EngineDeadError"),
        (BREAKS, "broke off"),
        (b"{malformed", "JSON object"),
        ("hang", "did not answer within 1 s"),
    )
]


@pytest.mark.parametrize(
    ("kind", "action", "check", "detail"), CASES, ids=[f"{c[2]}: {c[3]}" for c in CASES]
)
def test_one_wrong_answer_fails_its_own_check_alone(
    server: ScriptedServer,
    client: Client,
    monkeypatch: pytest.MonkeyPatch,
    kind: str,
    action: Any,
    check: str,
    detail: str,
) -> None:
    server.script[kind] = action
    # Only what never comes is given little time: a busy machine answers late.
    if action == "hang":
        monkeypatch.setattr(client, "timeout", 1)
    elif action is third_hangs:
        monkeypatch.setattr(client, "timeout", 5)
    suite = [check] if check != "capital" else []
    entries = read_suite(suite, [QUESTION], "warning", "m")
    checks = Checks(client, SUBJECT, FakeMachine())
    results = {entry.name: checks.run(entry) for entry in entries}
    assert failed(results) == [check]
    assert detail in results[check]["detail"]


def test_a_key_that_is_not_asked_for_is_noticed(server: ScriptedServer, client: Client) -> None:
    server.key = None
    results = verdicts(client)
    assert failed(results) == ["api_key"]
    assert "answered 200, expected 401" in results["api_key"]["detail"]


@pytest.mark.parametrize(
    ("lines", "outcome", "detail"),
    [
        (
            ["INFO Using FLASH_ATTN attention backend out of potential backends: ['FLASH_ATTN']"],
            "failed",
            "uses FLASH_ATTN, planned was TRITON_ATTN",
        ),
        (["INFO Using AttentionBackendEnum.FLASHINFER backend."], "failed", "uses FLASHINFER"),
        (["Using backend TORCH_SDPA for vit attention"], "skipped", "does not say"),
        ([], "skipped", "does not say"),
    ],
)
def test_the_attention_backend_is_the_engines_word(
    server: ScriptedServer, client: Client, lines: list[str], outcome: str, detail: str
) -> None:
    machine = FakeMachine()
    machine.lines = lines
    result = verdicts(client, machine)["attention_backend"]
    assert (result["outcome"], detail in result["detail"]) == (outcome, True)


@pytest.mark.parametrize(
    ("used", "uuid", "detail"),
    [
        (1.0, GPU, "much less than planned"),
        (22.6, GPU, "more than planned"),
        (20.0, "GPU-2", "GPU-1 is not there"),
    ],
)
def test_gpu_memory_that_is_not_as_planned_is_told(
    server: ScriptedServer, client: Client, used: float, uuid: str, detail: str
) -> None:
    machine = FakeMachine()
    machine.used, machine.uuids = used, [uuid]
    results = verdicts(client, machine)
    assert failed(results) == ["gpu_memory"]
    assert detail in results["gpu_memory"]["detail"]
    assert results["gpu_memory"]["severity"] == "warning"


@pytest.mark.parametrize(("used", "outcome"), [(22.6, "passed"), (23.9, "failed")])
def test_each_gpu_of_a_tensor_parallel_group_holds_nccls_buffers_too(
    server: ScriptedServer, client: Client, used: float, outcome: str
) -> None:
    machine = FakeMachine()
    machine.used, machine.uuids = used, [GPU, "GPU-2"]
    results = verdicts(client, machine, dataclasses.replace(SUBJECT, gpus=(GPU, "GPU-2")))
    assert results["gpu_memory"]["outcome"] == outcome, results["gpu_memory"]


def test_what_does_not_apply_is_skipped_and_says_why(server: ScriptedServer) -> None:
    server.key = None
    with Client(sys.executable, server.url, MODEL) as client:
        results = verdicts(client, subject=Subject("m"))
    skipped = {name: r["detail"] for name, r in results.items() if r["outcome"] == "skipped"}
    assert skipped == {
        "version": "no release is wanted",
        "tool_call": "tool calls are not enabled",
        "api_key": "the endpoint has no API key",
        "attention_backend": "no attention backend is planned",
        "gpu_memory": "the plan has no GPU",
    }
    assert failed(results) == []


@pytest.mark.parametrize(
    ("release", "gpus", "outcome"),
    [("0.14.1", (), "skipped"), ("0.14.1", (GPU,), "passed"), ("0.26.0", (), "passed")],
)
def test_a_schema_is_not_asked_of_an_engine_that_dies_of_it(
    server: ScriptedServer, client: Client, release: str, gpus: tuple[str, ...], outcome: str
) -> None:
    found = judged(client, "chat", "structured_output", {}, server, release=release, gpus=gpus)
    assert (found["outcome"], "beside any other" in found["detail"]) == (
        outcome,
        outcome == "skipped",
    )


def test_nobody_listening_fails_every_check_at_once() -> None:
    with Client(sys.executable, "http://127.0.0.1:1", MODEL, key="k") as client:
        results = verdicts(client)
    assert set(failed(results)) == set(results) - {"attention_backend", "gpu_memory"}
    assert "cannot be reached" in results["health"]["detail"]


def test_a_check_is_tried_again_as_often_as_it_may_be(
    server: ScriptedServer, client: Client
) -> None:
    answers = iter([(500, b""), chat("Berlin"), chat("Paris")])
    server.script["question"] = lambda _body: next(answers)
    checks = Checks(client, SUBJECT, None)
    (entry,) = read_suite([], [{**QUESTION, "retries": 2}], "error", "m")
    result = checks.run(entry)
    assert (result["outcome"], result["tries"]) == ("passed", 3)


def test_turns_carry_the_models_own_answers(server: ScriptedServer, client: Client) -> None:
    server.requests.clear()
    (entry,) = read_suite(["multi_turn"], [], "error", "m")
    Checks(client, SUBJECT, None).run(entry)
    body = server.requests[-1][1]
    assert body is not None
    assert [message["role"] for message in body["messages"]] == ["user", "assistant", "user"]
    assert body["messages"][1]["content"] == "345"


def test_the_sandbox_is_not_done_without(
    server: ScriptedServer, client: Client, monkeypatch: pytest.MonkeyPatch
) -> None:
    def unusable() -> None:
        raise verify_sandbox.Unusable("no systemd here")

    monkeypatch.setattr(verify_sandbox, "check_usable", unusable)
    (entry,) = read_suite(["is_prime"], [], "error", "m")
    result = Checks(client, SUBJECT, None).run(entry)
    assert (result["outcome"], result["detail"]) == ("skipped", "no systemd here")


@pytest.mark.parametrize(
    ("python", "message"),
    [("/nowhere/python", "cannot be run"), ("/bin/false", "process that asks has ended")],
)
def test_a_worker_that_does_not_start_is_told(python: str, message: str) -> None:
    with pytest.raises(ClientError, match=message):
        Client(python, "http://127.0.0.1:1", MODEL)


def test_a_stream_that_drips_for_ever_is_ended(server: ScriptedServer, client: Client) -> None:
    (entry,) = read_suite([{"check": "streaming", "timeout": 1}], [], "error", "m")
    server.script["stream"] = "hang"
    result = Checks(client, SUBJECT, None).run(entry)
    assert result["outcome"] == "failed"
    assert result["seconds"] < 5


@pytest.mark.parametrize(("given", "outcome"), [({}, "passed"), ({"timeout": 0.5}, "failed")])
def test_a_long_context_is_given_the_time_that_reading_it_takes(
    server: ScriptedServer,
    client: Client,
    monkeypatch: pytest.MonkeyPatch,
    given: dict[str, Any],
    outcome: str,
) -> None:
    def read(body: dict[str, Any]) -> Any:
        if len(body["prompt"]) >= LENGTH:
            return (400, b"too long")
        time.sleep(1.5)
        return {"usage": {"prompt_tokens": len(body["prompt"])}}

    server.script["/v1/completions"] = read
    monkeypatch.setattr(client, "timeout", 0.5)
    monkeypatch.setattr(verify_checks, "SLOWEST_READING", LENGTH / 60)
    (entry,) = read_suite([{"check": "context_limit", **given}], [], "error", "m")
    result = Checks(client, SUBJECT, None).run(entry)
    assert (result["outcome"], "did not answer within" in result["detail"]) == (
        outcome,
        outcome == "failed",
    )


ADAPTED = dataclasses.replace(SUBJECT, adapters=("sql", "law"))
LISTED = {"data": [{"id": name, "max_model_len": LENGTH} for name in (MODEL, "sql", "law")]}


def of_models(server: ScriptedServer, client: Client, **script: Any) -> dict[str, Any]:
    server.script.update(script)
    (check,) = read_suite(["models"], [], "warning", "m")
    return Checks(client, ADAPTED, FakeMachine()).run(check)


def test_each_adapter_is_listed_and_answers(server: ScriptedServer, client: Client) -> None:
    result = of_models(server, client, **{"/v1/models": LISTED})
    assert (result["outcome"], result["detail"]) == ("passed", "m, max_model_len 128, sql, law")
    alone = {"data": LISTED["data"][:2]}
    result = of_models(server, client, **{"/v1/models": alone})
    assert (result["outcome"], result["detail"]) == ("failed", "the server has m, sql, not law")


def test_an_adapter_that_is_listed_and_does_not_answer(
    server: ScriptedServer, client: Client
) -> None:
    def answer(body: dict[str, Any]) -> Any:
        return (500, b"size mismatch") if body["model"] == "law" else {"usage": {}}

    result = of_models(server, client, **{"/v1/models": LISTED, "/v1/completions": answer})
    assert result["outcome"] == "failed"
    assert "size mismatch" in result["detail"]


# -- kinds ----------------------------------------------------------------------------------------


def judged(
    client: Client,
    kind: str,
    name: str,
    script: dict[str, Any],
    server: ScriptedServer,
    **more: Any,
) -> dict[str, Any]:
    """What a check makes of a scripted server of a kind."""
    server.script.update(script)
    machine = FakeMachine()
    machine.files = more.pop("files", {})
    subject = Subject(name="m", kind=kind, model="/m", max_model_len=LENGTH, **more)
    checks = Checks(client, subject, machine)
    suite = read_suite([name], [], "error", "m", kind)
    return checks.run(suite[0])


def vectors(*rows: list[float]) -> dict[str, Any]:
    return {"data": [{"index": i, "embedding": row} for i, row in enumerate(rows)]}


CONFIG = {"/m/config.json": {"hidden_size": 2, "vocab_size": 30522}}
NORMAL = {"/m/modules.json": [{"type": "sentence_transformers.models.Normalize"}]}


@pytest.mark.parametrize(
    ("answer", "files", "problem"),
    [
        (vectors([1, 0], [1, 0], [0, 1]), CONFIG, None),
        (vectors([1, 0], [1, 0], [0, 1]), {**CONFIG, **NORMAL}, None),
        (vectors([3, 0], [3, 0], [0, 3]), CONFIG, None),
        (vectors([3, 0], [3, 0], [0, 3]), {**CONFIG, **NORMAL}, "has the length 3"),
        (vectors([1, 0, 0], [1, 0, 0], [0, 1, 0]), CONFIG, "expected 2"),
        (vectors([1, 0], [0, 1], [0, 1]), CONFIG, "the same text has two vectors"),
        (vectors([1, 0], [1, 0], [1, 0]), CONFIG, "different texts have the same vector"),
        (vectors([1, 0], [1, 0]), CONFIG, "of 3 texts came 2"),
        (vectors([0, 0], [0, 0], [0, 0]), CONFIG, "nothing but zeros"),
        (b'{"data": [{"embedding": [NaN, 1]}]}', CONFIG, "of 3 texts came 1"),
        ((400, {"error": "no"}), CONFIG, "answered 400"),
        ({"data": "x"}, CONFIG, "no vector"),
    ],
)
def test_vectors(server, client, answer, files, problem) -> None:
    found = judged(client, "embed", "embedding", {"/v1/embeddings": answer}, server, files=files)
    assert found["outcome"] == ("failed" if problem else "passed"), found["detail"]
    assert (problem or "") in found["detail"]


def test_a_paraphrase_that_is_no_nearer_than_a_stranger(server, client) -> None:
    script = {"/v1/embeddings": vectors([1, 0], [0, 1], [1, 0.1])}
    assert judged(client, "embed", "similarity", script, server)["outcome"] == "failed"
    script = {"/v1/embeddings": vectors([1, 0], [1, 0.1], [0, 1])}
    assert judged(client, "embed", "similarity", script, server)["outcome"] == "passed"


def test_a_multilingual_model_is_asked_in_chinese_too(server, client) -> None:
    asked: list[str] = []

    def answer(body: dict[str, Any]) -> dict[str, Any]:
        asked.extend(body["input"])
        return vectors([1, 0], [1, 0.1], [0, 1])

    files = {"/m/config.json": {"vocab_size": 250002}}
    script = {"/v1/embeddings": answer}
    assert judged(client, "embed", "similarity", script, server, files=files)["passed"]
    assert any("貓" in text for text in asked)


def test_dimensions_where_they_are_offered(server, client) -> None:
    def answer(body: dict[str, Any]) -> dict[str, Any]:
        return vectors([0.5] * body.get("dimensions", 8))

    script = {"/v1/embeddings": answer}
    assert judged(client, "embed", "dimensions", script, server)["outcome"] == "skipped"
    told = {"overrides": {"is_matryoshka": True}}
    assert judged(client, "embed", "dimensions", script, server, **told)["outcome"] == "passed"
    script = {"/v1/embeddings": vectors([0.5] * 8)}
    assert judged(client, "embed", "dimensions", script, server, **told)["outcome"] == "failed"


def ranked(*scores: float) -> dict[str, Any]:
    return {"results": [{"index": i, "relevance_score": s} for i, s in enumerate(scores)]}


@pytest.mark.parametrize(
    ("answer", "outcome"),
    [
        (ranked(0.1, 0.2, 0.9, 0.3), "passed"),
        (ranked(0.9, 0.2, 0.1, 0.3), "failed"),
        (ranked(0.1, 0.2, 0.9), "failed"),
        ({"results": None}, "failed"),
    ],
)
def test_the_right_document_first(server, client, answer, outcome) -> None:
    assert judged(client, "rerank", "ranking", {"/rerank": answer}, server)["outcome"] == outcome


LABELS = {"/m/config.json": {"id2label": {"0": "bad", "1": "good"}}}


@pytest.mark.parametrize(
    ("label", "probs", "outcome"),
    [
        ("good", [0.1, 0.9], "passed"),
        ("LABEL_1", [0.1, 0.9], "failed"),
        ("good", [0.1, 0.2, 0.7], "failed"),
    ],
)
def test_labels_are_the_models(server, client, label, probs, outcome) -> None:
    row = {"label": label, "probs": probs, "num_classes": len(probs)}
    script = {"/classify": {"data": [row, row]}}
    found = judged(client, "classify", "classification", script, server, files=LABELS)
    assert found["outcome"] == outcome, found["detail"]


@pytest.mark.parametrize(
    ("message", "parses", "outcome", "thought"),
    [
        ({"content": "9", "reasoning": "All but 9."}, True, "passed", "All but 9."),
        ({"content": "9", "reasoning_content": "All but 9."}, True, "passed", "All but 9."),
        ({"content": "<think>All but 9.</think>\n9"}, False, "passed", "All but 9."),
        ({"content": "All but 9.</think>\n9"}, False, "passed", "All but 9."),
        ({"content": "All but 9.</think>\n9"}, True, "failed", "All but 9."),
        ({"content": None, "reasoning": "Hmm"}, True, "failed", "Hmm"),
        ({"content": "<think>Hmm"}, False, "failed", "Hmm"),
        ({"content": ""}, True, "failed", None),
        ({"content": "9"}, True, "skipped", None),
    ],
)
def test_thought_and_answer_are_told_apart(
    server, client, message, parses, outcome, thought
) -> None:
    script = {"question": chat(**{"text": message.pop("content"), **message})}
    found = judged(client, "reasoning", "thinking", script, server, parses_thought=parses)
    assert (found["outcome"], found.get("thought")) == (outcome, thought), found["detail"]


def test_a_thought_before_json_is_no_json(server, client) -> None:
    good = '<think>Paris?</think>\n{"city": "Paris", "is_capital": true}'
    script = {"structured": chat(good)}
    found = judged(client, "reasoning", "structured_output", script, server)
    assert (found["outcome"], found["thought"]) == ("passed", "Paris?")
    kind, body = server.requests[-1]
    assert kind == "structured"
    assert body is not None
    assert body["chat_template_kwargs"] == {"enable_thinking": False, "thinking": False}
    assert body["reasoning_effort"] == "low"


def test_a_template_that_takes_no_arguments_is_asked_without(server, client) -> None:
    def answer(body: dict[str, Any]) -> Any:
        if "chat_template_kwargs" in body:
            return 400, {"error": "chat_template is not supported for Mistral tokenizers."}
        return chat('{"city": "Paris", "is_capital": true}')

    found = judged(client, "reasoning", "structured_output", {"structured": answer}, server)
    assert found["outcome"] == "passed"


def test_a_thought_is_streamed_too(server, client) -> None:
    deltas = [{"reasoning": "a"}, {"reasoning": "b"}, {"content": "c"}]
    rows = [{"index": 0, "delta": delta, "finish_reason": None} for delta in deltas]
    rows[-1]["finish_reason"] = "stop"
    lines = [json.dumps({"choices": [row]}) for row in rows] + ["[DONE]"]
    stream = "".join(f"data: {line}\n\n" for line in lines).encode()
    found = judged(client, "reasoning", "streaming", {"stream": stream}, server)
    assert (found["outcome"], found["thought"], found["answer"]) == ("passed", "ab", "c")


def test_a_base_model_is_only_asked_to_continue(server, client) -> None:
    asked: list[str] = []

    def answer(body: dict[str, Any]) -> dict[str, Any]:
        asked.append(body["prompt"])
        return {"choices": [{"text": " Paris."}], "usage": {"completion_tokens": 2}}

    server.script["/v1/completions"] = answer
    suite = read_suite(["chinese", "multi_turn"], DEFAULT_QUESTIONS, "error", "m", "base")
    assert [check.name for check in suite] == ["completion"]
    checks = Checks(client, Subject(name="m", kind="base"), None)
    assert checks.run(suite[0])["outcome"] == "passed"
    assert asked == ["The capital of France is"]


INKS = {(220, 20, 20): "red", (20, 40, 220): "blue", (20, 150, 40): "green"}


def pixels(png: bytes) -> list[list[tuple[int, ...]]]:
    """A PNG of eight bits a colour without filters, as https://www.w3.org/TR/png-3/ has it."""
    assert png.startswith(b"\x89PNG\r\n\x1a\n")
    width, height = struct.unpack(">II", png[16:24])
    start = png.index(b"IDAT") + 4
    raw = zlib.decompress(png[start : png.index(b"IEND") - 8])
    rows = [raw[row * (1 + 3 * width) + 1 : (row + 1) * (1 + 3 * width)] for row in range(height)]
    return [[tuple(row[3 * x : 3 * x + 3]) for x in range(width)] for row in rows]


def looked_at(png: bytes) -> tuple[str, str]:
    """The colour of a drawing, and its shape by how wide it is at a quarter and in the middle."""
    rows = [[pixel for pixel in row if pixel != (255, 255, 255)] for row in pixels(png)]
    drawn = [row for row in rows if row]
    assert {pixel for row in drawn for pixel in row} <= set(INKS)
    above, middle, below = (len(drawn[len(drawn) * part // 100]) for part in (12, 50, 88))
    shape = "square" if above == middle == below else "circle" if above < middle else "?"
    shape = "triangle" if above < middle < below else shape
    return INKS[drawn[0][0]], shape


@pytest.mark.parametrize(
    ("says", "problem"),
    [
        (lambda colour, shape: f"A {colour} {shape}.", None),
        (lambda colour, shape: f"{colour.title()}, {shape.replace('circle', 'disc')}", None),
        (lambda colour, _shape: f"A {colour} circle", "a blue square on white"),
        (lambda _colour, shape: f"A red {shape}", "a blue square on white"),
        (lambda _colour, _shape: "I see nothing", "a red circle on white"),
    ],
)
def test_colour_and_shape_of_a_picture(server, client, says, problem) -> None:
    seen = []

    def answer(body: dict[str, Any]) -> dict[str, Any]:
        url = body["messages"][0]["content"][0]["image_url"]["url"]
        seen.append(looked_at(base64.b64decode(url.partition("base64,")[2])))
        return chat(says(*seen[-1]))

    server.script["picture"] = answer
    found = judged(client, "multimodal", "picture", {}, server)
    assert found["outcome"] == ("failed" if problem else "passed"), found["detail"]
    assert (problem or "red circle: ") in found["detail"] + found["answer"]
    if problem is None:
        assert seen == [("red", "circle"), ("blue", "square"), ("green", "triangle")]


def heard(
    client: Client, server: ScriptedServer, text: Any, **options: Any
) -> tuple[dict[str, Any], bytes]:
    """What the check makes of a transcription, and what it has sent."""
    server.script["/v1/audio/transcriptions"] = {"text": text}
    server.requests.clear()
    entry = {"check": "transcription", **options}
    checks = Checks(client, Subject(name="m", kind="transcribe"), None)
    found = checks.run(read_suite([entry], [], "error", "m", "transcribe")[0])
    return found, (server.requests[-1][1] or {}).get("form", b"") if server.requests else b""


@pytest.mark.parametrize(
    ("text", "options", "problem"),
    [
        ("", {}, None),
        ("Thank you.", {}, None),
        ("word " * 13, {}, "it made 13 words"),
        (None, {}, "has no text in it"),
        ("The quick brown fox.", {"audio": True, "expect": "(?i)brown fox"}, None),
        ("The quick brown fox.", {"audio": True}, None),
        ("The lazy dog.", {"audio": True, "expect": "(?i)brown fox"}, "it heard 'The lazy dog.'"),
        (" ", {"audio": True}, "it heard nothing in"),
        ("", {"audio": "/none.wav"}, "cannot be read where the check runs"),
    ],
)
def test_speech(server, client, tmp_path, text, options, problem) -> None:
    recording = tmp_path / "speech.wav"
    recording.write_bytes(b"RIFF of some speech")
    named = options.get("audio") is True
    options = {**options, "audio": str(recording)} if named else options
    found, sent = heard(client, server, text, **options)
    assert found["outcome"] == ("failed" if problem else "passed"), found["detail"]
    assert (problem or "") in found["detail"]
    assert (b"RIFF of some speech" in sent) is named


def test_how_long_a_model_may_think_is_what_the_suite_says(server, client) -> None:
    script = {"question": chat("<think>All but 9.</think>9")}
    for budget, tokens in ((40, 40), (100_000, LENGTH // 2)):
        judged(client, "reasoning", "thinking", script, server, thinking_tokens=budget)
        assert server.requests[-1][1]["max_tokens"] == tokens
    checks = Checks(client, Subject(name="m", kind="reasoning", thinking_seconds=7777), None)
    assert checks._request([{"role": "user", "content": "?"}]).timeout == 7777


def test_what_a_kind_is_asked() -> None:
    for kind, (more, never) in {
        "chat": (set(), {"embedding", "thinking"}),
        "reasoning": ({"thinking", "streaming", "chinese"}, {"embedding"}),
        "base": ({"streaming", "context_limit"}, {"chinese", "tool_call", "thinking"}),
        "embed": (
            {"embedding", "similarity", "health", "concurrency"},
            {"streaming", "completion"},
        ),
        "rerank": ({"score", "ranking"}, {"embedding", "completion"}),
        "transcribe": ({"transcription", "models"}, {"context_limit", "gpu_memory"}),
        "multimodal": ({"picture", "chinese"}, {"thinking"}),
    }.items():
        suite = read_suite(DEFAULT_SUITE, DEFAULT_QUESTIONS, "warning", "m", kind)
        names = {check.name for check in suite}
        assert more <= names, kind
        assert not never & names, kind
