# Copyright: (c) 2026, compute_plane.vllm contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
from __future__ import annotations

from pathlib import Path

import pytest

from ansible_collections.compute_plane.vllm.plugins.module_utils.gpu import nvidia_smi
from ansible_collections.compute_plane.vllm.plugins.module_utils.gpu.gpus import find_nvidia_smi
from ansible_collections.compute_plane.vllm.tests.unit.plugins.module_utils.fake_host import (
    FakeHost,
    ok,
)

MIB = 1024 * 1024
FIXTURES = Path(__file__).parents[4] / "fixtures"

# In the forms of three generations of drivers, cut to the elements that are read and their
# neighbours.
GEFORCE_575 = """\
<?xml version="1.0" ?>
<!DOCTYPE nvidia_smi_log SYSTEM "nvsmi_device_v12.dtd">
<nvidia_smi_log>
  <driver_version>575.51.02</driver_version>
  <cuda_version>12.9</cuda_version>
  <attached_gpus>1</attached_gpus>
  <gpu id="00000000:01:00.0">
    <product_name>NVIDIA GeForce RTX 3090</product_name>
    <display_mode>Requested functionality has been deprecated</display_mode>
    <display_attached>Yes</display_attached>
    <display_active>Enabled</display_active>
    <persistence_mode>Disabled</persistence_mode>
    <mig_mode><current_mig>N/A</current_mig><pending_mig>N/A</pending_mig></mig_mode>
    <uuid>GPU-529b3263-c96d-b557-bc75-697f04917eda</uuid>
    <pci>
      <pci_bus_id>00000000:01:00.0</pci_bus_id>
      <pci_gpu_link_info>
        <pcie_gen><max_link_gen>4</max_link_gen><current_link_gen>2</current_link_gen></pcie_gen>
        <link_widths>
          <max_link_width>16x</max_link_width><current_link_width>8x</current_link_width>
        </link_widths>
      </pci_gpu_link_info>
    </pci>
    <fb_memory_usage>
      <total>24576 MiB</total><reserved>390 MiB</reserved>
      <used>2026 MiB</used><free>22161 MiB</free>
    </fb_memory_usage>
    <compute_mode>Default</compute_mode>
    <utilization><gpu_util>30 %</gpu_util></utilization>
    <ecc_mode><current_ecc>N/A</current_ecc><pending_ecc>N/A</pending_ecc></ecc_mode>
    <gpu_power_readings>
      <current_power_limit>350.00 W</current_power_limit>
      <default_power_limit>340.00 W</default_power_limit>
      <min_power_limit>100.00 W</min_power_limit>
      <max_power_limit>366.00 W</max_power_limit>
    </gpu_power_readings>
    <module_power_readings><current_power_limit>N/A</current_power_limit></module_power_readings>
    <processes>
      <process_info>
        <gpu_instance_id>N/A</gpu_instance_id>
        <pid>1802</pid><type>G</type>
        <process_name>/usr/lib/xorg/Xorg</process_name><used_memory>1448 MiB</used_memory>
      </process_info>
      <process_info>
        <pid>1901</pid><type>C+G</type>
        <process_name>blender --x &amp; y</process_name><used_memory>N/A</used_memory>
      </process_info>
    </processes>
  </gpu>
</nvidia_smi_log>
"""

AMPERE_ECC_555 = """\
<nvidia_smi_log>
  <driver_version>555.42.06</driver_version><cuda_version>12.5</cuda_version>
  <gpu id="00000000:41:00.0">
    <product_name>NVIDIA H100 80GB HBM3</product_name>
    <display_mode>Enabled</display_mode><display_active>Disabled</display_active>
    <persistence_mode>Enabled</persistence_mode>
    <mig_mode><current_mig>Disabled</current_mig><pending_mig>Disabled</pending_mig></mig_mode>
    <uuid>GPU-1</uuid>
    <fb_memory_usage>
      <total>81559 MiB</total><reserved>599 MiB</reserved>
      <used>1 MiB</used><free>80960 MiB</free>
    </fb_memory_usage>
    <compute_mode>Exclusive_Process</compute_mode>
    <utilization><gpu_util>0 %</gpu_util></utilization>
    <ecc_mode><current_ecc>Enabled</current_ecc><pending_ecc>Disabled</pending_ecc></ecc_mode>
    <ecc_errors>
      <volatile>
        <sram_correctable>1</sram_correctable>
        <sram_uncorrectable_parity>2</sram_uncorrectable_parity>
        <sram_uncorrectable_secded>3</sram_uncorrectable_secded>
        <dram_correctable>10</dram_correctable>
        <dram_uncorrectable>20</dram_uncorrectable>
      </volatile>
      <aggregate>
        <sram_correctable>0</sram_correctable>
        <dram_correctable>100</dram_correctable>
        <dram_uncorrectable>200</dram_uncorrectable>
        <sram_threshold_exceeded>No</sram_threshold_exceeded>
      </aggregate>
    </ecc_errors>
    <gpu_power_readings><current_power_limit>700.00 W</current_power_limit></gpu_power_readings>
    <processes></processes>
  </gpu>
</nvidia_smi_log>
"""

