# Copyright: (c) 2026, compute_plane.vllm contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What a gateway lets through, what it refuses, and what it tells of that."""

from __future__ import annotations

import json
import socket
import ssl
import threading
import time
from collections.abc import Iterator, Sequence
from typing import Any

import httpx
import pytest

from ansible_collections.compute_plane.vllm.plugins.plugin_utils.gateway import endpoint

from .conftest import BACKEND_KEY, KEY, LIMITED_KEY, OTHER_KEY, Fake, Proxy, record

CHAT = "/v1/chat/completions"
MIB = 1 << 20


def client(proxy: Proxy, key: str | None = KEY) -> httpx.Client:
    context = ssl.create_default_context(cafile=str(proxy.folder / "ca.pem"))
    headers = {} if key is None else {"authorization": f"Bearer {key}"}
    return httpx.Client(
        base_url=f"https://127.0.0.1:{proxy.port}", verify=context, headers=headers, timeout=20
    )


def raw(proxy: Proxy, *parts: bytes | float) -> tuple[bytes, float]:
    """Send bytes, with pauses; returns what came, and after how many seconds it ended."""
    context = ssl.create_default_context(cafile=str(proxy.folder / "ca.pem"))
    began, answer = time.monotonic(), b""
    with (
        socket.create_connection(("127.0.0.1", proxy.port), 30) as plain,
        context.wrap_socket(plain, server_hostname="127.0.0.1") as stream,
    ):
        try:
            for part in parts:
                if isinstance(part, float):
                    time.sleep(part)
                else:
                    stream.sendall(part)
            while data := stream.recv(1 << 16):
                answer += data
        except OSError:
            pass
    return answer, time.monotonic() - began


HEAD = (
    f"POST {CHAT} HTTP/1.1\r\nhost: x\r\nconnection: close\r\nauthorization: Bearer {KEY}\r\n"
).encode()


def body(model: str = "org/one", padding: int = 0, **others: Any) -> bytes:
    """A request whose model comes last, as OpenAI's client sends it; with a decoy before."""
    messages = [{"role": "user", "content": "x" * padding, "model": "decoy"}]
    return json.dumps({"messages": messages, **others, "model": model}).encode()


@pytest.mark.parametrize("size", [0, 16_000, 100_000, MIB - 200])
@pytest.mark.parametrize("chunked", [False, True])
def test_a_request_reaches_its_model_whatever_its_size(proxy, servers, size, chunked) -> None:
    before = [len(server.control()) for server in servers]
    content = body("two", size)
    with client(proxy) as one:
        answer = one.post(CHAT, content=iter([content]) if chunked else content)
    assert answer.status_code == 200
    assert answer.json()["model"] == "two"
    after = [len(server.control()) for server in servers]
    assert after == [before[0], before[1], before[2] + 1]
    assert servers[2].control()[-1]["length"] == len(content)


@pytest.mark.parametrize("size", [MIB + 1, 2 * MIB])
@pytest.mark.parametrize("chunked", [False, True])
def test_a_body_that_is_too_large_is_told_so(proxy, size, chunked) -> None:
    content = body(padding=size)
    with client(proxy) as one:
        answer = one.post(CHAT, content=iter([content]) if chunked else content)
    assert answer.status_code == 413
    assert answer.json()["error"]["code"] == "request_too_large"


@pytest.mark.parametrize("key", [None, "wrong", f"{KEY}x", KEY.upper(), KEY[:-1]])
def test_who_has_no_right_key_is_refused(proxy, key) -> None:
    with client(proxy, None) as one:
        headers = {} if key is None else {"authorization": f"Bearer {key}"}
        answer = one.post(CHAT, content=body(), headers=headers)
    assert answer.status_code == 401
    assert answer.json()["error"]["code"] == "invalid_api_key"
    assert answer.headers["www-authenticate"] == "Bearer"


@pytest.mark.parametrize(
    "path",
    [
        *("/metrics", "/v1/load_lora_adapter", "/tokenize", "/sleep", "/", "/v1/chat/completions/"),
        *("/v1/chat/completions/../../metrics", "/v1/chat%2fcompletions", "//v1/chat/completions"),
        "/V1/chat/completions",
    ],
)
def test_other_paths_are_not_there(proxy, servers, path) -> None:
    before = [server.control() for server in servers]
    answer, _seconds = raw(
        proxy,
        HEAD.replace(CHAT.encode(), path.encode())
        + b"content-length: 19\r\n\r\n"
        + b'{"model":"org/one"}',
    )
    assert answer.startswith(b"HTTP/1.1 404 ")
    assert [server.control() for server in servers] == before


