# Copyright: (c) 2026, compute_plane.vllm contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The module against a registry that is down, slow, refuses, or was restarted empty."""

from __future__ import annotations

import json
import os
from typing import TYPE_CHECKING, Any

import pytest
from endpoints.registry import TOKEN, RegistryServer, registering

from ansible_collections.compute_plane.vllm.plugins.module_utils.endpoint import registration
from ansible_collections.compute_plane.vllm.plugins.modules import vllm_endpoint_registration
from ansible_collections.compute_plane.vllm.tests.unit.plugins.module_args import patch_module_args

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

pytestmark = pytest.mark.skipif(os.geteuid() != 0, reason="what the module keeps belongs to root")

PATH = "/v1/endpoints/gpu1/m"
RECORD = {
    "instance": "m",
    "state": "verified",
    "url": "http://127.0.0.1:8000",
    "openai_base_url": "http://127.0.0.1:8000/v1",
    "served_model_name": "org/m",
    "verification": {"at": "2026-11-23T01:00:00+00:00"},
    "measured": {},
}


@pytest.fixture
def registry() -> Iterator[RegistryServer]:
    with registering() as server:
        yield server


@pytest.fixture
def pauses(monkeypatch: pytest.MonkeyPatch) -> list[float]:
    """What the module would have waited between tries."""
    waited: list[float] = []
    defaults = registration.Registry.__init__.__defaults__
    assert defaults is not None
    monkeypatch.setattr(
        registration.Registry.__init__, "__defaults__", (*defaults[:-1], waited.append)
    )
    return waited


class Host:
    """A host's folders, and the module that runs there."""

    def __init__(self, tmp_path: Path, registry: RegistryServer, capsys: Any) -> None:
        self.etc, self.state = tmp_path / "etc", tmp_path / "state"
        self.etc.mkdir()
        self.registry = registry
        self.capsys = capsys
        self.write()

    def write(self, **changes: Any) -> None:
        path = self.etc / "m.endpoint.json"
        path.write_text(json.dumps({**RECORD, **changes}))

    def run(self, **arguments: Any) -> dict[str, Any]:
        given = {
            "url": self.registry.template,
            "token": TOKEN,
            "host": "gpu1",
            "timeout": 1,
            "retries": 2,
            "etc_dir": str(self.etc),
            "state_dir": str(self.state),
            **arguments,
        }
        with patch_module_args(given), pytest.raises(SystemExit):
            vllm_endpoint_registration.main()
        printed = self.capsys.readouterr().out
        assert TOKEN not in printed
        result: dict[str, Any] = json.loads(printed)
        return result


@pytest.fixture
def host(
    tmp_path: Path,
    registry: RegistryServer,
    pauses: list[float],
    capsys: pytest.CaptureFixture[str],
) -> Host:
    return Host(tmp_path, registry, capsys)


def sent(registry: RegistryServer) -> list[str]:
    return [method for method, _path in registry.requests if method != "GET"]


def test_what_is_verified_is_registered_once(host: Host, registry: RegistryServer) -> None:
    assert host.run()["changed"] is True
    assert registry.records[PATH]["served_model_name"] == "org/m"
    registry.requests.clear()
    assert host.run()["changed"] is False
    assert registry.requests == [("GET", PATH)]


def test_another_content_is_sent_another_verification_is_not(
    host: Host, registry: RegistryServer
) -> None:
    host.run()
    host.write(verification={"at": "2026-11-24T01:00:00+00:00"}, measured={"ttft_seconds": 1})
    assert host.run()["changed"] is False
    host.write(served_model_name="org/other")
    assert host.run()["changed"] is True
    assert registry.records[PATH]["served_model_name"] == "org/other"


def test_the_figures_of_a_new_benchmark_are_sent(host: Host, registry: RegistryServer) -> None:
    host.run()
    host.write(benchmark={"at": "2026-11-24T01:00:00+00:00"})
    assert host.run()["changed"] is True
    assert registry.records[PATH]["benchmark"] == {"at": "2026-11-24T01:00:00+00:00"}
    host.write(benchmark=None)
    assert host.run()["changed"] is True
    assert registry.records[PATH]["benchmark"] is None


def test_a_registry_that_was_restarted_empty_gets_it_again(
    host: Host, registry: RegistryServer
) -> None:
    host.run()
    registry.restart()
    result = host.run()
    assert (result["changed"], list(registry.records)) == (True, [PATH])


@pytest.mark.parametrize("state", ["failed", "starting"])
def test_what_is_not_verified_is_not_registered_and_is_withdrawn(
    host: Host, registry: RegistryServer, state: str
) -> None:
    host.write(state=state)
    assert host.run()["changed"] is False
    assert registry.requests == []
    host.write()
    host.run()
    host.write(state=state)
    result = host.run()
    assert (result["changed"], registry.records) == (True, {})
    assert host.run()["changed"] is False


def test_an_instance_that_is_gone_is_withdrawn(host: Host, registry: RegistryServer) -> None:
    host.run()
    (host.etc / "m.endpoint.json").unlink()
    assert host.run()["changed"] is True
    assert registry.records == {}


def test_before_a_stop_it_is_withdrawn_although_it_is_verified(
    host: Host, registry: RegistryServer
) -> None:
    host.run()
    assert host.run(only=["m"], state="absent")["withdrawn"] == [
        registry.template.format(host="gpu1", instance="m")
    ]
    assert registry.records == {}


