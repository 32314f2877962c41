# Copyright: (c) 2026, compute_plane.vllm contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""A run without a host of the playbook's is an error, not a success."""

from __future__ import annotations

import pytest
import yaml
from ansible import context
from ansible.errors import AnsibleLookupError
from ansible.module_utils.common.collections import ImmutableDict
from ansible.parsing.dataloader import DataLoader

from ansible_collections.compute_plane.vllm.plugins.lookup import hosts

GROUPS = {
    "all": ["a", "b", "web1"],
    "ungrouped": [],
    "vllm": ["a", "b"],
    "web": ["web1"],
    "later": [],
}
SITE = str(hosts.COLLECTION / "playbooks" / "site.yml")


@pytest.fixture
def look(monkeypatch):
    """Return a function that looks a pattern up in a run."""

    def looker(*pattern, limit=None, asked=SITE, groups=GROUPS, syntax=False):
        given = ImmutableDict(args=(asked,), syntax=syntax)
        monkeypatch.setattr(context, "CLIARGS", given)
        variables = {"groups": groups}
        if limit is not None:
            variables["ansible_limit"] = limit
        return hosts.LookupModule(loader=DataLoader()).run(list(pattern), variables)

    return looker


@pytest.mark.parametrize(
    ("pattern", "limit", "answer"),
    [
        ("vllm", None, "vllm"),
        ("vllm", "a", "vllm"),
        ("vllm", "web1,b", "vllm"),
        ("vllm", "all:!b", "vllm"),
        ("web1", "web1", "web1"),
        (["a", "web"], "web1", "a,web"),
        ("localhost", "localhost", "localhost"),
        # That a pattern cannot be read is for Ansible to say.
        ("~vllm[", None, "~vllm["),
    ],
)
def test_hosts_that_are_there(look, pattern, limit, answer):
    assert look(pattern, limit=limit) == [answer]


@pytest.mark.parametrize(
    ("pattern", "limit", "words"),
    [
        ("vllm", "web1", ["limit web1", "which has a, b", "-e vllm_hosts=web1"]),
        ("vllm:!b", "b", ["limit b", "which has a "]),
        ("later", None, ["no host later", "into the group vllm", "-e vllm_hosts=HOST"]),
        ("vlm", "a", ["no host vlm"]),
    ],
)
def test_hosts_that_are_not_there(look, pattern, limit, words):
    with pytest.raises(AnsibleLookupError) as error:
        look(pattern, limit=limit)
    for word in words:
        assert word in str(error.value)


def test_many_hosts_are_not_all_named():
    assert "h0, h1, h2, h3, h4, … —" in hosts.problem("vllm", "x", [f"h{i}" for i in range(9)])


@pytest.mark.parametrize("asked", ["/srv/site.yml", "other.vllm.site"])
def test_a_playbook_of_ones_own_goes_on_with_its_other_plays(look, asked):
    assert look("vllm", limit="web1", asked=asked) == ["vllm"]


@pytest.mark.parametrize("asked", [SITE, "compute_plane.vllm.preflight"])
def test_ours_is_told_by_path_and_by_name(asked):
    assert hosts.is_ours(asked)


def test_a_syntax_check_has_no_inventory(look):
    assert look("vllm", groups={"all": ["localhost"]}, syntax=True) == ["vllm"]


def test_every_playbook_looks_its_hosts_up():
    for path in (hosts.COLLECTION / "playbooks").glob("*.yml"):
        for play in yaml.safe_load(path.read_text(encoding="utf-8")):
            if play.get("ignore_unreachable"):  # only looks, and goes on without whoever is away
                continue
            where = play.get("hosts", "localhost")
            assert where == "localhost" or "lookup('compute_plane.vllm.hosts'" in where, path.name
            break  # who is meant has been found; further plays may have fewer
