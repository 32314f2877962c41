#!/usr/bin/python
# Copyright: (c) 2026, compute_plane.vllm contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Set the power limits of GPUs."""

from __future__ import annotations

DOCUMENTATION = r"""
module: gpu_power
short_description: Set the power limits of NVIDIA GPUs
version_added: 1.0.0
description:
  - Sets the limits through NVML, and switches persistence mode on, without which a driver may
    forget them. They last until the driver is loaded anew, so the role C(vllm_gpu) has a unit set
    them again at each boot.
  - A card that the installed unit names and O(limits) does not gets its own default back. One that
    is in neither is left alone.
author: compute_plane.vllm contributors (@compute-plane)
attributes:
  check_mode:
    support: full
    description: Says which limits would be set.
  diff_mode:
    support: full
    description: Shows the limits before and after.
options:
  limits:
    description: The limit of each card in watts, by UUID. No card is limited where it is empty.
    type: dict
    required: true
  unit:
    description: The unit file that sets the limits at boot, as it is before this run.
    type: path
    default: /etc/systemd/system/vllm-power.service
  timeout:
    description: Seconds that the driver may take; a lost card can hang it.
    type: float
    default: 60.0
"""

EXAMPLES = r"""
- name: Ensure a card takes 280 W at most
  compute_plane.vllm.gpu_power:
    limits:
      GPU-1b2c3d4e-5f60-7182-93a4-b5c6d7e8f901: 280
"""

RETURN = r"""
cards:
  description: Each card that was changed, as it is now; in check mode as it would be.
  type: list
  elements: str
  returned: success
  sample:
    - "NVIDIA GeForce RTX 3090 (GPU-1b2c3d4e-5f60-7182-93a4-b5c6d7e8f901): limit 280 W,
      persistence mode on"
"""

import functools

from ansible.module_utils.basic import AnsibleModule

from ansible_collections.compute_plane.vllm.plugins.module_utils.gpu.power import (
    attempt,
    named_in,
)
from ansible_collections.compute_plane.vllm.plugins.module_utils.host.machine import Host


def main() -> None:
    """Run the module."""
    module = AnsibleModule(
        argument_spec={
            "limits": {"type": "dict", "required": True},
            "unit": {"type": "path", "default": "/etc/systemd/system/vllm-power.service"},
            "timeout": {"type": "float", "default": 60.0},
        },
        supports_check_mode=True,
    )
    host = Host()
    try:
        wanted = {str(uuid): float(limit) for uuid, limit in module.params["limits"].items()}
    except (TypeError, ValueError):
        module.fail_json(msg="limits: each is a number of watts")
    former = named_in(host.read_text(module.params["unit"]) or "")
    if not wanted and not former:
        module.exit_json(changed=False, cards=[])
    # In a child, for a lost card can hang any call.
    done = host.start_isolated(
        "NVML",
        functools.partial(attempt, wanted, former, module.check_mode),
        module.params["timeout"],
    ).result()
    problem = done.error or done.value.get("problem")
    if problem and not wanted:
        # What takes the limits away must not stand in the way of taking the rest away.
        module.warn(f"No card got its own limit back, which it has after a boot: {problem}")
        module.exit_json(changed=False, cards=[])
    if problem:
        module.fail_json(msg=f"The power limits could not be set: {problem}")
    before = "".join(f"{was}\n" for was, _now in done.value["cards"])
    after = "".join(f"{now}\n" for _was, now in done.value["cards"])
    module.exit_json(
        changed=bool(done.value["cards"]),
        cards=after.splitlines(),
        diff={"before": before, "after": after},
    )


if __name__ == "__main__":
    main()
