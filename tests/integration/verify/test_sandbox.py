# Copyright: (c) 2026, compute_plane.vllm contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The cases of test_code.py, run by pytest on a throwaway host: the sandbox needs systemd."""

from __future__ import annotations

import os
import subprocess
import sys
import tempfile
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[3]
TOOL = ROOT / "tests" / "hosts" / "testhosts.py"

pytestmark = [
    pytest.mark.timeout(300),
    pytest.mark.skipif(os.geteuid() != 0, reason="throwaway hosts need root"),
]


@pytest.mark.parametrize("image", ["bookworm", "trixie"])
def test_code_that_models_write_does_no_harm(image: str) -> None:
    """Boot, run the cases there, show what failed."""
    site = Path(pytest.__file__).parents[1]
    with tempfile.TemporaryDirectory(prefix="verify-", dir="/var/tmp") as directory:
        environment = {**os.environ, "TESTHOSTS_STATE": f"{directory}/state"}
        environment.pop("TESTHOSTS_SUBNET", None)

        def tool(*words: str) -> subprocess.CompletedProcess[str]:
            return subprocess.run(
                [sys.executable, str(TOOL), *words],
                env=environment,
                stdin=subprocess.DEVNULL,
                capture_output=True,
                text=True,
                check=False,
            )

        try:
            binds = [f"--bind-ro={ROOT}:/src", f"--bind-ro={site}:/site"]
            up = tool("up", "sandbox", f"--image={image}", *binds)
            assert up.returncode == 0, up.stderr
            # Also found by `python3 -I`, as the tools' own packages are on a real host.
            script = (
                "for folder in /usr/local/lib/python3.*/dist-packages; do"
                " echo /site >$folder/site.pth || exit 1; done;"
                " cd /src && ON_THROWAWAY_HOST=yes PYTEST_DISABLE_PLUGIN_AUTOLOAD=1"
                " PYTHONPATH=collections:tests/hosts python3 -B -m pytest -q"
                " -p no:cacheprovider -c /dev/null --rootdir=/tmp --import-mode=importlib"
                " tests/integration/verify/test_code.py"
            )
            done = tool("exec", "sandbox", "--", "sh", "-c", script)
            assert done.returncode == 0, f"{done.stdout}\n{done.stderr}"
        finally:
            tool("clean")
