# Copyright: (c) 2026, compute_plane.vllm contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Who may import whom below plugins/: what the folders' order promises."""

from __future__ import annotations

import ast
import sys
from graphlib import CycleError, TopologicalSorter
from pathlib import Path, PurePosixPath

import pytest

PLUGINS = Path(__file__).parents[3] / "plugins"
COLLECTION = "ansible_collections.compute_plane.vllm.plugins."

# Of module_utils, from low to high: a folder imports from the folders before it.
ORDER = (
    "common",
    "host",
    "gpu",
    "runtime",
    "hub",
    "deploy",
    "supervisor",
    "status",
    "verify",
    "benchmark",
    "endpoint",
    "service",
    "gateway",
    "monitoring",
)
# Stricter than the order: all that these import, and all that import these.
IMPORTS_ONLY = {
    "probe.py": {"common", "host", "gpu"},
    "supervisor": set[str](),
    "monitoring": set[str](),
}
IMPORTED_ONLY_BY = {
    "supervisor": {"status", "service"},
    "probe.py": set[str](),
    "monitoring": set[str](),
}
# What the supervisor and the modules ask of a server alike; it imports nothing of ours.
BELOW_ALL = {"module_utils/supervisor/kinds.py"}
# What each kind of plugin may import of the others.
KINDS = {
    "module_utils": {"module_utils"},
    "modules": {"module_utils"},
    "doc_fragments": set[str](),
    "plugin_utils": {"plugin_utils", "module_utils"},
    "action": {"action", "module_utils", "plugin_utils"},
    "filter": {"module_utils", "plugin_utils"},
}
# Of ansible-core, what travels to a host with a module.
ON_HOSTS = ("modules", "module_utils")


def file_of(module: str, files: set[str]) -> str | None:
    """The file of a dotted name below plugins/, or of the module that it names something in."""
    while module:
        path = module.replace(".", "/")
        for candidate in (f"{path}.py", f"{path}/__init__.py"):
            if candidate in files:
                return candidate
        module = module.rpartition(".")[0]
    return None


def taken_late(source: str) -> list[tuple[int, str]]:
    """Line and absolute dotted name of what a file takes by `late`."""
    return [
        (node.lineno, f"{COLLECTION}module_utils.{name.value}")
        for node in ast.walk(ast.parse(source))
        if isinstance(node, ast.Call)
        and (getattr(node.func, "id", None) or getattr(node.func, "attr", None)) == "late"
        for name in node.args
        if isinstance(name, ast.Constant)
    ]


def imports(path: str, source: str) -> list[tuple[int, str, bool]]:
    """Line, absolute dotted name and whether it is relative, of each name that a file imports."""
    package = PurePosixPath(path).parent.parts
    found = [(line, name, False) for line, name in taken_late(source)]
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.Import):
            found += [(node.lineno, alias.name, False) for alias in node.names]
        elif isinstance(node, ast.ImportFrom):
            base = node.module or ""
            if node.level:
                above = package[: len(package) - node.level + 1]
                base = COLLECTION + ".".join([*above, *filter(None, [base])])
            found += [
                (node.lineno, f"{base}.{alias.name}", bool(node.level)) for alias in node.names
            ]
    return found


def folder(path: str) -> str:
    """Of a file of module_utils, what the order speaks of: its folder, or a top file's name."""
    return path.split("/")[1]


def fault(path: str, name: str, target: str | None, relative: bool) -> str | None:
    """Why a file must not import a name, or None where it may."""
    kind = path.split("/")[0]
    in_supervisor = kind == "module_utils" and folder(path) == "supervisor"
    if target is None:
        if name.startswith(COLLECTION):
            return "is no file"
        root = name.split(".")[0]
        if in_supervisor and root not in sys.stdlib_module_names:
            return "the supervisor imports the standard library alone"
        if kind in ON_HOSTS and root == "ansible" and not name.startswith("ansible.module_utils."):
            return "does not travel to a host"
        return None
    if in_supervisor != relative:
        return "only the supervisor imports itself relatively, and only so"
    other = target.split("/")[0]
    if other not in KINDS[kind]:
        return f"{kind} must not import {other}"
    if {kind, other} != {"module_utils"} or folder(path) == folder(target):
        return None
    if target in BELOW_ALL and path not in BELOW_ALL:
        return None
    here, there = folder(path), folder(target)
    if here in IMPORTS_ONLY and there not in IMPORTS_ONLY[here]:
        return f"{here} imports {', '.join(sorted(IMPORTS_ONLY[here])) or 'no other folder'}"
    if there in IMPORTED_ONLY_BY and here not in IMPORTED_ONLY_BY[there]:
        return f"{there} is for {', '.join(sorted(IMPORTED_ONLY_BY[there])) or 'modules'} alone"
    if here in ORDER and there in ORDER and ORDER.index(there) > ORDER.index(here):
        return f"{there} is above {here}"
    return None


def violations(sources: dict[str, str]) -> list[str]:
    """Each broken rule of a tree of files, given by their paths below plugins/."""
    files = set(sources)
    found = []
    graph: dict[str, set[str]] = {}
    for path, source in sorted(sources.items()):
        if path.startswith("module_utils/") and folder(path) not in (*ORDER, "probe.py"):
            found.append(f"{path}: a folder of module_utils is one of {', '.join(ORDER)}")
            continue
        for line, name, relative in imports(path, source):
            local = name.removeprefix(COLLECTION)
            target = file_of(local, files) if local != name else None
            if target and target != path:
                graph.setdefault(path, set()).add(target)
            if why := fault(path, name, target, relative):
                found.append(f"{path}:{line}: {local}: {why}")
    try:
        TopologicalSorter(graph).prepare()
    except CycleError as error:
        found.append("a cycle: " + " imports ".join(reversed(error.args[1])))
    return found


