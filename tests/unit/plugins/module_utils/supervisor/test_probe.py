# Copyright: (c) 2026, compute_plane.vllm contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
from __future__ import annotations

import socket
import threading
from typing import TYPE_CHECKING

import pytest

from ansible_collections.compute_plane.vllm.plugins.module_utils.supervisor import probe

if TYPE_CHECKING:
    from pathlib import Path

CONFIG = """\
# Managed
model: "/srv/m"
served-model-name: "m"
host: "0.0.0.0"
port: 8001
ssl-certfile: /etc/c.pem
limit-mm-per-prompt: {"image": 1}
"""


def test_the_configuration_is_read() -> None:
    config = probe.read_config(CONFIG)
    assert config["port"] == 8001
    assert config["ssl-certfile"] == "/etc/c.pem"
    assert config["limit-mm-per-prompt"] == {"image": 1}


def test_the_server_is_asked_where_it_listens() -> None:
    address = probe.address_of(probe.read_config(CONFIG), "key")
    assert address == probe.Address("127.0.0.1", 8001, "m", "key", tls=True)


@pytest.mark.parametrize(
    ("config", "address"),
    [
        ({"model": "/m"}, probe.Address("127.0.0.1", 8000, "/m")),
        ({"model": "/m", "host": "::"}, probe.Address("::1", 8000, "/m")),
        ({"model": "/m", "host": "10.0.0.7"}, probe.Address("10.0.0.7", 8000, "/m")),
        ({"model": "/m", "served-model-name": ["a", "b"]}, probe.Address("127.0.0.1", 8000, "a")),
    ],
)
def test_vllms_own_defaults(config: dict[str, object], address: probe.Address) -> None:
    assert probe.address_of(config, None) == address


METRICS = """\
# HELP vllm:num_requests_running Number of requests in model execution batches.
# TYPE vllm:num_requests_running gauge
vllm:num_requests_running{engine="0",model_name="m"} 2.0
vllm:num_requests_running{engine="1",model_name="m"} 1.0
vllm:num_requests_waiting{engine="0",model_name="m"} 5.0
vllm:kv_cache_usage_perc{engine="0",model_name="m"} 0.25
vllm:generation_tokens_total{engine="0",model_name="m"} 1.2345e+04
vllm:generation_tokens_created{engine="0",model_name="m"} 1.7e+09
vllm:request_success_total{engine="0",finished_reason="stop",model_name="m"} 3.0
vllm:request_success_total{engine="0",finished_reason="length",model_name="m"} 4.0
vllm:iteration_tokens_total_bucket{engine="0",le="1.0",model_name="m"} 9.0
python_info{version="3.11"} 1.0
"""


def test_the_counters_are_summed() -> None:
    found = probe.read_counters(METRICS)
    assert (found.running, found.waiting, found.tokens) == (3, 5, 12345)
    assert dict(found.work) == {
        "vllm:generation_tokens_total": 12345.0,
        "vllm:request_success_total": 7.0,
        "vllm:kv_cache_usage_perc": 0.25,
    }
    assert not found.idle
    assert probe.read_counters("").idle


def test_a_server_on_a_unix_socket_is_asked_there(tmp_path: Path) -> None:
    path = str(tmp_path / "server.sock")
    config = {"model": "m", "host": "127.0.0.1", "port": 1, "uds": path}
    address = probe.address_of(config, "key")
    assert not probe.is_served(path)
    with pytest.raises(probe.ProbeFailed, match="cannot be reached"):
        probe.request(address, "/metrics", None, 5.0)
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as server:
        server.bind(path)
        server.listen(1)
        heard: list[bytes] = []

        def answer() -> None:
            with server.accept()[0] as client:
                heard.append(client.recv(65536))
                client.sendall(b"HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\nok")

        thread = threading.Thread(target=answer)
        thread.start()
        assert probe.request(address, "/metrics", None, 5.0) == b"ok"
        thread.join(5)
        assert heard[0].startswith(b"GET /metrics HTTP/1.1\r\n")
        assert b"Authorization: Bearer key\r\n" in heard[0]
