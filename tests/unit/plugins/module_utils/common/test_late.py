# Copyright: (c) 2026, compute_plane.vllm contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Code that is not sent with every run: asked for, sent, and found where it was sent."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from ansible_collections.compute_plane.vllm.plugins.module_utils.common import late
from ansible_collections.compute_plane.vllm.plugins.plugin_utils import code

PACKAGE = "ansible_collections/compute_plane/vllm/plugins/module_utils"
# As on a host: Python's own importer, and of module_utils only what was sent.
HOST = """
import sys
from ansible_collections.compute_plane.vllm.plugins.module_utils.common import late
late.use(sys.argv[1] if len(sys.argv) > 1 else None)
try:
    print(late.late("runtime.work").__file__)
except late.CodeNeeded as needed:
    print("needs", needed)
"""


@pytest.fixture
def host(tmp_path: Path) -> list[str]:
    """A Python that has nothing of module_utils but what `late` itself is."""
    folder = tmp_path / "sent" / PACKAGE
    (folder / "common").mkdir(parents=True)
    for parent in (folder / "common").relative_to(tmp_path / "sent").parents:
        (tmp_path / "sent" / parent / "__init__.py").touch()
    (folder / "common" / "__init__.py").touch()
    (folder / "common" / "late.py").write_text(Path(late.__file__).read_text())
    (tmp_path / "host.py").write_text(
        f"import sys\nsys.path.insert(0, {str(tmp_path / 'sent')!r})\n{HOST}"
    )
    return [sys.executable, "-I", str(tmp_path / "host.py")]


def told(argv: list[str]) -> str:
    return subprocess.run(argv, check=True, capture_output=True, text=True).stdout.strip()


def test_what_was_not_sent_is_asked_for(host: list[str]) -> None:
    assert told(host) == "needs runtime.work"


def test_what_was_sent_is_found_with_all_that_it_imports(host: list[str], tmp_path: Path) -> None:
    archive = tmp_path / "code.zip"
    archive.write_bytes(code.archive())
    assert told([*host, str(archive)]) == f"{archive}/runtime/work.py"


def test_what_another_package_lacks_is_no_question_of_sending(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    def missing(name: str) -> None:
        raise ModuleNotFoundError("No module named 'httpx'", name="httpx")

    monkeypatch.setattr(late.importlib, "import_module", missing)
    with pytest.raises(ModuleNotFoundError, match="httpx"):
        late.late("verify.whole")