def test_other_methods_are_not_taken(proxy) -> None:
    with client(proxy) as one:
        assert one.get(CHAT).status_code == 405
        assert one.delete("/v1/models").status_code == 404


@pytest.mark.parametrize(
    ("content", "status", "code"),
    [
        (b"", 400, "model_missing"),
        (b"no JSON", 400, "model_missing"),
        (b'{"messages": []}', 400, "model_missing"),
        (b'{"model": "three"}', 404, "model_not_found"),
        (b'{"model": "a\\"b\\n%[x]"}', 404, "model_not_found"),
        (b'{"nested": {"model": "two"}}', 400, "model_missing"),
        # CVE-2025-11230: the decoder of a HAProxy without the mending never comes back.
        (b'{"model": 1e1000000000}', 404, "model_not_found"),
    ],
)
def test_what_has_no_known_model_is_told_so(proxy, content, status, code) -> None:
    with client(proxy) as one:
        answer = one.post(CHAT, content=content)
    assert (answer.status_code, answer.json()["error"]["code"]) == (status, code)


def test_all_models_are_listed(proxy) -> None:
    with client(proxy) as one:
        listed = one.get("/v1/models").json()
    assert {model["id"]: model["max_model_len"] for model in listed["data"]} == {
        "org/one": 1024,
        "two": 1024,
    }


SMUGGLED = b"GET /metrics HTTP/1.1\r\nhost: x\r\n\r\n"


@pytest.mark.parametrize(
    "headers",
    [
        b"content-length: 19\r\ncontent-length: 20\r\n",
        b"transfer-encoding: xchunked\r\n",
        b"transfer-encoding : chunked\r\n",
        b"content-length: 0x13\r\n",
        b"x\0y: 1\r\ncontent-length: 19\r\n",
        b"authorization: Bearer other\r\ncontent-length: 19\r\n",
        b"content-length: -1\r\n",
        b"transfer-encoding: chunked\r\ntransfer-encoding: identity\r\n",
    ],
)
def test_ambiguous_heads_are_refused(proxy, servers, headers) -> None:
    before = [server.control() for server in servers]
    answer, _seconds = raw(proxy, HEAD + headers + b"\r\n" + b'{"model":"org/one"}' + SMUGGLED)
    assert answer.startswith((b"HTTP/1.1 400 ", b"HTTP/1.1 422 ", b"HTTP/1.1 501 "))
    assert [server.control() for server in servers] == before


def test_of_two_lengths_one_reaches_the_server_and_no_second_request(proxy, servers) -> None:
    before = sum(len(server.control()) for server in servers)
    content = b"13\r\n" + b'{"model":"org/one"}' + b"\r\n0\r\n\r\n"
    answer, _seconds = raw(
        proxy,
        HEAD + b"content-length: 4\r\ntransfer-encoding: chunked\r\n\r\n" + content + SMUGGLED,
    )
    seen = [one for server in servers for one in server.control()]
    assert answer.count(b"HTTP/1.1 ") == 1
    assert len(seen) == before + 1
    assert not any("content-length" in one["headers"] and one["length"] == 4 for one in seen)


def test_servers_get_their_own_key_and_nothing_of_the_clients(proxy, servers) -> None:
    mine = {
        "x-request-id": "chosen",
        "x-forwarded-for": "192.0.2.1",
        "forwarded": "for=192.0.2.1",
        "x-api-key": "y",
    }
    with client(proxy) as one:
        answers = [
            one.post(CHAT, content=body(model), headers=mine) for model in ("two", "org/one")
        ]
    seen = servers[2].control()[-1]["headers"]
    assert seen["authorization"] == f"Bearer {BACKEND_KEY}"
    assert seen["x-request-id"] == answers[0].headers["x-request-id"] != "chosen"
    assert not {"x-forwarded-for", "forwarded", "x-api-key"} & set(seen)
    last = [server.control()[-1]["headers"] for server in servers[:2] if server.control()]
    assert not any("authorization" in headers for headers in last)


