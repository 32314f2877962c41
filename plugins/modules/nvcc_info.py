#!/usr/bin/python
# Copyright: (c) 2026, compute_plane.vllm contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Reads CUDA toolkit and compilers."""

from __future__ import annotations

DOCUMENTATION = r"""
module: nvcc_info
short_description: Read CUDA toolkit and compilers as a service sees them
version_added: 0.1.0
author:
  - compute_plane.vllm contributors (@compute-plane)
description:
  - Looks for the CUDA toolkit's compiler C(nvcc), a C and a C++ compiler, and Python's headers.
  - The E(PATH) that counts is the service's, not that of the user Ansible logs in as.
  - A host without C(nvcc) is the normal case.
  - Changes nothing.
options:
  service_path:
    description:
      - The E(PATH) that the service will have. The default is systemd's own for system services.
    type: str
    default: /usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin
  python:
    description:
      - A Python interpreter whose headers to look for, like the one vLLM's virtual environment is
        made from. Triton compiles against them when the server starts.
    type: path
attributes:
  check_mode:
    description: Can run in check mode and return what it would without.
    support: full
    details:
      - Only reads.
  diff_mode:
    description: Returns details on what has changed in diff mode.
    support: none
    details:
      - Changes nothing, so there is no difference to show.
seealso:
  - module: compute_plane.vllm.vllm_probe
  - module: compute_plane.vllm.gpu_info
"""

EXAMPLES = r"""
- name: Look for the CUDA toolkit and for what Triton needs
  compute_plane.vllm.nvcc_info:
    python: /usr/bin/python3.12
  register: nvcc_info_result

- name: Tell what is missing for TRITON_ATTN
  ansible.builtin.assert:
    that:
      - nvcc_info_result.nvcc.c_compiler is not none
      - nvcc_info_result.nvcc.libc_headers
      - nvcc_info_result.python.headers is not none
    fail_msg: Install gcc, libc6-dev and python3-dev.
"""

RETURN = r"""
nvcc:
  description: Toolkit and compilers.
  returned: always
  type: dict
  contains:
    found:
      description: Whether an C(nvcc) that runs is there.
      type: bool
      sample: true
    path:
      description: The first of them, one on the service's E(PATH) before others, or null.
      type: str
      sample: /usr/local/cuda/bin/nvcc
    version:
      description: Its version, or null.
      type: str
      sample: 12.8.93
    on_service_path:
      description:
        - Whether the service's E(PATH) leads to it. vLLM looks for C(nvcc) there and nowhere else
          before it lets FlashInfer compile.
      type: bool
      sample: false
    candidates:
      description:
        - Every C(nvcc), with V(path), V(version) and V(source), which is how it was found. That is
          V(PATH) (the service's), a toolkit's directory, V(package) (the distribution's),
          V(CUDA_HOME), V(CUDA_PATH) or V(login PATH). The last three are the login's, and no
          service sees them.
        - A version that is null belongs to a program that does not run.
      type: list
      elements: dict
      sample:
        - path: /usr/local/cuda/bin/nvcc
          version: 12.8.93
          source: /usr/local/cuda
    c_compiler:
      description: The C compiler that Triton will take, C(gcc) or C(clang). Null without one.
      type: dict
      sample:
        path: /usr/bin/gcc
        version: 13.3.0
    cxx_compiler:
      description: The C++ compiler that torch.compile will take, C(g++). Null without one.
      type: dict
      sample:
        path: /usr/bin/g++
        version: 13.3.0
    libc_headers:
      description: Whether the C library's headers are there, which a compiler alone does not bring.
      type: bool
      sample: true
    service_path:
      description: The E(PATH) that was searched.
      type: str
      sample: /usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin
python:
  description:
    - About the interpreter in O(python), with V(path), V(version), V(headers) (the path of
      Python.h, or null), V(venv) (whether it can make virtual environments) and V(shim) (null, or
      the interpreter that this script starts). Null when it was not asked for, or does not run.
  returned: always
  type: dict
  sample:
    path: /usr/bin/python3.12
    version: 3.12.3
    headers: /usr/include/python3.12/Python.h
    venv: true
    shim: null
"""

from ansible.module_utils.basic import AnsibleModule

from ansible_collections.compute_plane.vllm.plugins.module_utils.host.machine import Host
from ansible_collections.compute_plane.vllm.plugins.module_utils.host.pythons import Pythons
from ansible_collections.compute_plane.vllm.plugins.module_utils.host.toolchain import (
    SERVICE_PATH,
    Toolchain,
)


def run(module: AnsibleModule, host: Host) -> None:
    """Reads the facts and ends the module.

    Args:
        module: The running module.
        host: The machine.
    """
    python = module.params["python"]
    if python is not None and not python.startswith("/"):
        module.fail_json(msg=f"python: {python} is not an absolute path")
    pythons = Pythons(host, [python] if python else [], directories=())
    toolchain = Toolchain(host, module.params["service_path"])
    module.exit_json(
        changed=False, nvcc=toolchain.result(), python=next(iter(pythons.result()), None)
    )


def main() -> None:
    """Runs the module on this machine."""
    module = AnsibleModule(
        argument_spec={
            "service_path": {"type": "str", "default": SERVICE_PATH},
            "python": {"type": "path"},
        },
        supports_check_mode=True,
    )
    run(module, Host())


if __name__ == "__main__":
    main()