TURING_450 = """\
<nvidia_smi_log>
  <driver_version>450.80.02</driver_version><cuda_version>11.0</cuda_version>
  <gpu id="00000000:00:1E.0">
    <product_name>Tesla T4</product_name>
    <display_mode>Disabled</display_mode><display_active>Disabled</display_active>
    <persistence_mode>Enabled</persistence_mode>
    <uuid>GPU-2</uuid>
    <fb_memory_usage>
      <total>15109 MiB</total><used>0 MiB</used><free>15109 MiB</free>
    </fb_memory_usage>
    <compute_mode>Prohibited</compute_mode>
    <utilization><gpu_util>N/A</gpu_util></utilization>
    <ecc_mode><current_ecc>Enabled</current_ecc><pending_ecc>Enabled</pending_ecc></ecc_mode>
    <ecc_errors>
      <volatile>
        <single_bit><device_memory>3</device_memory><total>3</total></single_bit>
        <double_bit><device_memory>0</device_memory><total>0</total></double_bit>
      </volatile>
      <aggregate>
        <single_bit><total>4</total></single_bit><double_bit><total>1</total></double_bit>
      </aggregate>
    </ecc_errors>
    <power_readings>
      <power_limit>70.00 W</power_limit><enforced_power_limit>60.00 W</enforced_power_limit>
    </power_readings>
  </gpu>
</nvidia_smi_log>
"""


NOT_LOADED = (
    "NVIDIA-SMI has failed because it couldn't communicate with the NVIDIA driver. Make sure that "
    "the latest NVIDIA driver is installed and running."
)


def gpu(xml):
    [found] = nvidia_smi.parse(xml, "", 0)["gpus"]
    return found


def test_geforce():
    answer = nvidia_smi.parse(GEFORCE_575, "", 0)
    assert (answer["driver_version"], answer["cuda_version"]) == ("575.51.02", "12.9")
    assert (answer["code"], answer["error"]) == (None, None)
    assert answer["gpus"] == [
        {
            "index": 0,
            "uuid": "GPU-529b3263-c96d-b557-bc75-697f04917eda",
            "name": "NVIDIA GeForce RTX 3090",
            "compute_capability": None,
            "memory_total_bytes": 24576 * MIB,
            "memory_reserved_bytes": 390 * MIB,
            "memory_used_bytes": 2026 * MIB,
            "memory_free_bytes": 22161 * MIB,
            "cuda_memory_total_bytes": None,
            "utilization_percent": 30,
            "power_limit_watts": 350.0,
            "power_limit_default_watts": 340.0,
            "power_limit_least_watts": 100.0,
            "power_limit_most_watts": 366.0,
            "persistence_mode": False,
            "compute_mode": "default",
            "ecc": None,
            "mig_mode": None,
            "display_active": True,
            "display_attached": True,
            "pcie": {"generation": 2, "width": 8, "max_generation": 4, "max_width": 16},
            "pci_bus_id": "00000000:01:00.0",
            "peers": [],
            "lost": False,
            "error": None,
            "processes": [
                {
                    "pid": 1802,
                    "name": "/usr/lib/xorg/Xorg",
                    "memory_used_bytes": 1448 * MIB,
                    "type": "graphics",
                },
                {
                    "pid": 1901,
                    "name": "blender --x & y",
                    "memory_used_bytes": None,
                    "type": "compute",
                },
            ],
        }
    ]


def test_ecc_since_ampere():
    facts = gpu(AMPERE_ECC_555)
    assert facts["ecc"] == {
        "mode": True,
        "pending": False,
        "volatile_corrected": 11,
        "volatile_uncorrected": 25,
        "aggregate_corrected": 100,
        "aggregate_uncorrected": 200,
    }
    assert facts["mig_mode"] is False
    assert facts["compute_mode"] == "exclusive_process"
    assert facts["display_attached"] is True
    assert facts["pcie"] is None
    assert facts["pci_bus_id"] == "00000000:41:00.0"