def test_a_key_has_a_limit_of_its_own(proxy) -> None:
    with client(proxy, LIMITED_KEY) as one:
        answers = [one.post(CHAT, content=body()) for _each in range(5)]
    assert [answer.status_code for answer in answers] == [200, 200, 200, 429, 429]
    assert answers[-1].json()["error"]["code"] == "rate_limit_exceeded"
    assert answers[-1].headers["retry-after"] == "10"
    with client(proxy, OTHER_KEY) as one:
        assert one.post(CHAT, content=body()).status_code == 200


@pytest.mark.parametrize(
    "parts",
    [
        (HEAD,),
        (HEAD + b"content-length: 100\r\n\r\n{",),
        (HEAD, *(part for _each in range(40) for part in (b"x: y\r\n", 0.6))),
        (HEAD + b"content-length: 99\r\n\r\n", *(p for _e in range(40) for p in (b"x", 0.6))),
    ],
    ids=["head", "body", "dripping head", "dripping body"],
)
def test_who_sends_slowly_is_cut_off(proxy, servers, parts) -> None:
    before = [server.control() for server in servers]
    answer, seconds = raw(proxy, *parts)
    assert seconds < 20  # the tests' limit is 3 s
    assert answer == b"" or answer.startswith(b"HTTP/1.1 408 ")
    assert [server.control() for server in servers] == before


def test_an_answer_that_says_nothing_for_long_is_not_cut_off(proxy) -> None:
    with client(proxy) as one:
        assert one.post(CHAT, content=body(sleep=5)).status_code == 200


def test_each_event_comes_at_once(proxy) -> None:
    with client(proxy) as one, one.stream("POST", CHAT, content=body(stream=True, n=30)) as answer:
        late = [
            time.time() - json.loads(line.removeprefix("data: "))["sent"]
            for line in answer.iter_lines()
            if '"sent"' in line
        ]
    assert len(late) == 30
    assert sorted(late)[18] < 0.1  # without http-no-delay every second one is 0.2 s late


def test_the_log_tells_who_used_what_and_no_prompt(proxy) -> None:
    secret = "a-prompt-that-nobody-must-see"
    with client(proxy) as one:
        plain = one.post(CHAT, content=body("two", user=secret))
        asked = {"stream_options": {"include_usage": True}}
        streamed = one.post(CHAT, content=body("two", stream=True, **asked))
        untold = one.post(CHAT, content=body("two", stream=True))
        one.get(f'/{secret}"%0a?{secret}')
    by_id = {entry["request_id"]: entry for entry in proxy.entries()}
    entries = [by_id[answer.headers["x-request-id"]] for answer in (plain, streamed, untold)]
    assert [(one["prompt_tokens"], one["completion_tokens"]) for one in entries] == [
        *(("12", "5"), ("12", "5"), ("-", "-")),
    ]
    assert {(one["key"], one["model"], one["status"], one["path"]) for one in entries} == {
        ("alice", "two", 200, CHAT)
    }
    log = proxy.log_path.read_text()
    assert KEY not in log
    assert BACKEND_KEY not in log
    assert log.count(secret) == 1  # of the path


def test_what_haproxy_measures_is_there_and_nothing_else(proxy) -> None:
    address = f"http://127.0.0.1:{proxy.metrics_port}"
    assert "haproxy_server_status{" in httpx.get(f"{address}/metrics").text
    assert httpx.get(f"{address}/").status_code == 404


# -- servers that come and go ---------------------------------------------------------------------


class Load:
    """Streams without a pause, from some threads."""

    def __init__(self, proxy: Proxy, threads: int = 4, **wanted: Any) -> None:
        self.proxy = proxy
        self.wanted = {"stream": True, "n": 20, "gap": 0.01, **wanted}
        self.stopping = threading.Event()
        self.outcomes: list[tuple[float, str]] = []
        self.threads = [threading.Thread(target=self.run) for _each in range(threads)]

    def run(self) -> None:
        with client(self.proxy) as one:
            while not self.stopping.is_set():
                began = time.monotonic()
                try:
                    answer = one.post(CHAT, content=body(**self.wanted))
                    whole = answer.status_code == 200 and answer.text.endswith("[DONE]\n\n")
                    outcome = "answered" if whole else f"{answer.status_code} {answer.text[-80:]}"
                except httpx.HTTPError as problem:
                    outcome = repr(problem)
                self.outcomes.append((began, outcome))

    def __enter__(self) -> Load:
        for thread in self.threads:
            thread.start()
        time.sleep(1)
        return self

    def __exit__(self, *_what: object) -> None:
        time.sleep(1)
        self.stopping.set()
        for thread in self.threads:
            thread.join()

    def failed(self, since: float = 0) -> list[str]:
        return [
            outcome for began, outcome in self.outcomes if outcome != "answered" and began >= since
        ]