def test_another_template_withdraws_from_where_it_was(host: Host, registry: RegistryServer) -> None:
    host.run()
    host.run(url=registry.template.replace("/v1/", "/v2/"))
    assert list(registry.records) == [PATH.replace("/v1/", "/v2/")]


def test_others_are_told_the_address_under_which_they_reach_it(
    host: Host, registry: RegistryServer
) -> None:
    host.run(public_urls={"m": "https://llm.example/"})
    assert registry.records[PATH]["openai_base_url"] == "https://llm.example/v1"


def test_one_that_listens_everywhere_is_at_the_hosts_address(
    host: Host, registry: RegistryServer
) -> None:
    host.run(address="10.0.0.7")
    assert registry.records[PATH]["url"] == "http://127.0.0.1:8000"
    host.write(listen_host="0.0.0.0")
    host.run(address="10.0.0.7")
    assert registry.records[PATH]["openai_base_url"] == "http://10.0.0.7:8000/v1"


def test_a_host_that_goes_withdraws_everything(host: Host, registry: RegistryServer) -> None:
    host.run()
    assert host.run(state="absent")["changed"] is True
    assert registry.records == {}
    assert host.run(state="absent")["changed"] is False


def test_only_those_that_are_meant(host: Host, registry: RegistryServer) -> None:
    (host.etc / "a.endpoint.json").write_text(json.dumps({**RECORD, "instance": "a"}))
    host.run(only=["a"])
    other = PATH.replace("/m", "/a")
    assert list(registry.records) == [other]
    host.run()
    host.run(only=["m"], state="absent")
    assert list(registry.records) == [other]
    host.run(only=["m"])
    assert sorted(registry.records) == [other, PATH]


@pytest.mark.parametrize(
    ("faults", "waited"),
    [([503, 500], [3.0, 2.0]), (["slow"], [1.0]), ([429, "slow"], [1.0, 2.0])],
)
def test_trouble_that_passes_is_waited_for(
    host: Host,
    registry: RegistryServer,
    pauses: list[float],
    faults: list[str | int | None],
    waited: list[float],
) -> None:
    registry.faults = [*faults]
    assert host.run()["changed"] is True
    assert PATH in registry.records
    assert pauses == waited


def test_trouble_in_the_middle_is_waited_for(host: Host, registry: RegistryServer) -> None:
    registry.faults = [None, "slow", 502]
    host.run()
    assert [method for method, _ in registry.requests] == ["GET", "PUT", "PUT", "PUT"]


def test_a_registry_that_is_down_fails_and_is_made_good_later(
    host: Host, registry: RegistryServer, pauses: list[float]
) -> None:
    down = host.run(url="http://127.0.0.1:1/{instance}")
    assert down["failed"] is True
    assert "cannot be reached" in down["msg"]
    assert "3 times" in down["msg"]
    assert pauses == [1.0, 2.0]
    assert host.run()["changed"] is True


def test_a_registry_that_stays_slow_fails(host: Host, registry: RegistryServer) -> None:
    registry.faults = ["slow"] * 3
    result = host.run()
    assert result["failed"] is True
    assert "does not answer" in result["msg"] or "timed out" in result["msg"]


@pytest.mark.parametrize("token", ["not-the-token", None])
def test_a_wrong_token_is_told_and_not_tried_again(
    host: Host, registry: RegistryServer, token: str | None
) -> None:
    result = host.run(token=token)
    assert result["failed"] is True
    assert "(401): the token is missing or wrong" in result["msg"]
    assert len(registry.requests) == 1


def test_somebody_elses_address_is_told_and_not_tried_again(
    host: Host, registry: RegistryServer
) -> None:
    registry.taken.add(PATH)
    result = host.run()
    assert "(409): it belongs to somebody else" in result["msg"]
    assert sent(registry) == ["PUT"]


def test_one_that_is_refused_does_not_keep_back_the_others(
    host: Host, registry: RegistryServer
) -> None:
    (host.etc / "a.endpoint.json").write_text(json.dumps({**RECORD, "instance": "a"}))
    registry.taken.add(PATH.replace("/m", "/a"))
    result = host.run()
    assert "a: the registry refuses" in result["msg"]
    assert list(registry.records) == [PATH]


def test_check_mode_asks_and_sends_nothing(host: Host, registry: RegistryServer) -> None:
    result = host.run(_ansible_check_mode=True)
    assert (result["changed"], registry.records) == (True, {})
    host.run()
    assert host.run(_ansible_check_mode=True)["changed"] is False
    host.write(state="failed")
    assert host.run(_ansible_check_mode=True)["changed"] is True
    assert list(registry.records) == [PATH]


@pytest.mark.parametrize(
    ("url", "said"),
    [
        ("ftp://x/{instance}", "http or https"),
        ("http://x/{name}/{instance}", "http or https"),
        ("http://x/all", "has no {instance}"),
    ],
)
def test_a_template_that_cannot_be_is_told(host: Host, url: str, said: str) -> None:
    assert said in host.run(url=url)["msg"]


def test_names_are_quoted_in_the_address() -> None:
    made = registration.address("http://x/{host}/{instance}", "a/b c", "m")
    assert made == "http://x/a%2Fb%20c/m"
