#!/usr/bin/python
# Copyright: (c) 2026, compute_plane.vllm contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Reads GPUs and NVIDIA driver."""

from __future__ import annotations

DOCUMENTATION = r"""
module: gpu_info
short_description: Read NVIDIA GPUs and their driver
version_added: 0.1.0
author:
  - compute_plane.vllm contributors (@compute-plane)
description:
  - Reads what is known about the NVIDIA GPUs of a host and their driver.
  - GPUs are asked about through NVML, by pynvml where this Python or the tools of this collection
    have it, else by C(nvidia-smi), so it works on a host that nothing was installed on yet.
  - The CUDA driver is asked itself, too (C(cuInit)), because NVML can answer while CUDA cannot.
    This makes no context and takes no GPU memory.
  - Both are asked in child processes with a time limit. A driver that hangs or crashes, a GPU that
    is lost, a driver that is not there are results, not failures.
  - Changes nothing.
options:
  source:
    description:
      - Which way to ask NVML.
      - V(auto) asks pynvml where it is there, else the program C(nvidia-smi). V(pynvml) and
        V(nvidia-smi) ask that one alone.
    type: str
    choices: [auto, pynvml, nvidia-smi]
    default: auto
  tools:
    description:
      - Virtual environment to find pynvml in where the module's own Python does not have it.
    type: path
    default: /opt/vllm/tools
  timeout:
    description:
      - Seconds until NVML or the CUDA driver is given up.
    type: float
    default: 30
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
  - module: compute_plane.vllm.nvcc_info
"""

EXAMPLES = r"""
- name: Read GPUs and driver
  compute_plane.vllm.gpu_info:
  register: gpu_info_result

- name: Refuse a host whose CUDA driver does not start
  ansible.builtin.assert:
    that: gpu_info_result.driver.cuinit.ok
    fail_msg: "{{ gpu_info_result.driver.cuinit.error }}"

- name: Show who holds GPU memory
  ansible.builtin.debug:
    msg: "{{ gpu_info_result.gpus | map(attribute='processes') | flatten }}"
"""