def status(proxy: Proxy, name: str) -> str:
    (found,) = [server.status for server in proxy.gateway.servers() if server.name == name]
    return found


def wait_for(proxy: Proxy, name: str, wanted: str, seconds: float) -> float:
    began = time.monotonic()
    while not status(proxy, name).startswith(wanted):
        assert time.monotonic() - began < seconds, status(proxy, name)
        time.sleep(0.05)
    return time.monotonic() - began


def test_a_server_that_dies_takes_only_what_it_has_begun_to_answer(proxy, servers) -> None:
    try:
        with Load(proxy) as load:
            died = time.monotonic()
            servers[0].kill()
            assert wait_for(proxy, "front:a", "DOWN", 5) < 5
            time.sleep(1)
    finally:
        servers[0].start()
    assert len(load.failed()) <= len(load.threads)
    assert load.failed(since=died) == []
    wait_for(proxy, "front:a", "UP", 5)


def test_a_server_that_says_it_is_not_well_is_out_within_five_seconds(proxy, servers) -> None:
    with Load(proxy) as load:
        servers[0].control(health=503)
        try:
            wait_for(proxy, "front:a", "DOWN", 5)
        finally:
            servers[0].control(health=200)
        wait_for(proxy, "front:a", "UP", 5)
    assert load.failed() == []


def test_a_server_that_refuses_is_passed_over(proxy, servers) -> None:
    with Load(proxy) as load:
        servers[1].control(status=503)
        time.sleep(1)
        servers[1].control(status=200)
    assert load.failed() == []


def test_a_stream_that_breaks_off_is_not_begun_again(proxy, servers) -> None:
    before = sum(len(server.control()) for server in servers)
    with client(proxy) as one, pytest.raises(httpx.RemoteProtocolError):
        one.post(CHAT, content=body(stream=True, break_after=3))
    assert sum(len(server.control()) for server in servers) == before + 1


def test_a_drained_server_gets_nothing_new_and_stays_so_over_a_reload(proxy, servers) -> None:
    drained = [server for server in proxy.gateway.servers() if server.name == "front:a"]
    with Load(proxy) as load:
        proxy.gateway.set_state(drained, "drain")
        quiet = proxy.gateway.wait(
            ["front:a"], lambda now: all(one.sessions == 0 for one in now.values()), 5
        )
        assert [one.sessions for one in quiet] == [0]
        before = len(servers[0].control())
        proxy.reload()
        time.sleep(1)
        assert [one.is_drained for one in proxy.gateway.servers() if one.name == "front:a"] == [
            True
        ]
        assert len(servers[0].control()) == before
        proxy.gateway.set_state(drained, "ready")
        wait_for(proxy, "front:a", "UP", 5)
        time.sleep(1)
        assert len(servers[0].control()) > before
    assert load.failed() == []


def test_a_reload_drops_nothing(proxy) -> None:
    with Load(proxy, threads=6) as load:
        for _each in range(4):
            proxy.reload()
            time.sleep(0.5)
    assert len(load.outcomes) > 20
    assert load.failed() == []


def test_a_model_without_a_server_is_told_so(proxy, servers) -> None:
    with client(proxy) as one:
        assert one.get("/health", headers={"authorization": ""}).json() == {"status": "ok"}
        servers[2].kill()
        try:
            wait_for(proxy, "front:c", "DOWN", 5)
            answer = one.post(CHAT, content=body("two"))
            assert one.get("/health").status_code == 503
        finally:
            servers[2].start()
        wait_for(proxy, "front:c", "UP", 5)
    assert answer.status_code == 503
    assert answer.json()["error"]["code"] == "unavailable"
    assert answer.headers["retry-after"] == "5"


