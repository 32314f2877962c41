#!/usr/bin/python
# Copyright: (c) 2026, compute_plane.vllm contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Take servers out of a gateway and put them back."""

from __future__ import annotations

DOCUMENTATION = r"""
module: vllm_gateway_servers
short_description: Take servers out of a gateway, and put them back
version_added: 1.0.0
description:
  - Runs on a gateway. V(drain) sees to it that the servers of some instances get no new requests,
    and waits for those under way. V(ready) lets them get requests again, and waits until the
    gateway finds them well.
  - Servers that the gateway does not have are nobody's concern. So is a gateway that does not run.
  - What is set is kept over reloads of the gateway.
author: compute_plane.vllm contributors (@compute-plane)
attributes:
  check_mode:
    support: full
    description: Says what would be set; waits for nothing.
  diff_mode:
    support: none
    description: The result says what was set.
options:
  host:
    description: The name in the inventory of the host that serves.
    type: str
    required: true
  instances:
    description: Its instances.
    type: list
    elements: str
    required: true
  state:
    description: Whether the servers are taken out or put back.
    type: str
    choices: [drain, ready]
    required: true
  timeout:
    description:
      - Seconds for the requests under way, or until the gateway finds a server well. Requests that
        take longer are told with a warning; a server that is not well by then is a failure.
    type: int
    default: 300
  last:
    description:
      - V(refuse) ends with an error, before anything is set, where nobody else would serve a model.
    type: str
    choices: [allow, refuse]
    default: allow
  socket:
    description: Where the gateway listens for commands.
    type: path
    default: /run/vllm-gateway/admin.sock
"""

EXAMPLES = r"""
- name: Nobody is sent to a server that is about to be restarted
  compute_plane.vllm.vllm_gateway_servers:
    host: gpu1
    instances: [qwen2.5-7b-instruct]
    state: drain
  delegate_to: gateway1
"""

RETURN = r"""
servers:
  description: The servers, as C(backend/server), each with how it was left.
  type: dict
  returned: always
  sample: {"model:qwen2.5-7b-instruct/gpu1:qwen2.5-7b-instruct": DRAIN}
requests:
  description: Requests that were still under way on them at the end.
  type: int
  returned: always
"""

import os

from ansible.module_utils.basic import AnsibleModule

from ansible_collections.compute_plane.vllm.plugins.module_utils.common.failed import Failed
from ansible_collections.compute_plane.vllm.plugins.module_utils.gateway.runtime import (
    SOCKET,
    Gateway,
    of,
    server_name,
    without_another,
)


def run(module: AnsibleModule) -> None:
    """Set and wait.

    Raises:
        Failed: Nobody else serves a model, or a server is not well.
    """
    wanted = module.params
    if not os.path.exists(wanted["socket"]):
        module.exit_json(changed=False, servers={}, requests=0)
    gateway = Gateway(wanted["socket"])
    names = [server_name(wanted["host"], instance) for instance in wanted["instances"]]
    every = gateway.servers()
    found = of(every, names)
    is_drain = wanted["state"] == "drain"
    if is_drain and wanted["last"] == "refuse":
        alone = without_another(every, names)
        if alone:
            raise Failed(
                f"without {wanted['host']} nobody would serve {', '.join(alone)}: its other servers"
                " are missing, drained or not well (playbooks/status.yml). Nothing was changed"
            )
    to_set = [server for server in found if server.is_drained != is_drain]
    if not module.check_mode and found:
        gateway.set_state(to_set, wanted["state"])
        found = gateway.wait(
            names,
            lambda now: all(
                server.sessions == 0 if is_drain else server.serves for server in now.values()
            ),
            wanted["timeout"],
        )
    sick = [server for server in found if not is_drain and not server.serves]
    if sick and not module.check_mode:
        states = ", ".join(f"{server.path}: {server.status}" for server in sick)
        raise Failed(
            f"the gateway does not find the servers of {wanted['host']} well after"
            f" {wanted['timeout']} s ({states}). It asks their /health; see whether it reaches them"
        )
    requests = sum(server.sessions for server in found) if is_drain else 0
    if requests:
        module.warn(
            f"{requests} requests to {wanted['host']} are still under way after"
            f" {wanted['timeout']} s; what stops the server gives them its own time"
        )
    module.exit_json(
        changed=bool(to_set),
        servers={server.path: server.status for server in found},
        requests=requests,
    )


def main() -> None:
    """Run the module."""
    module = AnsibleModule(
        argument_spec={
            "host": {"type": "str", "required": True},
            "instances": {"type": "list", "elements": "str", "required": True},
            "state": {"type": "str", "choices": ["drain", "ready"], "required": True},
            "timeout": {"type": "int", "default": 300},
            "last": {"type": "str", "choices": ["allow", "refuse"], "default": "allow"},
            "socket": {"type": "path", "default": SOCKET},
        },
        supports_check_mode=True,
    )
    try:
        run(module)
    except Failed as problem:
        module.fail_json(msg=str(problem))


if __name__ == "__main__":
    main()
