# Copyright: (c) 2026, compute_plane.vllm contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""A host loses its root file system and is made again by site.yml: the same, byte for byte.

pytest -s tests/integration/endpoint      # also says how long each run took
"""

from __future__ import annotations

import os
import shutil
from typing import TYPE_CHECKING

import pytest

from .conftest import KEY

if TYPE_CHECKING:
    from .conftest import Box

DROP_IN = "/etc/systemd/system/vllm@smollm2.service.d/50-mine.conf"


# Two more runs of site.yml, one of them with another Python's packages.
@pytest.mark.timeout(1800)
def test_a_host_is_made_again(box: Box) -> None:
    record = box.record()
    first, proved = box.digest(), box("cat", "/var/lib/vllm/proved/smollm2.json")
    weights = box.hub.sent()
    assert any(path.endswith("/model.safetensors") for path in first)
    box("mkdir", "-p", os.path.dirname(DROP_IN))
    box("sh", "-c", f"printf '[Service]\nNice=5\n' >{DROP_IN}")
    first[DROP_IN] = box.digest()[DROP_IN]
    assert "changed=1" in box.play("backup")
    backup = box.directory / "backups" / "box.json"
    assert (backup.stat().st_mode & 0o777, KEY in backup.read_text()) == (0o600, True)
    assert "changed=0" in box.play("backup")

    # The same Debian on an empty disk; packages are kept, models come from the Hub again.
    verified = box.verified()["at"]
    box.down()
    shutil.rmtree(box.disk)
    box.disk.mkdir()
    box.up("bookworm")
    assert "changed=1" in box.play("restore")
    assert "changed=0" in box.play("restore")
    assert box("cat", "/var/lib/vllm/proved/smollm2.json") == proved
    box.play("site")
    again = box.digest()
    assert {
        path for path in first.keys() | again.keys() if first.get(path) != again.get(path)
    } == set()
    assert box.record() == record
    # What was restored is no proof for a new root file system.
    assert box.verified()["at"] > verified
    assert box.hub.sent() >= 2 * weights - 10_000

    # The next Debian, and the models' disk is kept.
    verified, sent = box.verified()["at"], box.hub.sent()
    box.down()
    box.up("trixie")
    box.play("restore")
    assert "failed=0" in box.play("site")
    newer = box.digest()
    configured = [path for path in first if path.startswith(("/etc/vllm", "/var/lib/vllm"))]
    assert configured
    assert {path: newer.get(path) for path in configured if "-py" not in path} == {
        path: first[path] for path in configured
    }
    assert any("python3.13" in path for path in newer)
    assert box.verified()["at"] > verified
    assert box.hub.sent() - sent < 100_000
