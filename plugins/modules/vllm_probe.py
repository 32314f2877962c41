#!/usr/bin/python
# Copyright: (c) 2026, compute_plane.vllm contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Reads everything about a host that the plan decides from."""

from __future__ import annotations

DOCUMENTATION = r"""
module: vllm_probe
short_description: Read everything about a host that the vLLM plan decides from
version_added: 0.1.0
author:
  - compute_plane.vllm contributors (@compute-plane)
description:
  - Reads, in one round trip, what a plan for serving vLLM on a host depends on. That is the host
    itself, its Python interpreters, GPUs and their driver, CUDA toolkit and compilers, file
    systems, TCP ports, packages, local model directories, and what this collection deployed before.
  - Changes nothing and needs nothing on the host but Python.
  - What is not there is reported as not there. The module fails on wrong parameters only.
options:
  paths:
    description:
      - Absolute paths whose file systems to report. They need not exist yet; the nearest existing
        parent is looked at.
    type: list
    elements: path
    default: []
  packages:
    description:
      - Names of operating system packages whose versions to report (dpkg or rpm).
    type: list
    elements: str
    default: []
  models:
    description:
      - Local model directories to look into.
    type: list
    elements: path
    default: []
  hub:
    description:
      - Models of a Hugging Face Hub. The commit that is recorded of each is reported, and its
        directory is looked into as those in O(models) are.
    type: list
    elements: dict
    default: []
    suboptions:
      repo_id:
        description: The model's repository, as C(ORGANIZATION/NAME).
        type: str
        required: true
      revision:
        description: A branch, a tag or a full commit hash.
        type: str
        default: main
      trust_remote_code:
        description: Whether the repository's Python files are fetched too.
        type: bool
        default: false
  hub_dir:
    description:
      - The cache of models of a Hub.
    type: path
    default: /var/lib/vllm/hub
  python:
    description:
      - Python interpreters to ask, beside C(python3.*) in C(/usr/bin) and C(/usr/local/bin).
    type: list
    elements: path
    default: []
  opt_dir:
    description:
      - Where this collection keeps its tools and releases.
    type: path
    default: /opt/vllm
  etc_dir:
    description:
      - Where this collection keeps the instances' configurations.
    type: path
    default: /etc/vllm
  service_path:
    description:
      - The E(PATH) that the service will have. Compilers and C(nvcc) are looked for on it.
    type: str
    default: /usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin
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
  - module: compute_plane.vllm.gpu_info
  - module: compute_plane.vllm.nvcc_info
"""

EXAMPLES = r"""
- name: Read what the plan needs
  compute_plane.vllm.vllm_probe:
    paths:
      - /opt/vllm
      - /var/lib/vllm
    packages:
      - gcc
      - python3-dev
    models:
      - /srv/models/qwen2.5-7b-instruct
  register: probe_result

- name: Show the GPUs
  ansible.builtin.debug:
    msg: "{{ probe_result.facts.gpu.gpus | map(attribute='name') }}"
"""