def sent(module: str, sources: dict[str, str]) -> set[str]:
    """The files that a host is sent with a module: all that it imports, and nothing taken late."""
    files = set(sources)
    found: set[str] = set()
    todo = [module]
    while todo:
        path = todo.pop()
        found.add(path)
        late = taken_late(sources[path])
        for line, name, relative in imports(path, sources[path]):
            target = file_of(name.removeprefix(COLLECTION), files)
            if target and target not in found and (relative or (line, name) not in late):
                todo.append(target)
    return found


def sent_all_the_same(sources: dict[str, str]) -> list[str]:
    """What modules take late somewhere and import elsewhere, which is then sent with every run."""
    found = []
    for module in sorted(path for path in sources if path.startswith("modules/")):
        along = sent(module, sources)
        for path in sorted(along):
            for line, name in taken_late(sources[path]):
                target = file_of(name.removeprefix(COLLECTION), set(sources))
                if target in along:
                    found.append(f"{module} is sent {target}, which {path}:{line} takes late")
    return found


@pytest.fixture(scope="module")
def plugins() -> dict[str, str]:
    """All plugins' sources by their paths."""
    return {
        path.relative_to(PLUGINS).as_posix(): path.read_text() for path in PLUGINS.rglob("*.py")
    }


def test_every_import_keeps_the_order_of_the_folders(plugins):
    assert violations(plugins) == []


def test_what_is_taken_late_is_not_sent_with_every_run(plugins):
    assert sent_all_the_same(plugins) == []


def test_what_is_taken_late_and_imported_too_is_found():
    late = f"from {COLLECTION}module_utils.common.late import late\nlate('hub.bring')\n"
    sources = {
        "modules/m.py": late + f"from {COLLECTION}module_utils.hub import model\n",
        "module_utils/common/late.py": "",
        "module_utils/hub/bring.py": "",
        "module_utils/hub/model.py": "",
    }
    assert sent_all_the_same(sources) == []
    sources["module_utils/hub/model.py"] = f"from {COLLECTION}module_utils.hub import bring\n"
    assert sent_all_the_same(sources) == [
        "modules/m.py is sent module_utils/hub/bring.py, which modules/m.py:2 takes late"
    ]


@pytest.mark.parametrize(
    ("path", "source", "told"),
    [
        pytest.param(
            "module_utils/common/files.py",
            "late('hub.fetch')",
            "module_utils/common/files.py:1: module_utils.hub.fetch: hub is above common",
            id="upward, taken late",
        ),
        pytest.param(
            "module_utils/common/files.py",
            f"def f():\n    from {COLLECTION}module_utils.hub.fetch import main",
            "module_utils/common/files.py:2: module_utils.hub.fetch.main: hub is above common",
            id="upward, inside a function",
        ),
        pytest.param(
            "module_utils/hub/cache.py",
            f"from {COLLECTION}module_utils.hub import fetch",
            "a cycle: module_utils/hub/",
            id="a cycle within a folder",
        ),
        pytest.param(
            "module_utils/hub/cache.py",
            f"from {COLLECTION}plugin_utils import progress",
            "module_utils must not import plugin_utils",
            id="a host's file needs the controller's",
        ),
        pytest.param(
            "modules/hf_model.py",
            f"from {COLLECTION}plugin_utils.progress import Following",
            "modules must not import plugin_utils",
            id="a module needs the controller's",
        ),
        pytest.param(
            "module_utils/hub/cache.py",
            "from ansible.plugins.action import ActionBase",
            "does not travel to a host",
            id="a host's file needs what the controller alone has of ansible-core",
        ),
        pytest.param(
            "module_utils/supervisor/port.py",
            "import ansible.module_utils.basic",
            "the supervisor imports the standard library alone",
            id="the supervisor needs ansible-core",
        ),
        pytest.param(
            "module_utils/supervisor/port.py",
            f"from {COLLECTION}module_utils.supervisor import probe",
            "only the supervisor imports itself relatively, and only so",
            id="the supervisor by its name in the collection",
        ),
        pytest.param(
            "module_utils/supervisor/port.py",
            "from ..common import files",
            "supervisor imports no other folder",
            id="the supervisor needs a lower folder",
        ),
        pytest.param(
            "module_utils/verify/run.py",
            f"from {COLLECTION}module_utils.supervisor import probe",
            "supervisor is for service, status alone",
            id="a folder that has no business with the supervisor",
        ),
        pytest.param(
            "module_utils/hub/cache.py",
            "from . import select",
            "only the supervisor imports itself relatively",
            id="relatively elsewhere",
        ),
        pytest.param(
            "module_utils/probe.py",
            f"from {COLLECTION}module_utils.hub import cache",
            "probe.py imports common, gpu, host",
            id="the probe needs more than the machine",
        ),
        pytest.param(
            "module_utils/helpers.py", "", "a folder of module_utils is one of", id="a file on top"
        ),
        pytest.param(
            "module_utils/hub/cache.py",
            f"from {COLLECTION}module_utils.files import read",
            "is no file",
            id="a file that is not there",
        ),
    ],
)
def test_a_broken_rule_is_told_with_its_place(path, source, told):
    sources = {
        "module_utils/common/files.py": "",
        "module_utils/hub/cache.py": "",
        "module_utils/hub/fetch.py": f"from {COLLECTION}module_utils.hub.cache import Cache",
        "module_utils/hub/select.py": "",
        "module_utils/supervisor/probe.py": "import json",
        "plugin_utils/progress.py": f"from {COLLECTION}module_utils.hub.cache import Cache",
    }
    assert violations(sources) == []

    found = violations({**sources, path: source})

    assert any(told in violation for violation in found), found
