# Copyright: (c) 2026, compute_plane.vllm contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The reports, of answers that try to break them."""

from __future__ import annotations

import html.parser
import json
from typing import TYPE_CHECKING, Any
from xml.etree import ElementTree

from ansible_collections.compute_plane.vllm.plugins.plugin_utils.reports.verification import (
    add_reports,
    html_report,
    json_report,
    junit_report,
    write_reports,
)

if TYPE_CHECKING:
    from pathlib import Path

EVIL = "</pre><script>alert(1)</script>\x00\x1b]]><&\"' \ud800機"


def check(name: str, outcome: str, severity: str) -> dict[str, Any]:
    return {
        "name": name,
        "check": "question",
        "severity": severity,
        "outcome": outcome,
        "passed": outcome != "failed",
        "detail": EVIL,
        "question": EVIL,
        "answer": EVIL,
        "figures": {},
        "seconds": 1.5,
        "model_seconds": 1.4,
        "tries": 1,
    }


ENDPOINT: dict[str, Any] = {
    "name": "m",
    "url": "http://127.0.0.1:8000",
    "served_model_name": EVIL,
    "checks": [],
    "verification": {
        "at": "2026-11-23T01:00:00+00:00",
        "suite": "0",
        "seconds": 6.0,
        "model_seconds": 5.6,
        "passed": False,
        "checks": [
            check("right", "passed", "error"),
            check("wrong", "failed", "error"),
            check("mild", "failed", "warning"),
            check("left out", "skipped", "error"),
        ],
    },
}


def test_junit_is_well_formed_and_counts_warnings_as_skipped() -> None:
    root = ElementTree.fromstring(junit_report("gpu1", [ENDPOINT]))
    suite = root.find("testsuite")
    assert suite is not None
    counts = {key: suite.get(key) for key in ("tests", "failures", "errors", "skipped")}
    assert counts == {"tests": "4", "failures": "1", "errors": "0", "skipped": "2"}
    cases = {case.get("name"): [child.tag for child in case] for case in suite}
    assert cases == {
        "right": ["system-out"],
        "wrong": ["failure", "system-out"],
        "mild": ["skipped", "system-out"],
        "left out": ["skipped", "system-out"],
    }
    assert "alert(1)" in (suite[0].find("system-out").text or "")  # type: ignore[union-attr]


class Tags(html.parser.HTMLParser):
    """Collects the page's tags and attributes."""

    def __init__(self) -> None:
        super().__init__()
        self.tags: set[str] = set()
        self.attributes: set[str] = set()

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.add(tag)
        self.attributes |= {name for name, _value in attrs}


def test_the_page_has_nothing_but_its_own_tags_and_comes_from_nowhere_else() -> None:
    page = html_report("gpu1", [ENDPOINT])
    tags = Tags()
    tags.feed(page)
    assert not tags.tags & {"script", "img", "link", "iframe", "object", "a"}
    assert not {name for name in tags.attributes if name.startswith("on")} | (
        tags.attributes & {"src", "href"}
    )
    assert page.count("<tr>") == 5
    assert "color-scheme: light dark" in page
    assert page.count('<pre dir="auto">') == 12  # right to left stays in its own cell
    assert "failed (warning)" in page


def test_json_has_every_check() -> None:
    document = json.loads(json_report("gpu1", [ENDPOINT]))
    assert [c["name"] for c in document["endpoints"][0]["checks"]] == [
        "right",
        "wrong",
        "mild",
        "left out",
    ]


def test_reports_are_written_and_left_alone_when_they_are_right(tmp_path: Path) -> None:
    endpoint = json.loads(json.dumps(ENDPOINT).replace("\\ud800", ""))
    folder = tmp_path / "new" / "reports"
    write_reports(folder, "gpu1", [endpoint], failed=False)
    files = sorted(path.name for path in folder.iterdir())
    assert files == ["gpu1.html", "gpu1.json", "gpu1.junit.xml"]
    times = [path.stat().st_mtime_ns for path in sorted(folder.iterdir())]
    write_reports(folder, "gpu1", [endpoint], failed=False)
    assert [path.stat().st_mtime_ns for path in sorted(folder.iterdir())] == times


def test_a_lone_surrogate_of_a_model_does_not_stop_the_reports(tmp_path: Path) -> None:
    write_reports(tmp_path, "gpu1", [ENDPOINT], failed=False)
    assert "alert(1)" in (tmp_path / "gpu1.html").read_text()


