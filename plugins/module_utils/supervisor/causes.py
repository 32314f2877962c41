# Copyright: (c) 2026, compute_plane.vllm contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Why a server ended, read from what it wrote last. Pure.

The texts are those of vLLM 0.14.1 and 0.26.0, of the torch and Triton that they run on, and of what
people report; where each was read stands beside it.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass


@dataclass(frozen=True)
class Cause:
    """A reason for which a server ends.

    Attributes:
        name: Its short name.
        pattern: Found in a line of the log, it is this cause.
        summary: The cause as a person would say it.
        remedy: What to do about it.
    """

    name: str
    pattern: re.Pattern[str]
    summary: str
    remedy: str


@dataclass(frozen=True)
class Found:
    """A cause and the line that tells it."""

    cause: Cause
    line: str


def _cause(name: str, pattern: str, summary: str, remedy: str) -> Cause:
    return Cause(name, re.compile(pattern), summary, remedy)


# Folders of compiled code: the unit's variables for torch's inductor and Triton, and vLLM's own.
_COMPILED = (
    r"(?:/(?:inductor|inductor_cache|triton_cache|torch_compile_cache|torch_aot_compile)/"
    r"|(?<!site-packages)/triton/)"
)

CAUSES: tuple[Cause, ...] = (
    # Python's argparse; "unrecognized arguments" also for unknown keys of the --config file.
    _cause(
        "unknown_flag",
        r"^(vllm|api_server\.py)( \w+)?: error: "
        r"|error: unrecognized arguments: |error: argument --[\w-]+: ",
        "vLLM does not know one of its arguments, or refuses its value",
        "Correct extra_args of the instance in the inventory, or what a drop-in of yours adds; "
        "`vllm serve --help=all` of this release lists what there is.",
    ),
    # vllm/compilation/compiler_interface.py; vllm issues 21858, 18851, 31199, 24915; ls1intum/
    # edutelligence issue 579 for compiled code of an earlier run that does not fit any more.
    # Files that were cut off, as after a loss of power, were seen with 0.14.1: libraries, modules
    # without content, and modules that end in the middle; vllm/compilation/backends.py
    # initialize_cache and torch/_inductor/standalone_compile.py CompiledArtifact.load.
    _cause(
        "corrupt_compile_cache",
        r"previous compilation failed, leading to a corrupted compilation artifact"
        r"|failed to get the hash of the compiled graph"
        r"|_pickle\.UnpicklingError: "
        r"|copy_misaligned_inputs"
        r"|Expected tensors only, but got"
        rf"|{_COMPILED}\S*\.so: (?:file too short|invalid ELF header|cannot read file data)"
        r"|module 'torch\._inductor\.runtime\.compile_tasks\.\w+' has no attribute"
        rf"|File \"[^\"]*{_COMPILED}[^\"]*\.py\", line \d+$"
        r"|cache = ast\.literal_eval\(f\.read\(\)\)"
        r"|expected CacheCompiledArtifact or AOTCompiledArtifact, got"
        r"|(?:header|key|artifact|artifact_bytes) = reader\.read_(?:bytes|str)\(\)"
        r"|assert reader\.(?:is_finished\(\)|read_bytes\(\) == torch_key)",
        "the cache of compiled code is corrupt",
        "Remove it and start again: systemctl stop the unit, then remove torch_compile_cache, "
        "triton and inductor below /var/cache/vllm/INSTANCE; it is built anew (minutes).",
    ),
    # strerror(ENOSPC), EDQUOT.
    _cause(
        "disk_full",
        r"No space left on device|\[Errno 28\]|Disk quota exceeded",
        "a file system is full",
        "Free space where the log says (df -h /var/cache /var/lib /tmp); old releases and models "
        "are in /opt/vllm/releases and /var/lib/vllm/hub.",
    ),
    # triton/runtime/build.py; torch/_inductor/exc.py InvalidCxxCompiler; vllm issues 2997, 15329.
    _cause(
        "no_compiler",
        r"Failed to find C compiler"
        r"|No working C\+\+ compiler found"
        r"|InvalidCxxCompiler"
        r"|(?:FileNotFoundError: \[Errno 2\] No such file or directory"
        r"|PermissionError: \[Errno 13\] Permission denied): '(?:[^']*/)?"
        r"(?:gcc|g\+\+|cc|c\+\+|clang|clang\+\+)'",
        "there is no C compiler on the service's PATH that it may run",
        "Install gcc and g++ (Debian: apt-get install gcc g++ libc6-dev), or run site.yml, which "
        "does; where they are there, see their modes and the unit's drop-ins (systemctl cat).",
    ),
    # gcc's own words for Triton's launcher; vllm issues 27890, 3909.
    _cause(
        "no_python_headers",
        r"Python\.h: No such file or directory|'Python\.h' file not found",
        "Python.h, the header of the venv's Python, is missing",
        "Install the headers of the venv's Python (Debian: apt-get install python3.11-dev; "
        "RHEL: python3.11-devel), or run site.yml, which does.",
    ),
    # flashinfer/jit/cpp_ext.py; vllm issues 49497, 21960; flashinfer issues 1781, 1919.
    _cause(
        "no_nvcc",
        r"Could not find nvcc"
        r"|nvcc: (?:command )?not found"
        r"|No such file or directory: '(?:[^']*/)?nvcc'"
        r"|CUDA_HOME environment variable is not set",
        "something is compiled with nvcc at run time, and there is none",
        "Use attention_backend TRITON_ATTN (the default) and VLLM_USE_FLASHINFER_SAMPLER=0, which "
        "site.yml sets, or install the CUDA toolkit.",
    ),
    # vllm/v1/worker/utils.py request_memory; the same figures at level debug are no error.
    # vllm issue 20305.
    _cause(
        "gpu_memory_taken",
        r"Free memory on device .* is less than desired GPU memory utilization"
        r"|Available memory on node .* is less than desired CPU memory utilization",
        "less memory is free than gpu_memory_utilization asks for",
        "See who holds it (nvidia-smi; ps), end that, or lower gpu_memory_utilization.",
    ),
    # vllm/v1/core/kv_cache_utils.py.
    _cause(
        "kv_cache_too_small",
        r"No available memory for the cache blocks"
        r"|KV cache is needed, which is larger than the available KV cache memory"
        r"|larger than the available KV cache memory"
        r"|To serve at least one request with the models?'?s? max",
        "the KV cache has no room for one request of max_model_len tokens",
        "Lower max_model_len, or raise gpu_memory_utilization (on CPU: cpu_kvcache_space).",
    ),
    # c10/cuda/CUDACachingAllocator.cpp; cudaErrorMemoryAllocation.
    _cause(
        "gpu_out_of_memory",
        r"CUDA out of memory|OutOfMemoryError: CUDA|CUDA error: out of memory"
        r"|CUBLAS_STATUS_ALLOC_FAILED",
        "the GPU's memory is used up",
        "Lower gpu_memory_utilization, max_num_seqs or max_model_len, or end other processes on "
        "the card (nvidia-smi).",
    ),
    # torch/csrc/cuda/Module.cpp and c10/cuda/CUDAFunctions.cpp; cudaErrorInsufficientDriver;
    # vllm issue 30633.
    _cause(
        "driver_too_old",
        r"The NVIDIA driver on your system is too old"
        r"|CUDA driver version is insufficient for CUDA runtime version"
        r"|provided PTX was compiled with an unsupported toolchain"
        r"|cudaErrorUnsupportedPtxVersion",
        "the NVIDIA driver is older than this release's CUDA needs",
        "Install a newer driver (525 for vLLM 0.14.1, 580 for 0.26.0), or an older vllm_release.",
    ),
    # NVML_ERROR_LIB_RM_VERSION_MISMATCH, CUDA_ERROR_SYSTEM_DRIVER_MISMATCH.
    _cause(
        "driver_mismatch",
        r"Driver/library version mismatch"
        r"|system has unsupported display driver / cuda driver combination",
        "the loaded driver and its libraries are of different versions",
        "Reboot: the driver was upgraded while it was in use.",
    ),
    # torch/cuda/__init__.py; vllm/config/device.py.
    _cause(
        "no_gpu",
        r"Found no NVIDIA driver on your system"
        r"|No CUDA GPUs are available"
        r"|Failed to infer device type"
        r"|CUDA error: no CUDA-capable device is detected"
        r"|CUDA unknown error - this may be due to an incorrectly set up environment"
        r"|CUDA error: invalid device ordinal",
        "no usable GPU was found",
        "See nvidia-smi, and gpus of the instance in the inventory; a device policy of the unit "
        "can hide /dev/nvidia* (systemctl show -p DeviceAllow).",
    ),
    # cudaErrorNoKernelImageForDevice.
    _cause(
        "gpu_not_supported",
        r"no kernel image is available for execution on the device",
        "this build of vLLM has no code for the GPU's compute capability",
        "Use a release that supports the card (docs/releases.md).",
    ),
    # NVIDIA's Xid messages as CUDA shows them; vllm issues 5222, 6976.
    _cause(
        "gpu_failed",
        r"uncorrectable ECC error|fallen off the bus|GPU is lost"
        r"|CUDA error: (?:an illegal memory access|unspecified launch failure|misaligned address"
        r"|device-side assert|the launch timed out)",
        "the GPU failed, or a kernel on it did",
        "Look for Xid in journalctl -k. If it comes back with another model or release, the card "
        "or its power is at fault; else report it to vLLM.",
    ),
    # OSError of bind(); vllm/entrypoints/openai/api_server.py create_server_socket. The supervisor
    # says it in its own words.
    _cause(
        "port_in_use",
        r"OSError: \[Errno 98\]|[Aa]ddress already in use(?!\. Retrying)"
        r"|error while attempting to bind on address",
        "the port is taken by another process",
        "See who listens (ss -ltnp), end that, or give the instance another port.",
    ),
    # huggingface_hub/utils/_validators.py: a path that is not there is taken for a repository's
    # name. transformers/configuration_utils.py, vllm/transformers_utils/config.py.
    _cause(
        "bad_model_path",
        r"HFValidationError: Repo id must be in the form"
        r"|Can't load the configuration of"
        r"|Invalid repository ID or local directory specified"
        r"|is not a local folder and is not a valid model identifier"
        r"|LocalEntryNotFoundError"
        r"|does not appear to have a file named config\.json"
        r"|Cannot find any model weights with",
        "the model's directory is not there, or is not a model",
        "See model (and tokenizer) in /etc/vllm/INSTANCE.yaml; run site.yml to fetch the model "
        "again, or mount the directory.",
    ),
    # safetensors; torch's zip reader.
    _cause(
        "damaged_weights",
        r"SafetensorError|Error while deserializing header|PytorchStreamReader failed",
        "a file of the model's weights is damaged or cut off",
        "Fetch the model again: run site.yml, whose check of the files' sizes and digests tells "
        "which one.",
    ),
    # torch's dlopen; vllm issues 36099, 31018, 52300; libnuma for vLLM's CPU build.
    _cause(
        "missing_library",
        r"(?:ImportError|OSError): [^\s:]+\.so[.\d]*: cannot open shared object file"
        r"|error while loading shared libraries: ",
        "a shared library is missing",
        "Install the package that has it (the line names it; libnuma.so.1 is Debian's libnuma1), "
        "or run site.yml, which installs what the release needs.",
    ),
    # Told before the model's class that could not be looked at for it: with a library of 0.26.0
    # removed, registry.py's "Error in inspecting model architecture" was seen above it.
    _cause(
        "import_failed",
        r"^ModuleNotFoundError: |^ImportError: ",
        "something of the release's virtual environment cannot be imported",
        "Run site.yml with -e vllm_runtime_verify=full, which compares every file of the "
        "environment and installs again what is damaged; one of your own (vllm_runtime_venv), or "
        "a package that only the model needs, is yours to mend. For flashinfer: "
        "VLLM_USE_FLASHINFER_SAMPLER=0.",
    ),
    # vllm/config/model.py; transformers.
    _cause(
        "model_not_supported",
        r"are not supported for now"
        r"|Transformers does not recognize this architecture"
        r"|contains custom code which must be executed",
        "this release of vLLM does not support the model",
        "Use a newer vllm_release, or, where the model brings its own code that you trust, "
        "extra_args: {trust_remote_code: true}.",
    ),
    # vllm/config/model.py _get_and_verify_max_len.
    _cause(
        "max_model_len_too_large",
        r"User-specified max_model_len \(\d+\) is greater than the derived max_model_len",
        "max_model_len is more than the model can do",
        "Lower max_model_len in the inventory, or leave it out.",
    ),
    # vllm/v1/engine/core.py and others refuse what does not go together in these classes.
    _cause(
        "permission",
        r"PermissionError: \[Errno (?:1|13)\]|\[Errno 30\] Read-only file system",
        "the server may not read or write a file",
        "The server runs as its own user and writes below /var/cache/vllm/INSTANCE only; make the "
        "path in the line readable for it (a model's directory: chmod -R a+rX).",
    ),
    # malloc, mmap; the kernel's out-of-memory killer is told by systemd, not here.
    _cause(
        "out_of_memory",
        r"^(?:.*\) )?MemoryError\b|Cannot allocate memory|\[Errno 12\]"
        r"|DefaultCPUAllocator: can't allocate memory|not enough memory: you tried to allocate",
        "the host's memory, or the unit's share of it, is used up",
        "Lower max_num_seqs or, on CPU, cpu_kvcache_space; raise MemoryMax; or end other "
        "processes.",
    ),
    # torch/_inductor/exc.py CppCompileError; triton's subprocess.CalledProcessError.
    _cause(
        "compiler_failed",
        r"CppCompileError|C\+\+ compile error"
        r"|CalledProcessError: Command '\['[^']*/?(?:gcc|cc|g\+\+|clang|nvcc|ptxas)'",
        "a compiler failed",
        "The compiler's own message is in the log above the line; often a header or a library is "
        "missing, or /tmp does not allow execution.",
    ),
    # vllm/model_executor/models/registry.py imports the class in a process of its own.
    _cause(
        "model_inspection_failed",
        r"Error in inspecting model architecture|failed to be inspected",
        "vLLM's own code for the model does not load",
        "The traceback in the log says why, below 'Error in inspecting model architecture'.",
    ),
    # pydantic's report of vLLM's own checks (vllm/config).
    _cause(
        "bad_configuration",
        r"pydantic_core\._pydantic_core\.ValidationError|validation errors? for \w+Config"
        r"|Value error, ",
        "vLLM refuses this configuration",
        "The line says why; correct the instance in the inventory.",
    ),
    # vllm/v1/engine/core_client.py, vllm/v1/utils.py, multiproc_executor.py: ended without a word
    # of its own.
    _cause(
        "engine_died",
        r"Engine core proc(?:ess)? \S+ died unexpectedly"
        r"|Process \S+ \(PID: \d+\) died with exit code"
        r"|Worker proc \S+ died unexpectedly"
        r"|EngineDeadError",
        "the engine's process ended without saying why",
        "Something killed it: look for oom-kill in journalctl -k and in systemctl status, and for "
        "Xid on a GPU.",
    ),
    # The last resort: whatever raised last in the engine or the server.
    _cause(
        "engine_failed",
        r"EngineCore failed to start|EngineCore encountered a fatal error"
        r"|Engine core initialization failed",
        "the engine failed",
        "The traceback in the log says why (journalctl -u the unit); if it names nothing that you "
        "can change, report it to vLLM.",
    ),
)

