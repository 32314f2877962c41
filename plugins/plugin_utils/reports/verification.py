# Copyright: (c) 2026, compute_plane.vllm contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""A verification as JSON, JUnit XML and a self-contained HTML page. Pure, but for the files."""

from __future__ import annotations

import datetime
import json
import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

from ansible_collections.compute_plane.vllm.plugins.plugin_utils.reports.page import render, write

SCHEMA = 1

# https://www.w3.org/TR/xml/#charsets
_NOT_XML = re.compile("[^\t\n\r\u0020-\ud7ff\ue000-\ufffd\U00010000-\U0010ffff]")


def verdict(check: Mapping[str, Any]) -> str:
    """A check's outcome in words: `failed (warning)` does not fail the run."""
    outcome = str(check["outcome"])
    return (
        f"{outcome} (warning)" if (outcome, check["severity"]) == ("failed", "warning") else outcome
    )


def _verified(endpoints: Sequence[Mapping[str, Any]]) -> list[Mapping[str, Any]]:
    return [endpoint for endpoint in endpoints if endpoint.get("verification")]


def json_report(host: str, endpoints: Sequence[Mapping[str, Any]]) -> str:
    """The report for programs."""
    value = {
        "schema": SCHEMA,
        "host": host,
        "endpoints": [
            {
                **{key: endpoint[key] for key in ("name", "url", "served_model_name")},
                **endpoint["verification"],
            }
            for endpoint in _verified(endpoints)
        ],
    }
    return json.dumps(value, indent=2, ensure_ascii=False) + "\n"


def _xml(text: object) -> str:
    return _NOT_XML.sub("\N{REPLACEMENT CHARACTER}", str(text))


def junit_report(host: str, endpoints: Sequence[Mapping[str, Any]]) -> str:
    """The report for continuous integration: a suite an endpoint, a case a check.

    A failed check whose severity is warning is a skipped case with its reason, because JUnit knows
    no warnings and a run with warnings alone has passed.
    """
    root = ElementTree.Element("testsuites", name=_xml(f"endpoints of {host}"))
    for endpoint in _verified(endpoints):
        verification = endpoint["verification"]
        checks = verification["checks"]
        outcomes = [verdict(check) for check in checks]
        suite = ElementTree.SubElement(
            root,
            "testsuite",
            name=_xml(f"{host}.{endpoint['name']}"),
            tests=str(len(checks)),
            failures=str(outcomes.count("failed")),
            errors="0",
            skipped=str(len(checks) - outcomes.count("failed") - outcomes.count("passed")),
            time=f"{verification['seconds']:.3f}",
            timestamp=str(verification["at"])[:19],
            hostname=_xml(host),
        )
        for check, outcome in zip(checks, outcomes, strict=True):
            case = ElementTree.SubElement(
                suite,
                "testcase",
                classname=_xml(f"{host}.{endpoint['name']}"),
                name=_xml(check["name"]),
                time=f"{check['seconds']:.3f}",
            )
            if outcome == "failed":
                ElementTree.SubElement(case, "failure", message=_xml(check["detail"])[:500])
            elif outcome != "passed":
                message = _xml(f"{outcome}: {check['detail']}")[:500]
                ElementTree.SubElement(case, "skipped", message=message)
            thought = f"thought: {check['thought']}\n" if check.get("thought") else ""
            said = (
                f"question: {check['question']}\n{thought}"
                f"answer: {check['answer']}\n{check['detail']}"
            )
            ElementTree.SubElement(case, "system-out").text = _xml(said)
    ElementTree.indent(root)
    return ElementTree.tostring(root, encoding="unicode", xml_declaration=True) + "\n"


def html_report(host: str, endpoints: Sequence[Mapping[str, Any]]) -> str:
    """The report for people: one page without anything from elsewhere."""
    return render(
        "verification.html.j2", host=host, endpoints=_verified(endpoints), verdict=verdict
    )


REPORTS = {"json": json_report, "junit.xml": junit_report, "html": html_report}
FAILED = ".failed"


def _what_was_asked(endpoint: Mapping[str, Any]) -> Mapping[str, Any]:
    """An endpoint with what was asked of it now, where that was less than the suite."""
    if endpoint.get("full", True):
        return endpoint
    nothing = {"severity": "error", "question": "", "answer": ""}
    checks = [
        {**nothing, "outcome": "passed" if check["passed"] else "failed", **check}
        for check in endpoint["checks"]
    ]
    seconds = round(sum(check["seconds"] for check in checks), 3)
    now = datetime.datetime.now(datetime.timezone.utc)
    found = {
        "at": now.isoformat(timespec="seconds"),
        "checks": checks,
        "seconds": seconds,
        "model_seconds": seconds,
        "passed": endpoint["passed"],
    }
    return {**endpoint, "verification": found}


def write_reports(
    directory: Path, host: str, endpoints: Sequence[Mapping[str, Any]], *, failed: bool
) -> Path:
    """Write the reports of a host's endpoints.

    What has failed does not replace what has passed, and is there until something passes.

    Args:
        directory: Where; made where it is missing.
        host: The host's name in the inventory.
        endpoints: The module's result.
        failed: Whether the verification has failed.

    Returns:
        The page.

    Raises:
        OSError: A file cannot be written.
    """
    mark = FAILED if failed else ""
    if failed:
        endpoints = [_what_was_asked(endpoint) for endpoint in endpoints]
    for suffix, report in REPORTS.items():
        write(directory / f"{host}{mark}.{suffix}", report(host, endpoints))
    if not failed:
        for suffix in REPORTS:
            (directory / f"{host}{FAILED}.{suffix}").unlink(missing_ok=True)
    return directory / f"{host}{mark}.html"


def add_reports(
    result: dict[str, Any],
    reports_dir: object,
    host: str,
    endpoints: Sequence[Mapping[str, Any]],
    *,
    failed: bool,
) -> None:
    """Write reports as an action's last step; its result says where those of a failure are.

    Args:
        result: The module's result; it fails when the reports cannot be written.
        reports_dir: Where, as the task gives it.
        host: The host's name in the inventory.
        endpoints: What they are of.
        failed: Whether the verification has failed.
    """
    line = None
    try:
        page = write_reports(Path(str(reports_dir)).expanduser(), host, endpoints, failed=failed)
        if failed:
            line = f"The reports are {page} and its like on the controller."
    except OSError as error:
        line = f"the reports cannot be written: {error}"
        result["failed"] = True
    if line is not None:
        result["msg"] = f"{result.get('msg', '')}\n{line}".strip()