RETURN = r"""
facts:
  description: What was found. What cannot be known is null.
  returned: always
  type: dict
  contains:
    host:
      description: The host itself. Sizes are bytes.
      type: dict
      sample:
        hostname: ac-3090
        distribution: ubuntu
        distribution_version: "24.04"
        distribution_like: [debian]
        os_family: debian
        architecture: x86_64
        kernel: 6.8.0-90-generic
        glibc: "2.39"
        effective_uid: 0
        systemd_version: 255
        systemd_running: true
        cgroup: v2
        cpu_count: 16
        cpu_flags: [avx2]
        memory_total_bytes: 67279618048
        memory_available_bytes: 62277025792
        addresses: [127.0.0.1, 192.0.2.7, "::1"]
    pythons:
      description:
        - Python interpreters that answer, with V(headers), the path of Python.h, and V(venv),
          whether they can make virtual environments. V(shim) is null, or, for a script that starts
          another interpreter as pyenv's do, the path of that, empty where it started none.
      type: list
      elements: dict
      sample:
        - path: /usr/bin/python3.12
          version: 3.12.3
          headers: /usr/include/python3.12/Python.h
          venv: true
          shim: null
    gpu:
      description: GPUs and driver, what M(compute_plane.vllm.gpu_info) returns.
      type: dict
      sample:
        driver:
          loaded: true
          version: 590.48.01
          cuda_version: "13.1"
          module_version: 590.48.01
          library_version: 590.48.01
          mismatch: false
          open_module: false
          cuinit: {ok: true, code: 0, error: null}
          error: null
        pci_devices:
          - {address: "0000:01:00.0", vendor: "0x10de", device: "0x2204", class: "0x030000"}
        gpus:
          - index: 0
            uuid: GPU-8f5d9c1e-3b1a-4c52-9d0e-7a64f1e2b390
            name: NVIDIA GeForce RTX 3090
            compute_capability: "8.6"
            memory_total_bytes: 25769803776
            memory_free_bytes: 25325207552
        devices: [/dev/nvidia0, /dev/nvidia-uvm, /dev/nvidiactl]
        source: nvidia-smi
    nvcc:
      description: CUDA toolkit and compilers, what M(compute_plane.vllm.nvcc_info) returns.
      type: dict
      sample:
        found: false
        path: null
        version: null
        on_service_path: false
        candidates: []
        c_compiler: {path: /usr/bin/gcc, version: 13.3.0}
        cxx_compiler: {path: /usr/bin/g++, version: 13.3.0}
        libc_headers: true
        service_path: /usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin
    mounts:
      description:
        - For each path in O(paths), the file system that it is on or would be on. V(existing) is
          the nearest part of the path that is there. V(free_bytes) is what users other than root
          can fill.
      type: dict
      sample:
        /opt/vllm:
          existing: /opt
          mount: /
          device: /dev/nvme0n1p2
          fstype: ext4
          options: [rw, relatime]
          total_bytes: 982141468672
          free_bytes: 612345675776
          read_only: false
    ports:
      description:
        - Every listening TCP socket, with the user who made it. Process and unit are null where
          this user may not see them.
      type: list
      elements: dict
      sample:
        - address: "127.0.0.1"
          port: 8000
          user: vllm
          pid: 48001
          process: python3
          unit: vllm@chat.service
    packages:
      description: Version of each package in O(packages), null for one that is not installed.
      type: dict
      sample:
        gcc: 4:13.2.0-7ubuntu1
        python3-dev: null
    models:
      description:
        - For each directory in O(models), and of O(hub), whether it is there, its C(config.json),
          its weights and whether it has a tokenizer.
        - V(documents) holds other JSON files that say what the model is, by their name, without
          the tokens of V(tokenizer_config.json); V(chat_template) is the template's text, or null.
        - V(weights.parameters) counts numbers by their format, in safetensors only.
        - V(weights.missing) lists files that the index names, or links lead to, and that are not
          there. V(weights.incomplete) lists safetensors files whose length is not what their header
          says.
      type: dict
      sample:
        /srv/models/smollm2-135m-instruct:
          exists: true
          is_directory: true
          readable: true
          config: {architectures: [LlamaForCausalLM], hidden_size: 576}
          config_error: null
          documents: {generation_config.json: {eos_token_id: 2}}
          chat_template: "{% for message in messages %}…"
          names: [config.json, generation_config.json, model.safetensors, tokenizer.json]
          weights:
            format: safetensors
            files: [{name: model.safetensors, bytes: 269060552}]
            bytes: 269060552
            parameters: {BF16: 134515008}
            missing: []
            incomplete: []
          tokenizer: true
    hub:
      description:
        - For each model in O(hub), what M(compute_plane.vllm.hf_model) recorded of it. V(commit) is
          null where it has not resolved the revision yet, and V(download_bytes) where it has not
          listed the files.
      type: list
      elements: dict
      sample:
        - repo_id: Qwen/Qwen3-8B
          revision: main
          commit: b968826d9c46dd6066d109eabc6255188de91218
          path: /srv/hub/models--Qwen--Qwen3-8B/snapshots/b968826d9c46dd6066d109eabc6255188de91218
          download_bytes: 0
          asked: null
          error: null
          base_models: []
    deployed:
      description:
        - What this collection put on the host before. A release that is V(proved) has the manifest
          of its proof.
        - Instances are those that are configured, enabled or loaded in systemd. States are null
          where systemd does not run.
      type: dict
      sample:
        tools: /opt/vllm/tools
        releases:
          - path: /opt/vllm/releases/0.14.1-cuda-5f0c2a9be311
            name: 0.14.1-cuda-5f0c2a9be311
            proved: true
            manifest: {release: 0.14.1, accelerator: cuda, python: /usr/bin/python3.12}
        instances:
          chat:
            unit: vllm@chat.service
            active_state: active
            sub_state: running
            enabled: true
            main_pid: 48001
            user: vllm
            port: 8000
            venv: /opt/vllm/releases/0.14.1-cuda-5f0c2a9be311
"""

from ansible.module_utils.basic import AnsibleModule

from ansible_collections.compute_plane.vllm.plugins.module_utils import probe
from ansible_collections.compute_plane.vllm.plugins.module_utils.host.machine import Host
from ansible_collections.compute_plane.vllm.plugins.module_utils.host.toolchain import SERVICE_PATH
from ansible_collections.compute_plane.vllm.plugins.module_utils.hub import known


def run(module: AnsibleModule, host: Host) -> None:
    """Reads the facts and ends the module.

    Args:
        module: The running module.
        host: The machine.
    """
    absolute = ("paths", "models", "python", "opt_dir", "etc_dir", "hub_dir")
    relative = [
        f"{name}: {path}"
        for name in absolute
        for path in (
            [module.params[name]] if isinstance(module.params[name], str) else module.params[name]
        )
        if not path.startswith("/")
    ]
    if relative:
        module.fail_json(msg=f"Give absolute paths. Not absolute: {', '.join(relative)}")
    hub = [
        known.recorded(module.params["hub_dir"], known.Request(**model))
        for model in module.params["hub"]
    ]
    questions = probe.Questions(**{name: module.params[name] for name in probe.Questions._fields})
    found = {entry["path"] for entry in hub} - {None, *questions.models}
    questions = questions._replace(models=[*questions.models, *sorted(found)])
    module.exit_json(changed=False, facts={**probe.collect(host, questions), "hub": hub})


def main() -> None:
    """Runs the module on this machine."""
    module = AnsibleModule(
        argument_spec={
            "paths": {"type": "list", "elements": "path", "default": []},
            "packages": {"type": "list", "elements": "str", "default": []},
            "models": {"type": "list", "elements": "path", "default": []},
            "hub": {
                "type": "list",
                "elements": "dict",
                "default": [],
                "options": {
                    "repo_id": {"type": "str", "required": True},
                    "revision": {"type": "str", "default": "main"},
                    "trust_remote_code": {"type": "bool", "default": False},
                },
            },
            "hub_dir": {"type": "path", "default": "/var/lib/vllm/hub"},
            "python": {"type": "list", "elements": "path", "default": []},
            "opt_dir": {"type": "path", "default": "/opt/vllm"},
            "etc_dir": {"type": "path", "default": "/etc/vllm"},
            "service_path": {"type": "str", "default": SERVICE_PATH},
        },
        supports_check_mode=True,
    )
    run(module, Host())


if __name__ == "__main__":
    main()
