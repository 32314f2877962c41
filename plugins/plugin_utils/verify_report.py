# Copyright: (c) 2026, compute_plane.vllm contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""A verification as JSON, JUnit XML and a self-contained HTML page. Pure, but for the files.

What models answer is anything at all, so all of it is escaped, and the page runs no script.
"""

from __future__ import annotations

import datetime
import html
import json
import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

SCHEMA = 1

# https://www.w3.org/TR/xml/#charsets
_NOT_XML = re.compile("[^\t\n\r\u0020-\ud7ff\ue000-\ufffd\U00010000-\U0010ffff]")

_STYLE = """
:root { color-scheme: light dark;
  --line: #d0d7de; --good: #116329; --bad: #a40e26; --dim: #57606a; }
@media (prefers-color-scheme: dark) {
  :root { --line: #3d444d; --good: #57c26a; --bad: #ff7b84; --dim: #9198a1; }
}
body { font: 15px/1.5 system-ui, sans-serif; margin: 2rem auto; max-width: 84rem; padding: 0 1rem; }
table { border-collapse: collapse; width: 100%; table-layout: fixed; }
caption { text-align: left; padding: .5rem 0; overflow-wrap: anywhere; }
th, td { border-bottom: 1px solid var(--line); padding: .5rem; text-align: left;
  vertical-align: top; overflow-wrap: anywhere; }
th:nth-child(1) { width: 13%; } th:nth-child(2) { width: 6rem; } th:nth-child(3) { width: 22%; }
th:nth-child(5) { width: 20%; } th:nth-child(6) { width: 4.5rem; text-align: right; }
pre { margin: 0; max-height: 24rem; overflow: auto; white-space: pre-wrap; overflow-wrap: anywhere;
  font: inherit; }
.passed { color: var(--good); } .failed { color: var(--bad); font-weight: 600; }
.skipped { color: var(--dim); }
.seconds { text-align: right; white-space: nowrap; }
@media (max-width: 48rem) {
  table, caption, tbody, tr, td { display: block; }
  thead, td:has(> pre:empty) { display: none; }
  tr { border-bottom: 1px solid var(--line); padding: .6rem 0; }
  td, td.seconds { border: 0; padding: .1rem 0; text-align: left; }
  td:first-child { font-weight: 600; }
  td:nth-child(n+3)::before { content: attr(data-label); color: var(--dim); font-size: .85em; }
}
@media print { pre { max-height: none; } }
"""
_POLICY = "default-src 'none'; style-src 'unsafe-inline'"


def verdict(check: Mapping[str, Any]) -> str:
    """A check's outcome in words: C(failed (warning)) does not fail the run."""
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
            said = f"question: {check['question']}\nanswer: {check['answer']}\n{check['detail']}"
            ElementTree.SubElement(case, "system-out").text = _xml(said)
    ElementTree.indent(root)
    return ElementTree.tostring(root, encoding="unicode", xml_declaration=True) + "\n"


def _row(check: Mapping[str, Any]) -> str:
    outcome = verdict(check)
    # What a model says may run from right to left, and stays in its own cell.
    cells = [
        f"<td><bdi>{html.escape(str(check['name']))}</bdi></td>",
        f'<td class="{html.escape(str(check["outcome"]))}">{html.escape(outcome)}</td>',
        *(
            f'<td data-label="{label}"><pre dir="auto">{html.escape(str(check[key]))}</pre></td>'
            for label, key in (("Question", "question"), ("Answer", "answer"), ("Found", "detail"))
        ),
        f'<td class="seconds">{check["seconds"]:.2f} s</td>',
    ]
    return "<tr>" + "".join(cells) + "</tr>\n"


def html_report(host: str, endpoints: Sequence[Mapping[str, Any]]) -> str:
    """The report for people: one page without anything from elsewhere."""
    title = html.escape(f"Verification of {host}")
    parts = [
        '<!DOCTYPE html>\n<html lang="en">\n<head>\n<meta charset="utf-8">\n',
        f'<meta http-equiv="Content-Security-Policy" content="{_POLICY}">\n',
        '<meta name="viewport" content="width=device-width, initial-scale=1">\n',
        f"<title>{title}</title>\n<style>{_STYLE}</style>\n</head>\n<body>\n<h1>{title}</h1>\n",
    ]
    for endpoint in _verified(endpoints):
        verification = endpoint["verification"]
        word = "passed" if verification["passed"] else "failed"
        parts.append(
            f"<h2>{html.escape(str(endpoint['name']))}</h2>\n<table>\n"
            f"<caption>{html.escape(str(endpoint['url']))} serves"
            f" <bdi>{html.escape(str(endpoint['served_model_name']))}</bdi>;"
            f" <span class='{word}'>{word}</span> at {html.escape(str(verification['at']))},"
            f" in {verification['seconds']:.1f} s, of which {verification['model_seconds']:.1f} s"
            " were the endpoint's.</caption>\n<thead><tr><th scope='col'>Check</th>"
            "<th scope='col'>Verdict</th><th scope='col'>Question</th><th scope='col'>Answer</th>"
            "<th scope='col'>Found</th><th scope='col'>Time</th></tr></thead>\n<tbody>\n"
        )
        parts += [_row(check) for check in verification["checks"]]
        parts.append("</tbody>\n</table>\n")
    parts.append("</body>\n</html>\n")
    return "".join(parts)


REPORTS = {"json": json_report, "junit.xml": junit_report, "html": html_report}
FAILED = ".failed"


def _write(directory: Path, host: str, mark: str, endpoints: Sequence[Mapping[str, Any]]) -> None:
    directory.mkdir(parents=True, exist_ok=True)
    for suffix, report in REPORTS.items():
        path = directory / f"{host}{mark}.{suffix}"
        # A model can answer half of a surrogate pair, which no file can hold.
        text = report(host, endpoints).encode("utf-8", "replace").decode("utf-8")
        if not path.is_file() or path.read_text(encoding="utf-8") != text:
            path.write_text(text, encoding="utf-8")


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
    now = datetime.datetime.now(datetime.UTC)
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
    _write(directory, host, mark, [_what_was_asked(e) for e in endpoints] if failed else endpoints)
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