RETURN = r"""
driver:
  description: The driver, as its three parts tell it.
  returned: always
  type: dict
  contains:
    loaded:
      description: Whether a kernel module is loaded or NVML answers.
      type: bool
      sample: true
    version:
      description: Version of the driver.
      type: str
      sample: 590.48.01
    cuda_version:
      description: Newest CUDA that the driver supports.
      type: str
      sample: "13.1"
    module_version:
      description: Version of the kernel module that is loaded.
      type: str
      sample: 590.48.01
    library_version:
      description: Version of the NVML library that is installed.
      type: str
      sample: 590.48.01
    mismatch:
      description:
        - Whether library and loaded module differ, or NVML says so. The driver was upgraded and the
          host not rebooted.
      type: bool
      sample: false
    open_module:
      description: Whether the kernel module is NVIDIA's open one. Null when that cannot be told.
      type: bool
      sample: false
    cuinit:
      description: What C(cuInit) of the CUDA driver returned.
      type: dict
      contains:
        ok:
          description: Whether CUDA can be used.
          type: bool
          sample: true
        code:
          description: CUDA's error code, 0 for success. Null when it was not reached.
          type: int
          sample: 0
        error:
          description: What went wrong.
          type: str
          sample: "CUDA_ERROR_NO_DEVICE: no CUDA-capable device is detected"
    error:
      description: Why NVML could not be asked. Null when it could.
      type: str
      sample: libnvidia-ml.so.1 is not installed
pci_devices:
  description:
    - NVIDIA display and 3D controllers on the PCI bus, as sysfs prints them. A GPU is seen here
      without any driver.
  returned: always
  type: list
  elements: dict
  sample:
    - address: "0000:01:00.0"
      vendor: "0x10de"
      device: "0x2204"
      class: "0x030000"
gpus:
  description: The GPUs that NVML knows. What a GPU or driver does not support is null.
  returned: always
  type: list
  elements: dict
  contains:
    index:
      description: NVML's index, in the order of the PCI bus.
      type: int
      sample: 0
    uuid:
      description: Its name for E(CUDA_VISIBLE_DEVICES) that stays the same when hardware changes.
      type: str
      sample: GPU-8f5d9c1e-3b1a-4c52-9d0e-7a64f1e2b390
    name:
      description: Product name.
      type: str
      sample: NVIDIA GeForce RTX 3090
    compute_capability:
      description: CUDA compute capability.
      type: str
      sample: "8.6"
    memory_total_bytes:
      description: Memory of the GPU in bytes.
      type: int
      sample: 25769803776
    memory_reserved_bytes:
      description: The part of it that the driver keeps, in bytes. Null from drivers before 510.
      type: int
      sample: 442499072
    memory_used_bytes:
      description:
        - Memory in use, in bytes, without RV(gpus[].memory_reserved_bytes) where that is known.
      type: int
      sample: 2097152
    memory_free_bytes:
      description: Memory that is free, in bytes.
      type: int
      sample: 25325207552
    cuda_memory_total_bytes:
      description:
        - Memory that CUDA can use, in bytes, the total that vLLM takes its share of. Null when
          CUDA does not start.
      type: int
      sample: 25327304704
    utilization_percent:
      description: How busy it was lately.
      type: int
      sample: 0
    power_limit_watts:
      description: Power limit in force, in watts.
      type: float
      sample: 350.0
    power_limit_default_watts:
      description: The limit that it has after a boot, in watts.
      type: float
      sample: 350.0
    power_limit_least_watts:
      description: The least that its limit can be set to, in watts; null where it cannot be set.
      type: float
      sample: 100.0
    power_limit_most_watts:
      description: The most that its limit can be set to, in watts; null where it cannot be set.
      type: float
      sample: 366.0
    persistence_mode:
      description: Whether the driver keeps the GPU initialised without users.
      type: bool
      sample: true
    compute_mode:
      description: How many processes may compute on it at a time.
      type: str
      sample: default
    ecc:
      description:
        - Error correction, with V(mode), V(pending) and the counters V(volatile_corrected),
          V(volatile_uncorrected) (since the driver was loaded), V(aggregate_corrected) and
          V(aggregate_uncorrected) (ever). Null where the GPU has none.
      type: dict
      sample:
        mode: true
        pending: true
        volatile_corrected: 0
        volatile_uncorrected: 0
        aggregate_corrected: 0
        aggregate_uncorrected: 0
    mig_mode:
      description: Whether it is split into MIG instances.
      type: bool
      sample: false
    display_active:
      description: Whether a display is set up on it, even with no monitor connected.
      type: bool
      sample: false
    display_attached:
      description: Whether a monitor is connected to it.
      type: bool
      sample: false
    pcie:
      description: The PCIe link, now (it is slower when idle) and at most.
      type: dict
      sample:
        generation: 1
        width: 16
        max_generation: 4
        max_width: 16
    pci_bus_id:
      description: Its place on the PCI bus as NVML prints it.
      type: str
      sample: "00000000:01:00.0"
    peers:
      description:
        - How it reaches each other GPU, with V(index), V(path) as C(nvidia-smi topo -m) names it
          (V(NV4) is four NVLinks; V(PIX), V(PXB), V(PHB), V(NODE) and V(SYS) are ways over PCIe),
          and V(p2p), whether it reads the other's memory directly. Null where NVML was not asked
          itself, or not of this GPU.
      type: list
      elements: dict
      sample:
        - index: 1
          path: PHB
          p2p: false
    lost:
      description: Whether it does not answer any more. Only a reboot helps.
      type: bool
      sample: false
    error:
      description: What NVML said when it could not be read completely.
      type: str
      sample: GPU is lost
    processes:
      description:
        - Processes that use it, with V(pid), V(name), V(owner), V(unit) (of systemd),
          V(memory_used_bytes) and V(type) (V(compute) or V(graphics)). Owner and unit are null for
          a process that cannot be seen from here.
      type: list
      elements: dict
      sample:
        - pid: 48213
          name: "VLLM::EngineCore"
          owner: vllm
          unit: vllm@qwen2.5-7b-instruct.service
          memory_used_bytes: 23697817600
          type: compute
devices:
  description: The driver's device files.
  returned: always
  type: list
  elements: str
  sample:
    - /dev/nvidia0
    - /dev/nvidia-uvm
    - /dev/nvidiactl
source:
  description: Which way NVML was asked, V(pynvml) or V(nvidia-smi). Null when there was none.
  returned: always
  type: str
  sample: pynvml
"""

from ansible.module_utils.basic import AnsibleModule

from ansible_collections.compute_plane.vllm.plugins.module_utils.gpu import gpus as gpu
from ansible_collections.compute_plane.vllm.plugins.module_utils.gpu import nvidia_smi
from ansible_collections.compute_plane.vllm.plugins.module_utils.host.machine import Host


def run(module: AnsibleModule, host: Host) -> None:
    """Reads the facts and ends the module.

    Args:
        module: The running module.
        host: The machine.
    """
    params = module.params
    if not params["timeout"] > 0:
        module.fail_json(msg=f"timeout: {params['timeout']} is not a positive number of seconds")
    reader = gpu.Gpus(
        host, lambda: nvidia_smi, params["tools"], params["source"], params["timeout"]
    )
    module.exit_json(changed=False, **reader.result())


def main() -> None:
    """Runs the module on this machine."""
    module = AnsibleModule(
        argument_spec={
            "source": {"type": "str", "choices": list(gpu.SOURCES), "default": "auto"},
            "tools": {"type": "path", "default": gpu.TOOLS},
            "timeout": {"type": "float", "default": gpu.TIMEOUT},
        },
        supports_check_mode=True,
    )
    run(module, Host())


if __name__ == "__main__":
    main()