def test_an_endpoint_without_a_verification_is_left_out() -> None:
    endpoint = {**ENDPOINT, "verification": None}
    assert json.loads(json_report("gpu1", [endpoint]))["endpoints"] == []
    assert "<table>" not in html_report("gpu1", [endpoint])


def files(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir())


GOOD = ["gpu1.html", "gpu1.json", "gpu1.junit.xml"]
BAD = ["gpu1.failed.html", "gpu1.failed.json", "gpu1.failed.junit.xml"]


def test_what_failed_is_beside_what_passed_until_the_next_one_passes(tmp_path: Path) -> None:
    good = {**ENDPOINT, "verification": {**ENDPOINT["verification"], "passed": True}}
    write_reports(tmp_path, "gpu1", [good], failed=False)
    before = (tmp_path / "gpu1.html").read_text()
    page = write_reports(tmp_path, "gpu1", [ENDPOINT], failed=True)
    assert page == tmp_path / "gpu1.failed.html"
    assert files(tmp_path) == sorted(GOOD + BAD)
    assert (tmp_path / "gpu1.html").read_text() == before
    assert ">failed</span>" in page.read_text()
    assert ">failed</span>" not in before
    write_reports(tmp_path, "gpu1", [good], failed=False)
    assert files(tmp_path) == GOOD


def test_a_failed_question_is_reported_and_not_the_suite_that_passed_before(tmp_path: Path) -> None:
    good = {**ENDPOINT["verification"], "passed": True}
    asked = [
        {"name": "health", "passed": True, "detail": "200", "seconds": 0.5},
        {"name": "capital", "passed": False, "detail": "it answered 'Rome'", "seconds": 1.0},
    ]
    endpoint = {**ENDPOINT, "verification": good, "full": False, "passed": False, "checks": asked}
    write_reports(tmp_path, "gpu1", [endpoint], failed=True)
    (one,) = json.loads((tmp_path / "gpu1.failed.json").read_text())["endpoints"]
    assert (one["passed"], one["seconds"]) == (False, 1.5)
    assert [check["outcome"] for check in one["checks"]] == ["passed", "failed"]
    assert "it answered" in (tmp_path / "gpu1.failed.html").read_text()
    suite = ElementTree.fromstring((tmp_path / "gpu1.failed.junit.xml").read_text())[0]
    assert (suite.get("tests"), suite.get("failures")) == ("2", "1")


def test_a_failures_message_says_where_its_reports_are(tmp_path: Path) -> None:
    result: dict[str, Any] = {"failed": True, "msg": "m: wrong: it is"}
    add_reports(result, tmp_path / "r", "gpu1", [ENDPOINT], failed=True)
    assert result["msg"].splitlines() == [
        "m: wrong: it is",
        f"The reports are {tmp_path}/r/gpu1.failed.html and its like on the controller.",
    ]
    right: dict[str, Any] = {}
    add_reports(right, str(tmp_path), "gpu1", [ENDPOINT], failed=False)
    assert right == {}


def test_reports_that_cannot_be_written_fail(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    result: dict[str, Any] = {}
    add_reports(result, tmp_path / "file", "gpu1", [ENDPOINT], failed=False)
    assert result["failed"] is True
    assert result["msg"].startswith("the reports cannot be written: ")


def test_a_thought_is_in_every_report_and_stays_apart_from_the_answer() -> None:
    thinks = {**check("thinking", "passed", "error"), "answer": "9", "thought": f"All but 9.{EVIL}"}
    plain = {**check("plain", "passed", "error"), "answer": "10"}
    endpoint = {**ENDPOINT, "verification": {**ENDPOINT["verification"], "checks": [thinks, plain]}}
    page = html_report("gpu1", [endpoint])
    assert page.count("<summary>Thought</summary>") == 1
    assert "All but 9.&lt;/pre&gt;" in page
    assert '</details><pre dir="auto">9</pre>' in page
    root = ElementTree.fromstring(junit_report("gpu1", [endpoint]))
    told = [element.text or "" for element in root.iter("system-out")]
    assert "\nthought: All but 9." in told[0]
    assert "thought:" not in told[1]
    told = json.loads(json_report("gpu1", [endpoint]))["endpoints"][0]["checks"]
    assert [one.get("thought", "")[:10] for one in told] == ["All but 9.", ""]