VAGUE = ("engine_died", "engine_failed")
"""Causes that say no more than that the engine has ended."""

# (EngineCore_DP0 pid=6564) INFO 11-23 01:19:12 [core.py:97] …
# A multi-line message of a lower level is one record, but each line bears the prefix.
_PREFIX = re.compile(r"^(?:\([^)]*pid=\d+\) )?(?:(?P<level>[A-Z]+) \d\d-\d\d [\d:]+ \[[^]]*\] ?)?")
_CHATTER = ("DEBUG", "INFO", "WARNING")
# uvicorn's and torch's own formats.
_CHATTER_OF_OTHERS = re.compile(r"(?:INFO|WARNING):\s|\[?[IW]\d{4} [\d:]{8}")
_EXCEPTION = re.compile(r"^(?:[\w.]+\.)?[A-Z]\w*(?:Error|Exception|Exit|Interrupt)\b:? ?.*")


def text_of(line: str) -> str:
    """A line of the log without its process, level, time and source."""
    return _PREFIX.sub("", line).strip()


def is_chatter(line: str) -> bool:
    """Whether the server says itself that the line is no error."""
    match = _PREFIX.match(line)
    if match is None:
        return False
    return match.group("level") in _CHATTER or bool(_CHATTER_OF_OTHERS.match(line[match.end() :]))


def lines_of(log: Sequence[str]) -> list[str]:
    """The log's lines; a progress bar draws over itself, and its last state is what it says."""
    return [line.rstrip("\r\n").rsplit("\r", 1)[-1] for line in log]


def find_cause(log: Sequence[str]) -> Found | None:
    """The cause that a log tells; the more particular one where it tells several.

    Args:
        log: Lines, oldest first.
    """
    lines = [text_of(line) for line in lines_of(log) if not is_chatter(line)]
    for cause in CAUSES:
        told = [line for line in lines if cause.pattern.search(line)]
        if told:
            # The exception's own line rather than the source that raised it.
            return Found(cause, next((line for line in told if _EXCEPTION.match(line)), told[0]))
    return None


def last_exception(log: Sequence[str]) -> str | None:
    """The last line that ends a traceback, for a log that tells no known cause."""
    for line in reversed(lines_of(log)):
        if not is_chatter(line):
            text = text_of(line)
            if _EXCEPTION.match(text) and "Engine core initialization failed" not in text:
                return text
    return None
