# Copyright: (c) 2026, compute_plane.vllm contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The CUDA driver itself: does `cuInit` work?

NVML can answer while CUDA cannot (open kernel modules and HMM, a half-upgraded driver, missing
/dev/nvidia-uvm), so only this call tells. `cuInit` makes no context and takes no GPU memory. Run
`read` in a child process: a broken driver can hang or crash it.

Function and constant names: NVIDIA CUDA Driver API,
https://docs.nvidia.com/cuda/cuda-driver-api/index.html
"""

from __future__ import annotations

import ctypes
import os
import uuid
from typing import Any

LIBRARY = "libcuda.so.1"
_SUCCESS = 0
_COMPUTE_CAPABILITY_MAJOR = 75  # CU_DEVICE_ATTRIBUTE_COMPUTE_CAPABILITY_MAJOR
_COMPUTE_CAPABILITY_MINOR = 76


def format_version(number: int) -> str:
    """CUDA's version number as people write it: 12080 is "12.8", 13010 is "13.1"."""
    return f"{number // 1000}.{number % 1000 // 10}"


def _error(library: ctypes.CDLL, code: int) -> str:
    """The name and the text that the driver gives an error, or its number."""
    words = []
    for name in ("cuGetErrorName", "cuGetErrorString"):
        text = ctypes.c_char_p()
        function = getattr(library, name, None)
        if function is not None and function(code, ctypes.byref(text)) == _SUCCESS and text.value:
            words.append(text.value.decode("utf-8", "replace"))
    return ": ".join(words) or f"error {int(code)}"


def _device(library: ctypes.CDLL, ordinal: int) -> dict[str, Any] | None:
    """What CUDA says about one device without a context."""
    device = ctypes.c_int()
    identity = (ctypes.c_ubyte * 16)()
    if library.cuDeviceGet(ctypes.byref(device), ordinal) != _SUCCESS:
        return None
    if library.cuDeviceGetUuid(ctypes.byref(identity), device) != _SUCCESS:
        return None
    numbers = []
    for attribute in (_COMPUTE_CAPABILITY_MAJOR, _COMPUTE_CAPABILITY_MINOR):
        number = ctypes.c_int()
        if library.cuDeviceGetAttribute(ctypes.byref(number), attribute, device) != _SUCCESS:
            break
        numbers.append(str(number.value))
    total = ctypes.c_size_t()
    known = library.cuDeviceTotalMem_v2(ctypes.byref(total), device) == _SUCCESS
    return {
        "uuid": f"GPU-{uuid.UUID(bytes=bytes(identity))}",
        "compute_capability": ".".join(numbers) if len(numbers) == 2 else None,
        "memory_total_bytes": total.value if known else None,
    }


def read() -> dict[str, Any]:
    """Initialises the CUDA driver in this process and asks what it sees.

    Returns:
        ok, code (CUresult of cuInit, None without the library), error (one line, None when ok),
        version (of the library's CUDA, like "13.1"), devices [{uuid, compute_capability,
        memory_total_bytes}].
    """
    # The caller's shell must not hide GPUs from the answer.
    os.environ.pop("CUDA_VISIBLE_DEVICES", None)
    answer: dict[str, Any] = {
        "ok": False,
        "code": None,
        "error": None,
        "version": None,
        "devices": [],
    }
    try:
        library = ctypes.CDLL(LIBRARY)
    except OSError as error:
        missing = "cannot open shared object file: No such file" in str(error)
        answer["error"] = f"{LIBRARY} is not installed" if missing else str(error)
        return answer
    version = ctypes.c_int()
    if library.cuDriverGetVersion(ctypes.byref(version)) == _SUCCESS:
        answer["version"] = format_version(version.value)
    code = library.cuInit(0)
    answer["code"] = code
    if code != _SUCCESS:
        answer["error"] = _error(library, code)
        return answer
    answer["ok"] = True
    count = ctypes.c_int()
    if library.cuDeviceGetCount(ctypes.byref(count)) == _SUCCESS:
        devices = [_device(library, ordinal) for ordinal in range(count.value)]
        answer["devices"] = [device for device in devices if device is not None]
    return answer
