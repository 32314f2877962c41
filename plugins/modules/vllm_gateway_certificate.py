#!/usr/bin/python
# Copyright: (c) 2026, compute_plane.vllm contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""A gateway's certificate from an internal authority."""

from __future__ import annotations

DOCUMENTATION = r"""
module: vllm_gateway_certificate
short_description: Have a certificate for a gateway from an internal authority
version_added: 1.0.0
description:
  - Ensures that there is an authority on this host, and a certificate that it has given. The
    certificate is made anew before it ends, and when its names are others.
author: compute_plane.vllm contributors (@compute-plane)
requirements:
  - python3-cryptography
attributes:
  check_mode:
    support: full
    description: Returns a certificate that is not kept.
  diff_mode:
    support: none
    description: The result says why the certificate is new.
options:
  name:
    description: Whose certificate it is.
    type: str
    required: true
  names:
    description: The DNS names and IP addresses that it is for.
    type: list
    elements: str
    required: true
  days:
    description: How long it is valid.
    type: int
    default: 397
  renew:
    description: Days before its end in which it is made anew.
    type: int
    default: 30
  folder:
    description: Where the authority and the certificates are kept.
    type: path
    default: /var/lib/vllm-gateway/ca
"""

EXAMPLES = r"""
- name: A certificate for the gateway
  compute_plane.vllm.vllm_gateway_certificate:
    name: gateway1
    names: [llm.example, 192.0.2.7]
  register: certificate
  no_log: true
"""

RETURN = r"""
pem:
  description: The certificate and its key, as HAProxy reads them.
  type: str
  returned: always
ca:
  description: The authority's certificate, which clients trust.
  type: str
  returned: always
why:
  description: Why the certificate is new; null where it is not.
  type: str
  returned: always
"""

import os

from ansible.module_utils.basic import AnsibleModule, missing_required_lib

from ansible_collections.compute_plane.vllm.plugins.module_utils.common.texts import (
    read,
    write_atomically,
)
from ansible_collections.compute_plane.vllm.plugins.module_utils.gateway import certificates


def kept(folder: str, name: str) -> certificates.Pair | None:
    """A pair that is there."""
    certificate = read(os.path.join(folder, f"{name}.crt"))
    key = read(os.path.join(folder, f"{name}.key"))
    return certificates.Pair(certificate, key) if certificate and key else None


def keep(folder: str, name: str, pair: certificates.Pair) -> None:
    """Write a pair."""
    os.makedirs(folder, mode=0o700, exist_ok=True)
    # The key first: a certificate without its key would not be looked at again.
    write_atomically(os.path.join(folder, f"{name}.key"), pair.key, 0o600)
    write_atomically(os.path.join(folder, f"{name}.crt"), pair.certificate, 0o644)


def main() -> None:
    """Run the module."""
    module = AnsibleModule(
        argument_spec={
            "name": {"type": "str", "required": True},
            "names": {"type": "list", "elements": "str", "required": True},
            "days": {"type": "int", "default": 397},
            "renew": {"type": "int", "default": 30},
            "folder": {"type": "path", "default": "/var/lib/vllm-gateway/ca"},
        },
        supports_check_mode=True,
    )
    if certificates.MISSING is not None:
        module.fail_json(msg=missing_required_lib("cryptography"))
    params = module.params
    folder = params["folder"]
    ca = kept(folder, "ca")
    if ca is None:
        ca = certificates.make_ca(f"vLLM gateway {params['name']}")
        if not module.check_mode:
            keep(folder, "ca", ca)
    # A name of its own: a gateway may be called ca.
    pair = kept(folder, f"server-{params['name']}")
    why = certificates.why_new(pair, ca, params["names"], params["renew"])
    if pair is None or why is not None:
        pair = certificates.make_certificate(ca, params["names"], params["days"])
        if not module.check_mode:
            keep(folder, f"server-{params['name']}", pair)
    module.exit_json(
        changed=why is not None, pem=pair.certificate + pair.key, ca=ca.certificate, why=why
    )


if __name__ == "__main__":
    main()