def test_a_real_h100():
    """What nvidia-smi printed on real hardware; the numbers were read off that output by eye."""
    xml = (FIXTURES / "nvidia-smi" / "h100.xml").read_text()
    answer = nvidia_smi.parse(xml, "", 0)
    assert (answer["driver_version"], answer["cuda_version"]) == ("580.159.04", "13.0")
    (gpu,) = answer["gpus"]
    assert gpu["name"] == "NVIDIA H100 80GB HBM3"
    assert gpu["memory_total_bytes"] == 81559 * MIB
    assert gpu["power_limit_watts"] == 700.0
    assert gpu["persistence_mode"] is True
    assert gpu["mig_mode"] is False
    assert gpu["ecc"]["mode"] is True
    assert gpu["display_active"] is False
    assert (gpu["lost"], gpu["error"], gpu["processes"]) == (False, None, [])
    assert gpu["pcie"] == {"generation": 5, "width": 16, "max_generation": 5, "max_width": 16}


def test_an_older_driver():
    facts = gpu(TURING_450)
    assert facts["ecc"]["volatile_corrected"] == 3
    assert facts["ecc"]["aggregate_uncorrected"] == 1
    assert facts["memory_reserved_bytes"] is None
    assert facts["power_limit_watts"] == 60.0
    assert facts["utilization_percent"] is None
    assert facts["mig_mode"] is None
    assert facts["compute_mode"] == "prohibited"
    assert facts["processes"] == []


@pytest.mark.parametrize(
    ("stdout", "rc", "error"),
    [
        (
            (
                "Failed to initialize NVML: Driver/library version mismatch\n"
                "NVML library version: 580.159\n"
            ),
            18,
            "Driver/library version mismatch",
        ),
        (
            f"{NOT_LOADED}\n",
            9,
            NOT_LOADED,
        ),
        ("No devices were found\n", 6, "No devices were found"),
        ("", 127, "nvidia-smi ended with exit status 127"),
        ("<nvidia_smi_log><gpu></nvidia_smi_log>", 0, "nvidia-smi printed XML that cannot be read"),
    ],
)
def test_failures(stdout, rc, error):
    answer = nvidia_smi.parse(stdout, "", rc)
    assert answer["error"].startswith(error)
    assert answer["code"] == (rc or None)
    assert answer["gpus"] == []


@pytest.mark.parametrize(
    ("message", "error"),
    [
        (
            (
                "Unable to determine the device handle for GPU 0000:02:00.0: GPU is lost.  "
                "Reboot the system to recover this GPU"
            ),
            "GPU is lost",
        ),
        (
            "Unable to determine the device handle for GPU0000:02:00.0: Unknown Error",
            "Unknown Error",
        ),
        (
            "Unable to determine the device handle for GPU1: 0000:02:00.0: Unknown Error",
            "Unknown Error",
        ),
    ],
)
def test_a_lost_gpu(message, error):
    answer = nvidia_smi.parse(f"{message}\n", "", 15)
    [found] = answer["gpus"]
    assert found["lost"] is True
    assert found["error"] == error
    assert found["pci_bus_id"] == "00000000:02:00.0"
    assert answer["error"] is None


def test_a_lost_gpu_beside_a_working_one():
    message = "Unable to determine the device handle for GPU1: 0000:02:00.0: Unknown Error\n"
    answer = nvidia_smi.parse(message + GEFORCE_575, "", 0)
    assert [(entry["index"], entry["lost"]) for entry in answer["gpus"]] == [(0, False), (1, True)]


def test_a_gpu_that_is_lost_while_it_is_read():
    xml = GEFORCE_575.replace("350.00 W", "GPU is lost").replace("30 %", "[GPU is lost]")
    facts = gpu(xml)
    assert facts["lost"] is True
    assert (facts["power_limit_watts"], facts["utilization_percent"]) == (None, None)


@pytest.mark.parametrize(
    ("stdout", "found"),
    [
        ("GPU-1, 8.6\nGPU-2, 9.0\n", {"GPU-1": "8.6", "GPU-2": "9.0"}),
        ("GPU-1, [N/A]\n", {}),
        ('Field "compute_cap" is not a valid field to query.\n', {}),
        ("", {}),
    ],
)
def test_compute_capability(stdout, found):
    assert nvidia_smi.parse_compute_capability(stdout) == found


def test_find():
    host = FakeHost(programs={"/usr/lib/wsl/lib/nvidia-smi": ok(""), "/nix/bin/nvidia-smi": ok("")})
    assert find_nvidia_smi(host) == "/usr/lib/wsl/lib/nvidia-smi"
    assert find_nvidia_smi(FakeHost()) is None
    host = FakeHost(programs=host.programs, environ={"PATH": "/nix/bin:/bin"})
    assert find_nvidia_smi(host) == "/nix/bin/nvidia-smi"