@pytest.fixture(scope="module")
def by_prefix(tmp_path_factory: pytest.TempPathFactory, servers: list[Fake]) -> Iterator[Proxy]:
    """A gateway that sends prompts that begin alike to one server."""
    found = [
        endpoint("front", "127.0.0.1", record(server.port, "org/one", name), None)
        for server, name in zip(servers, "abc", strict=True)
    ]
    made = Proxy(tmp_path_factory.mktemp("by-prefix"), found, vllm_gateway_balance="prefix")
    yield made
    made.close()


def asked(proxy: Proxy, bodies: Sequence[dict[str, Any]]) -> list[str]:
    """Which servers some requests went to, one after the other."""
    before = len(proxy.entries())
    with client(proxy) as one:
        for content in bodies:
            assert one.post(CHAT, json={"model": "org/one", **content}).status_code == 200
    return [entry["server"] for entry in proxy.entries()[before:]]


def chat(system: Any, question: str) -> dict[str, Any]:
    return {
        "messages": [{"role": "system", "content": system}, {"role": "user", "content": question}]
    }


QUESTIONS = ("Who?", "What?", "When?", "Where?")


FORMS = {
    "chat": chat,
    "parts": lambda system, question: chat([{"type": "text", "text": system}], question),
    "system": lambda system, question: {"system": system, **chat(question, question)},
    "system-parts": lambda system, question: {
        "system": [{"type": "text", "text": system}],
        **chat(question, question),
    },
    "instructions": lambda system, question: {"instructions": system, "input": question},
    "input": lambda system, question: {
        "input": [{"role": "system", "content": system}, {"role": "user", "content": question}]
    },
    "input-parts": lambda system, question: {
        "input": [
            {"role": "system", "content": [{"type": "input_text", "text": system}]},
            {"role": "user", "content": question},
        ]
    },
    "prompt": lambda system, question: {"prompt": system + question},
    "key": lambda system, question: {"prompt_cache_key": system, **chat(question, question)},
}


@pytest.mark.parametrize("form", FORMS)
def test_what_begins_alike_goes_to_one_server(by_prefix, form) -> None:
    systems = [f"You are number {number}. Be brief. " * 60 for number in range(20)]
    requests = [FORMS[form](system, question) for system in systems for question in QUESTIONS]
    servers = asked(by_prefix, requests)
    of_each = [set(servers[at : at + len(QUESTIONS)]) for at in range(0, len(servers), 4)]
    assert [len(taken) for taken in of_each] == [1] * len(systems)
    assert set(servers) == {"front:a", "front:b", "front:c"}


def test_what_has_no_beginning_goes_to_all_in_turn(by_prefix) -> None:
    assert set(asked(by_prefix, [{"input": [1, 2]}] * 6)) == {"front:a", "front:b", "front:c"}


def test_one_beginning_alone_does_not_fill_a_server_while_others_have_nothing_to_do(
    by_prefix,
) -> None:
    before = len(by_prefix.entries())
    with Load(by_prefix, threads=6, prompt_cache_key="the only one") as load:
        pass
    assert load.failed() == []
    servers = [entry["server"] for entry in by_prefix.entries()[before:]]
    # At 150 % of the mean, three of six at the most.
    assert max(map(servers.count, servers)) < 0.6 * len(servers)
    assert len(set(servers)) > 1


@pytest.mark.parametrize("how", ["refuses", "dies", "drains"])
def test_what_begins_alike_goes_to_another_server_while_its_own_is_away(
    by_prefix, servers, how
) -> None:
    requests = [chat("You answer in rhymes. " * 60, question) for question in QUESTIONS]
    (home,) = set(asked(by_prefix, requests))
    server = servers["abc".index(home[-1])]
    ours = [one for one in by_prefix.gateway.servers() if one.name == home]
    if how == "refuses":
        server.control(status=503)
    elif how == "dies":
        server.kill()
    else:
        by_prefix.gateway.set_state(ours, "drain")
    try:
        (other,) = set(asked(by_prefix, requests))
    finally:
        if how == "refuses":
            server.control(status=200)
        elif how == "dies":
            server.start()
        else:
            by_prefix.gateway.set_state(ours, "ready")
    assert other != home
    wait_for(by_prefix, home, "UP", 5)
    assert set(asked(by_prefix, requests)) == {home}
