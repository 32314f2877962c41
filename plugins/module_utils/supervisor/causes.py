# Copyright: (c) 2026, compute_plane.vllm contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Why a server ended, read from what it wrote last. Pure.

The texts are those of vLLM 0.14.1 and 0.26.0, of what they run on, and of what people report; where
each was read stands beside it (vllm#N is an issue of that project). The traceback that ended the
server is asked first, then, where it only refers to something, what stands around it; the rest of
the log is the last resort. docs/troubleshooting.md is made from this table.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Callable

from . import tracebacks
from .cards import CAUSES as GPU_CAUSES
from .cards import LOST, MEMORY
from .lines import ENGINE, SERVER, WORKER, Line, parse

if TYPE_CHECKING:
    from .tracebacks import Report


@dataclass(frozen=True)
class Cause:
    """A reason for which a server ends.

    Attributes:
        name: Its short name.
        pattern: Found in an exception, or in a line where no traceback is asked, it is this cause.
        summary: The cause as a person would say it.
        remedy: What to do about it.
        advise: What the line's own figures say to do; it stands before `remedy`.
        who: Who must have said it; anybody where it is empty.
        frames: What must be among the frames of the traceback.
        not_frames: What must not be among them.
        refers: It says less than what stands around it may, which is asked first.
        by_itself: What the collection does about it by itself, beyond starting again.
    """

    name: str
    pattern: re.Pattern[str]
    summary: str
    remedy: str
    advise: Callable[[re.Match[str]], str] | None = None
    who: tuple[str, ...] = ()
    frames: re.Pattern[str] | None = None
    not_frames: re.Pattern[str] | None = None
    refers: bool = False
    by_itself: str = ""


@dataclass(frozen=True)
class Found:
    """A cause and the line that tells it.

    Attributes:
        cause: The cause.
        line: The line.
        remedy: What to do, with the line's figures.
        who: Who ended with it; nothing where no traceback is an end.
        raised: The exception that ended it, where that is another line.
    """

    cause: Cause
    line: str
    remedy: str
    who: str = ""
    raised: str = ""


def _cause(
    name: str,
    pattern: str,
    summary: str,
    remedy: str,
    *,
    frames: str = "",
    not_frames: str = "",
    advise: Callable[[re.Match[str]], str] | None = None,
    who: tuple[str, ...] = (),
    refers: bool = False,
    by_itself: str = "",
) -> Cause:
    return Cause(
        name,
        re.compile(pattern),
        summary,
        remedy,
        advise,
        who,
        re.compile(frames) if frames else None,
        re.compile(not_frames) if not_frames else None,
        refers,
        by_itself,
    )


def _fits_now(match: re.Match[str]) -> str:
    free, total = float(match.group("free")), float(match.group("total"))
    share = int(100 * free / total) / 100 if total > 0 else 0
    return f"gpu_memory_utilization: {share:g} or less fits what is free now. " if share > 0 else ""


def _derived_length(match: re.Match[str]) -> str:
    return f"max_model_len: {match.group('most')} is the most. " if match.group("most") else ""


def _estimated_length(match: re.Match[str]) -> str:
    return f"max_model_len: {match.group('fits')} fits. " if match.group("fits") else ""


def _rank(match: re.Match[str]) -> str:
    wanted = int(match.group("rank"))
    sizes = [size for size in (8, 16, 32, 64, 128, 256, 320, 512) if size >= wanted]
    return f"extra_args: {{max_lora_rank: {sizes[0]}}}. " if sizes else ""


def _shards(match: re.Match[str]) -> str:
    return (
        f"tensor_parallel_size: {match.group('there')}, or name {match.group('wanted')} gpus. "
        if match.group("there")
        else ""
    )


_MULTI_GPU = (
    'Set environment: {NCCL_P2P_DISABLE: "1"} on the instance; if it is not that, extra_args: '
    "{disable_custom_all_reduce: true}"
)
_NO_JIT = (
    'Set environment: {VLLM_USE_FLASHINFER_SAMPLER: "0"} and attention_backend: TRITON_ATTN, so '
    "that nothing is built with it"
)
_REPORT = (
    "Report it to vLLM with the traceback, or use another vllm_release; nothing in the inventory "
    "is known to be wrong."
)

_NEWER_TRANSFORMERS = (
    "Use a newer vllm_release. If there is none: tokenizer_class of the model's "
    "tokenizer_config.json (TokenizersBackend is transformers 5's) can be set to "
    "PreTrainedTokenizerFast in a copy. pip install in the release's environment is not the way: "
    "it is locked."
)
_SYMMETRIC = "torch's symmetric memory for all-reduce does not work on these cards"
_NO_SYMMETRIC = (
    'Set environment: {VLLM_ALLREDUCE_USE_SYMM_MEM: "0"} on the instance; if it is not that: '
    '{VLLM_USE_NCCL_SYMM_MEM: "0"}. Every GPU of the inventory is there.'
)
_SHM = "shared memory (/dev/shm) is full, or too small for what the processes share"
_MORE_SHM = (
    "Make it larger (mount -o remount,size=8G /dev/shm; for a container its shm size), remove "
    "/dev/shm/nccl-* and /dev/shm/psm_* of processes that have ended, or set environment: "
    '{NCCL_SHM_DISABLE: "1"} on the instance. No disk is full.'
)
_PORT_WITHIN = "a port that the processes of this server use among themselves was taken meanwhile"
_ANOTHER_PORT = (
    "Start it again: another port is drawn. Start the instances of one host one after the other, "
    "as site.yml does; where it comes back, environment: {VLLM_PORT: a free port of your choice}. "
    "The instance's own port need not change."
)
_REFUSED_VARIABLE = "vLLM refuses the value of an environment variable"
_OTHER_VALUE = (
    "Correct environment of the instance, or what a drop-in of yours sets; the line names the "
    "variable, and often the values that there are."
)
_DRAWN_AGAIN = "systemd starts the server again, which draws another port."

# Folders of compiled code: the unit's variables for torch's inductor and Triton, and vLLM's own.
_COMPILED = (
    r"(?:/(?:inductor|inductor_cache|triton_cache|torch_compile_cache|torch_aot_compile)/"
    r"|torchinductor_\w+/|(?<!site-packages)(?<!dist-packages)/triton/(?!_C|backends|runtime))"
)
# Who reads compiled code, and who reads a model.
_READS_CACHE = (
    r"vllm/compilation/(?:caching|compiler_interface|backends|wrapper)\.py\", line \d+, in "
    r"(?:initialize_cache|_?load\w*|deserialize\w*|__setstate__|reconstruct\w*)"
    r"|torch/_inductor/(?:codecache|standalone_compile|output_code|triton_bundler)\.py"
    r"|_aot_autograd/autograd_cache\.py|triton/runtime/cache\.py"
    rf'|File "[^"]*{_COMPILED}[^"]*\.py", line \d+'
)
_REMOVE_CACHES = (
    "Remove it and start again: systemctl stop the unit, then remove torch_compile_cache, triton "
    "and inductor below /var/cache/vllm/INSTANCE; it is built anew (minutes)."
)
_REMOVED = (
    "The instance's compile caches are removed once, and the server is started again at once."
)
_READS_MODEL = r"model_loader/|weight_utils\.py|transformers/modeling_utils|/safetensors/"
_LOADS = (
    r"in (?:load_model|create_weights|_initialize_model|initialize_model|load_weights"
    r"|process_weights_after_loading)\b"
)
_RUNS = (
    r"in (?:execute_model|profile_run|_dummy_run|_dummy_sampler_run|determine_available_memory"
    r"|capture_model|_capture\w*|initialize_kv_cache\w*|_allocate_kv_cache\w*|compile_or_warm_up)"
)

CAUSES: tuple[Cause, ...] = (
    # Python's argparse; "unrecognized arguments" also for unknown keys of the --config file.
    _cause(
        "unknown_flag",
        r"^(?:vllm|api_server\.py)(?: \w+)*: error: "
        r"|error: unrecognized arguments: |error: argument --[\w-]+[^:]*: ",
        "vLLM does not know one of its arguments, or refuses its value",
        "Correct extra_args of the instance in the inventory, or what a drop-in of yours adds; "
        "`vllm serve --help=all` of this release lists what there is.",
    ),
    # -- caches of compiled code ------------------------------------------------------------------
    # pytorch#173679: a cache on NFS.
    _cause(
        "stale_cache",
        rf"{_COMPILED}.*Stale file handle|\[Errno 116\] Stale file handle.*{_COMPILED}",
        "a file of the compile caches is stale, as they are on a network file system",
        "Keep /var/cache/vllm on a local disk, and remove the instance's caches below it: they are "
        "built anew (minutes). A stale model needs its file system mounted again instead.",
        by_itself=_REMOVED,
    ),
    # vllm/compilation/compiler_interface.py; vllm#21858, vllm#18851, vllm#31199, vllm#24915;
    # edutelligence#579 for compiled code of an earlier run that does not fit any more. Files that
    # were cut off, as after a loss of power, were seen with 0.14.1: libraries, modules without
    # content, and modules that end in the middle; vllm/compilation/backends.py initialize_cache
    # and torch/_inductor/standalone_compile.py CompiledArtifact.load.
    _cause(
        "corrupt_compile_cache",
        r"previous compilation failed, leading to a corrupted compilation artifact"
        r"|failed to get the hash of the compiled graph"
        rf"|{_COMPILED}\S*\.so: (?:file too short|invalid ELF header|cannot read file data)"
        r"|module 'torch\._inductor\.runtime\.compile_tasks\.\w+' has no attribute"
        r"|expected CacheCompiledArtifact or AOTCompiledArtifact, got"
        r"|No such file or directory: '[^']*/(?:torch_compile_cache|torch_aot_compile|inductor)/",
        "the cache of compiled code is corrupt",
        _REMOVE_CACHES,
        not_frames=_READS_MODEL,
        by_itself=_REMOVED,
    ),
    # The same, told by who read the file: a model's file breaks with the same words.
    _cause(
        "corrupt_compile_cache",
        r"UnpicklingError|pickle data was truncated|EOFError|JSONDecodeError|zlib\.error"
        r"|SyntaxError|IndentationError|source code (?:string )?cannot contain null bytes"
        r"|bad marshal data|BadZipFile|PytorchStreamReader failed|UnicodeDecodeError|struct\.error"
        r"|copy_misaligned_inputs|Expected tensors only, but got",
        "the cache of compiled code is corrupt",
        _REMOVE_CACHES,
        frames=_READS_CACHE,
        not_frames=_READS_MODEL,
        by_itself=_REMOVED,
    ),
    _cause(
        "corrupt_compile_cache",
        r"^(?:AssertionError|EOFError|IndexError|KeyError|ValueError)\b",
        "the cache of compiled code is corrupt",
        _REMOVE_CACHES,
        frames=r"(?:header|key|artifact|artifact_bytes) = reader\.read_(?:bytes|str)\(\)"
        r"|assert reader\.(?:is_finished\(\)|read_bytes\(\) == torch_key)",
        by_itself=_REMOVED,
    ),
    # -- memory of the host and its file systems --------------------------------------------------
    # NCCL's src/misc/shmutils.cc; llm-d#352, dynamo#1408; torch's shared tensors.
    _cause(
        "shm_full",
        r"shared memory segment /dev/shm|/dev/shm[^ ]* .*No space left on device"
        r"|unable to (?:write to|mmap|open) (?:file|shared memory).*(?:/torch_|/dev/shm)"
        r"|No space left on device.*/dev/shm|insufficient shared memory \(shm\)"
        r"|out of shared memory\. Please|raise your shared memory limit",
        _SHM,
        _MORE_SHM,
    ),
    _cause(
        "shm_full",
        r"No space left on device|\[Errno 28\]|Cannot allocate memory|\[Errno 12\]",
        _SHM,
        _MORE_SHM,
        frames=r"multiprocessing/shared_memory|shm_broadcast|torch/multiprocessing|shm_object_storage",
    ),
    # strerror(ENOSPC), EDQUOT.
    _cause(
        "disk_full",
        r"No space left on device|\[Errno 28\]|Disk quota exceeded|\[Errno 122\]",
        "a file system is full",
        "Free space where the log says (df -h /var/cache /var/lib /tmp); old releases and models "
        "are in /opt/vllm/releases and /var/lib/vllm/hub.",
    ),
    # -- compilers --------------------------------------------------------------------------------
    # vllm#49029, flashinfer#3386, ProxmoxVED#2047; torch/utils/cpp_extension.py.
    _cause(
        "no_ninja",
        r"(?:No such file or directory|Permission denied): '(?:[^']*/)?ninja'"
        r"|Ninja is required to load C\+\+ extensions|ninja: (?:command )?not found",
        "a kernel is built at run time, and ninja is not on the service's PATH",
        f"{_NO_JIT}; or install ninja (Debian: apt-get install ninja-build) and the CUDA toolkit.",
        by_itself="The plan sets both of these settings where the release lets it.",
    ),
    # triton/runtime/build.py; torch/_inductor/exc.py InvalidCxxCompiler; vllm#2997, vllm#15329.
    _cause(
        "no_compiler",
        r"Failed to find C compiler"
        r"|No working C\+\+ compiler found"
        r"|InvalidCxxCompiler"
        r"|(?:FileNotFoundError: \[Errno 2\] No such file or directory"
        r"|PermissionError: \[Errno 13\] Permission denied): '(?:[^']*/)?"
        r"(?:gcc|g\+\+|cc|c\+\+|clang|clang\+\+|x86_64-linux-gnu-g(?:cc|\+\+))'"
        r"|gcc: fatal error: cannot execute|(?:gcc|g\+\+|c\+\+): (?:command )?not found",
        "there is no C compiler on the service's PATH that it may run",
        "Install gcc and g++ (Debian: apt-get install gcc g++ libc6-dev), or run site.yml, which "
        "does; where they are there, see their modes and the unit's drop-ins (systemctl cat).",
        by_itself="site.yml installs the compilers that the release needs.",
    ),
    # gcc's own words for Triton's launcher; vllm#27890, vllm#3909.
    _cause(
        "no_python_headers",
        r"Python\.h: No such file or directory|'Python\.h' file not found",
        "Python.h, the header of the venv's Python, is missing",
        "Install the headers of the venv's Python (Debian: apt-get install python3.11-dev; "
        "RHEL: python3.11-devel), or run site.yml, which does.",
        by_itself="site.yml installs the headers that the release needs.",
    ),
    # flashinfer#1532, flashinfer#1657: nvcc's own words.
    _cause(
        "nvcc_too_old",
        r"nvcc fatal\s*: (?:Unknown option|Unsupported gpu architecture|Value '[^']*' is not"
        r" defined)|unsupported GNU version|CUDA version \S+ (?:is|does) not .*supported?.* nvcc"
        r"|The detected CUDA version .* mismatches the version that was used to compile",
        "the installed nvcc does not fit what it shall build",
        f"{_NO_JIT}; or install the CUDA toolkit of the release's CUDA version (docs/releases.md) "
        "with a compiler that it knows.",
    ),
    # flashinfer/jit/cpp_ext.py; vllm#49497, vllm#21960; flashinfer#1781, flashinfer#1919.
    _cause(
        "no_nvcc",
        r"Could not find nvcc"
        r"|nvcc: (?:command )?not found"
        r"|(?:No such file or directory|Permission denied): '(?:[^']*/)?nvcc'"
        r"|CUDA_HOME environment variable is not set|Unable to find nvcc|CUDA_HOME is not set",
        "something is compiled with nvcc at run time, and there is none",
        f"{_NO_JIT} (both are what site.yml sets by default); or install the CUDA toolkit.",
        by_itself="The plan chooses an attention backend and a sampler that need no nvcc.",
    ),
    # flashinfer/jit/cpp_ext.py get_cuda_path, get_cuda_version.
    _cause(
        "no_nvcc",
        r"Could not find CUDA installation|Could not determine CUDA version from nvcc"
        r"|[Cc]ould not find (?:the )?CUDA toolkit|CUDA_HOME .*(?:not set|not exist)",
        "something is compiled with nvcc at run time, and there is none",
        f"{_NO_JIT} (both are what site.yml sets by default); or install the CUDA toolkit.",
        by_itself="The plan chooses an attention backend and a sampler that need no nvcc.",
    ),
    # gcc's and nvcc's words; flashinfer#3386.
    _cause(
        "no_cuda_headers",
        r"fatal error: (?:cuda|curand|cublas|cusparse|nv|thrust|cub|cutlass|crt)[\w/.]*"
        r"\.(?:h|cuh|hpp): No such file|cannot open source file \"(?:cuda|curand|cublas|nv)",
        "headers of the CUDA toolkit are missing, and something is compiled for the GPU",
        f"{_NO_JIT}; or install the whole CUDA toolkit of the release's CUDA version, with the "
        "development packages of its libraries.",
    ),
    # vllm#32575, vllm#31338, triton#8539: NVIDIA's ptxas for a card newer than it.
    _cause(
        "ptxas_too_old",
        r"ptxas fatal\s*: (?:Value '[^']*' is not defined|Unsupported \.version|Program with)"
        r"|is not a recognized processor for this target",
        "the ptxas that Triton brings does not know this card",
        "Install a CUDA toolkit that knows the card and set environment: {TRITON_PTXAS_PATH: "
        "/usr/local/cuda/bin/ptxas} on the instance (without a toolkit there: use a newer "
        "vllm_release, whose Triton knows the card).",
    ),
    # triton/backends/nvidia/compiler.py get_ptxas, triton/knobs.py.
    _cause(
        "ptxas_missing",
        r"Cannot find (?:a )?(?:working )?ptxas|ptxas: (?:command )?not found"
        r"|(?:No such file or directory|Permission denied): '(?:[^']*/)?ptxas(?:-blackwell)?'",
        "Triton finds no ptxas that it may run",
        "Run site.yml with -e vllm_runtime_verify=full, which installs again what the environment "
        "has lost; take TRITON_PTXAS_PATH out of environment where it names nothing.",
    ),
    # vllm#3808: the linker's words for Triton's launcher.
    _cause(
        "libcuda_not_linked",
        r"cannot find -l:?(?:cuda|libcuda\.so)\b",
        "the driver's library libcuda is not where the compiler looks for it",
        "Run ldconfig, so that ldconfig -p lists libcuda.so.1; the link libcuda.so beside it is "
        "the driver package's (Debian: libcuda1 or libnvidia-compute). Or set environment: "
        "{TRITON_LIBCUDA_PATH: the directory that has it} on the instance.",
    ),
    # flashinfer/jit/core.py; vllm#28440.
    _cause(
        "environment_read_only",
        r"Failed to generate Cutlass kernels"
        r"|(?:Permission denied|Read-only file system)[^']*'[^']*(?:site|dist)-packages/"
        r"(?:flashinfer|tilelang|deep_gemm|vllm|torch|triton)",
        "a kernel library wants to write into the virtual environment, which the server only reads",
        "Do without that library's own kernels. For MoE models: extra_args: {moe_backend: triton} "
        "with vLLM 0.26.0; with 0.14.1 environment: {VLLM_USE_FLASHINFER_MOE_FP16: "
        '"0", VLLM_USE_FLASHINFER_MOE_FP8: "0", VLLM_USE_FLASHINFER_MOE_FP4: "0"}. For attention: '
        "attention_backend: TRITON_ATTN. Or use a vllm_release whose library writes below its "
        "cache. The environment stays read-only.",
    ),
    # flashinfer/jit/cubin_loader.py.
    _cause(
        "flashinfer_cubins",
        r"(?:[Ff]ailed to (?:get|load|download|verify)|Unable to download|checksum.*|corrupt\w*) "
        r"[^\n]*(?:cubin|edge\.urm\.nvidia\.com)"
        r"|flashinfer[-_]cubin\b.*(?:version|not|missing)"
        r"|flashinfer-jit-cache version|FLASHINFER_CUBIN|MissingJITCacheError",
        "FlashInfer's prebuilt kernels are missing, damaged, or of another version",
        "The server may not fetch them itself. Set attention_backend: TRITON_ATTN and environment: "
        '{VLLM_USE_FLASHINFER_SAMPLER: "0"}; or put the package flashinfer-cubin of the same '
        "version into an environment of your own (vllm_runtime_venv); remove "
        "/var/cache/vllm/INSTANCE/.cache/flashinfer, where a file there is damaged.",
    ),
    # FlashInfer's own library cache is none that is removed by itself: it may be shared.
    _cause(
        "flashinfer_cache",
        r"/flashinfer/\S*\.so: (?:file too short|invalid ELF header|cannot read file data)"
        r"|/flashinfer/\S*\.so: undefined symbol",
        "a library that FlashInfer has built is cut off, or of another version",
        "Remove the flashinfer folder that the line names: it is built anew (needs nvcc), or not "
        "needed with attention_backend: TRITON_ATTN.",
        not_frames=r"^$",
    ),
    # -- memory of the card -----------------------------------------------------------------------
    # vllm/v1/worker/gpu_worker.py determine_available_memory; vllm#56830, vllm#33358.
    _cause(
        "memory_profiling",
        r"Error in memory profiling",
        "another process gave GPU memory back while vLLM measured it",
        "Start it again once nothing else on the card starts or ends at the same time; instances "
        "of one GPU start one after the other (site.yml does that). Nothing is wrong with this "
        "instance.",
        by_itself="systemd starts the server again, and site.yml starts the instances of one "
        "host one after the other.",
    ),
    # vllm/v1/worker/utils.py request_memory; the same figures at level debug are no error.
    # vllm#20305, vllm#25837.
    _cause(
        "gpu_memory_taken",
        r"Free memory on device[^(]*(?:\((?P<free>[\d.]+)/(?P<total>[\d.]+) GiB\))?.* is less than"
        r" desired GPU memory utilization"
        r"|Available memory on node .* is less than desired CPU memory utilization",
        "less memory is free than gpu_memory_utilization asks for",
        "See who holds it (nvidia-smi; on WSL2 also Windows' own programs) and end that, or lower "
        "gpu_memory_utilization below what is free.",
        advise=lambda match: _fits_now(match) if match.group("free") else "",
    ),
    # vllm/v1/core/kv_cache_utils.py.
    _cause(
        "kv_cache_too_small",
        r"No available memory for the cache blocks"
        r"|(?:To serve at least one request with the models?'?s? max"
        r"|larger than the available KV cache memory)"
        r"(?:.*estimated maximum model length is (?P<fits>\d+))?"
        r"|max seq len .* is larger than the maximum number of tokens that can be stored in KV",
        "the KV cache has no room for one request of max_model_len tokens",
        "Lower max_model_len, or raise gpu_memory_utilization (on CPU: cpu_kvcache_space). If no "
        "length fits, the weights leave no room: take a quantized model, or more gpus.",
        advise=_estimated_length,
    ),
    # vllm/v1/core/kv_cache_utils.py: max_model_len auto.
    _cause(
        "kv_cache_too_small",
        r"Cannot auto-fit max_model_len",
        "the KV cache has no room for a single token",
        "Raise gpu_memory_utilization (on CPU: cpu_kvcache_space). If that does not help, the "
        "weights leave no room: take a quantized model, or more gpus.",
    ),
    # vllm/v1/worker/cpu_worker.py determine_available_memory, 0.26.0.
    _cause(
        "cpu_kv_cache_too_large",
        r"Available memory on node .*\bk[vV][ _]cache\b.* is less than requested",
        "the host has less memory free than cpu_kvcache_space asks for",
        "Lower cpu_kvcache_space of the instance below what the line says is free, or end other "
        "processes of the host.",
    ),
    # vllm/config/compilation.py resolve_cudagraph_mode_and_sizes: models with state-space layers.
    _cause(
        "mamba_blocks",
        r"max_num_seqs \(\d+\) exceeds (?:the )?available Mamba cache blocks \((?P<most>\d+)\)",
        "max_num_seqs is larger than what the model's state-space layers have room for",
        "Lower max_num_seqs, or raise gpu_memory_utilization. enforce_eager: true needs no such "
        "room for CUDA graphs.",
        advise=lambda match: f"max_num_seqs: {match.group('most')} is the most. ",
    ),
    # vllm/v1/worker/gpu_model_runner.py _dummy_sampler_run; vllm#27508.
    _cause(
        "sampler_warmup",
        r"out of memory occurred when warming up sampler",
        "the sampler's warm-up with max_num_seqs requests needs more GPU memory than is left",
        "Lower max_num_seqs (256 on the instance is often enough), or gpu_memory_utilization, "
        "which leaves the sampler more room.",
    ),
    # torch's pinned memory: cudaHostAlloc fails with the same word; vllm#19185.
    _cause(
        "pinned_memory",
        r"CUDA error: (?:out of memory|invalid argument)|cudaErrorMemoryAllocation",
        "the host has no memory left that can be pinned for the GPU",
        "Free memory of the host, or lower what is kept there (extra_args: swap_space, "
        "cpu_offload_gb, kv offloading); on WSL2 raise memory= in .wslconfig. The GPU's memory is "
        "not what is short.",
        frames=r"pin_memory|cudaHost(?:Alloc|Register)|host_alloc|CachingHostAllocator",
    ),
    # The weights alone are too large: vllm#32653, vllm#188. Other settings take nothing off them.
    _cause(
        "weights_do_not_fit",
        r"(?:CUDA|HIP) out of memory|OutOfMemoryError: (?:CUDA|HIP|Allocation)"
        r"|CUDA error: out of memory",
        "the model's weights do not fit on the card",
        "Serve a quantized (AWQ, GPTQ, FP8) or a smaller model, or split it over more cards: "
        "tensor_parallel_size with as many gpus. First see in nvidia-smi that nothing else holds "
        "memory. Other limits do not help, since they leave the weights as they are.",
        frames=_LOADS,
        not_frames=_RUNS,
    ),
    # c10/cuda/CUDACachingAllocator.cpp; cudaErrorMemoryAllocation; vllm#26863, vllm#27782.
    _cause(
        "gpu_out_of_memory",
        r"(?:CUDA|HIP) out of memory|OutOfMemoryError: (?:CUDA|HIP|Allocation)"
        r"|(?:CUDA error|Triton Error \[CUDA\]): out of memory"
        r"|CUBLAS_STATUS_ALLOC_FAILED|CUDA_ERROR_OUT_OF_MEMORY|cudaErrorMemoryAllocation"
        r"|Failed to CUDA calloc|cuda failure.*out of memory",
        "the GPU's memory is used up",
        "Lower gpu_memory_utilization (by 0.05), then max_num_seqs or max_model_len, or end other "
        "processes on the card that the line names (nvidia-smi). If it comes while it starts: "
        "enforce_eager: true saves what CUDA graphs take.",
    ),
    # -- what the card can do ---------------------------------------------------------------------
    # triton/runtime/errors.py; vllm#36802.
    _cause(
        "kernel_shared_memory",
        r"out of resource: (?:shared memory|threads|tensor memory)|OutOfResources"
        r"|uses too much shared data|too many resources requested for launch"
        r"|shared memory .*exceeds? the (?:maximum|limit)|cudaFuncSetAttribute.*shared",
        "a kernel needs more shared memory for one block than this card has",
        "Use another attention_backend that works on the card (preflight lists them), or another "
        "vllm_release. Neither GPU memory nor host memory is short; no setting of theirs helps.",
    ),
    # vllm/platforms/cuda.py check_if_supports_dtype; vllm#1157.
    _cause(
        "dtype_not_supported",
        r"Bfloat16 is only supported on GPUs|bfloat16 is not supported for quantization method"
        r"|bf16 is only supported on|type fp16 is not supported|PassManager.*bf16"
        r"|\"\w+\" not implemented for 'BFloat16'",
        "the card, or the model's quantization, cannot compute with this dtype",
        "Set dtype: float16 on the instance. If the answers become nonsense (models that need "
        "bfloat16's range, such as Gemma): dtype: float32, or a card of compute capability 8.0.",
        by_itself="The plan chooses float16 for dtype: auto where the card has no bfloat16.",
    ),
    # triton/language/semantic.py; vllm#26431, vllm#17581, vllm#17764.
    _cause(
        "fp8_not_supported",
        r"fp8e4(?:nv|b8|b15)? (?:data type )?(?:is )?not supported in this architecture"
        r"|fp8e4\w* not supported|FP8 .*(?:not supported|requires|only supported)"
        r"|float8_e4m3fn?.*not (?:supported|implemented)"
        r"|torch\._scaled_mm is only supported on CUDA devices with compute capability",
        "the card has no FP8 of the kind that the model or its KV cache asks for",
        "Leave kv_cache_dtype: fp8 out of extra_args, or take another quantization of the model "
        "(AWQ, GPTQ, w8a16). FP8 e4m3 needs compute capability 8.9.",
    ),
    # vllm/model_executor/layers/quantization; vllm#14040, vllm#29707, vllm#20216.
    _cause(
        "quantization_not_supported",
        r"(?:Quantization scheme|quantization method \S+) is not supported for .*current GPU"
        r"|Min(?:imum)? capability: \d+|Failed to find a kernel that can implement the"
        r"|[Mm]arlin .*(?:not support|requires|compute capability)"
        r"|\w*scaled_mm\w* is not supported|No compiled \w*scaled_mm"
        r"|is not supported (?:on|for) (?:device|compute) capability"
        r"|NVFP4 .*(?:requires|not supported)|no kernel .* (?:quant|w4a16|w8a8)",
        "the model's quantization needs a newer card than this one",
        "Use another quantization of the model: AWQ or GPTQ run from compute capability 7.5, "
        "W8A8-INT8 from 7.5, FP8 from 8.9, NVFP4 from 10.0; or a card that it can run on.",
    ),
    # vllm/model_executor/layers/quantization, vllm/config/model.py; vllm#5675, vllm#11671.
    _cause(
        "quantization_mismatch",
        r"Unknown quantization method|Quantization method specified in the model config"
        r"|Cannot find the config file for (?:awq|gptq|\w+)"
        r"|The (?:in|out)put size is not aligned with the quantized weight shape"
        r"|is not divisible by (?:weight quantization block_[nk]|min_thread_[nk])"
        r"|quantization config is not supported"
        r"|Invalid type for `?quantization",
        "the quantization that is asked for does not fit the model's, or how it is split",
        "Leave quantization out of extra_args, so that the model's own is read; where the line "
        "speaks of alignment or divisibility, use a smaller tensor_parallel_size.",
    ),
    # vllm/platforms/cuda.py, vllm/attention/selector.py.
    _cause(
        "attention_backend_not_supported",
        r"No valid attention backend|Selected backend \S+ is not valid|Invalid attention backend"
        r"|(?:FlashAttention|FA[234]|flash.?attn|FlashInfer|FLASH\w*|MLA)\b[^\n]*"
        r"(?:only supports? (?:Ampere|Hopper|GPUs|compute)|is not supported|requires "
        r"(?:compute|GPUs|SM|sm_?\d|device capability))"
        r"|No supported CUDA architectures found|Cannot use Flash\S* backend"
        r"|HeadDim \d+ is not supported"
        r"|attention backend .*(?:not supported|unsupported)|Unsupported (?:FA|flash attention)"
        r"|[Hh]ead[ _](?:size|dim)\S* .*(?:not supported|is not supported) by|Head size \d+ is not",
        "the attention backend cannot serve this model on this card",
        "Leave attention_backend out, or set attention_backend: TRITON_ATTN (auto tries all that "
        "can work); preflight says why each other one cannot.",
        by_itself="The plan refuses backends that cannot work, and attention_backend: auto goes "
        "on to the next one.",
    ),
    # cudaErrorNoKernelImageForDevice; torch/cuda/__init__.py; vllm#19185, vllm#18916.
    _cause(
        "gpu_not_supported",
        r"no kernel image is available for execution on the device"
        r"|cudaErrorNoKernelImageForDevice"
        r"|named symbol not found|invalid device function|device kernel image is invalid"
        r"|is not compatible with the current PyTorch installation",
        "this build of vLLM has no code for the GPU's compute capability",
        "Use a vllm_release that supports the card (docs/releases.md; preflight tells its compute "
        "capability).",
    ),
    # -- driver, libraries, kind of machine -------------------------------------------------------
    # c10/cuda/CUDAFunctions.cpp; cudaErrorCompatNotSupportedOnDevice; llm-d#706.
    _cause(
        "cuda_compat",
        r"[Ee]rror 80[34]\b|forward compatibility was attempted on non supported HW"
        r"|cudaErrorCompatNotSupportedOnDevice"
        r"|unsupported display driver / cuda driver combination",
        "the CUDA library that is loaded does not fit the driver (errors 803, 804)",
        "Take cuda-compat libraries out of the way: LD_LIBRARY_PATH in environment of the instance "
        "and in the unit's drop-ins, /etc/ld.so.conf.d, then ldconfig. If there are none, the "
        "driver was upgraded while it was in use: reboot.",
    ),
    # cudaErrorUnsupportedPtxVersion; vllm#31700, vllm#28305.
    _cause(
        "ptx_too_new",
        r"provided PTX was compiled with an unsupported toolchain|cudaErrorUnsupportedPtxVersion"
        r"|CUDA_ERROR_UNSUPPORTED_PTX_VERSION|PTX JIT compiler",
        "the driver is older than the CUDA that made this kernel's PTX",
        "Upgrade the NVIDIA driver to the one that brings the release's own CUDA (570.26 for 12.8, "
        "575.51 for 12.9, 580.65 for 13.0; 525 is not enough for PTX), or use an older "
        "vllm_release.",
    ),
    # torch/csrc/cuda/Module.cpp; cudaErrorInsufficientDriver; vllm#30633.
    _cause(
        "driver_too_old",
        r"The NVIDIA driver on your system is too old"
        r"|CUDA driver version is insufficient for CUDA runtime version"
        r"|cudaErrorInsufficientDriver",
        "the NVIDIA driver is older than this release's CUDA needs",
        "Install a newer driver (525 for vLLM 0.14.1, 580 for 0.26.0), or use an older "
        "vllm_release.",
        by_itself="preflight refuses a driver that is too old before anything is changed.",
    ),
    # NVML_ERROR_LIB_RM_VERSION_MISMATCH.
    _cause(
        "driver_mismatch",
        r"Driver/library version mismatch|NVMLError_LibRmVersionMismatch",
        "the loaded driver and its libraries are of different versions",
        "Reboot: the driver was upgraded while it was in use.",
    ),
    # triton/backends/nvidia/driver.py; vllm#3808; dlopen.
    _cause(
        "libcuda_missing",
        r"libcuda\.so cannot found|No such file or directory: '(?:/usr)?(?:/s?bin/)?ldconfig'"
        r"|libcuda\.so(?:\.1)?: cannot open shared object file"
        r"|libnvidia-ml\.so\.1: cannot open shared object|NVMLError_LibraryNotFound",
        "the driver's library (libcuda.so.1) is not found",
        "Run ldconfig, so that ldconfig -p lists libcuda.so.1, or set environment: "
        "{TRITON_LIBCUDA_PATH: the directory that has it} on the instance (WSL2: /usr/lib/wsl/lib)."
        " If nothing has it, the driver is not installed, or in a container not handed in.",
    ),
    # vllm/platforms/cuda.py device_id_to_physical_device_id; vllm#17047, vllm#6551.
    _cause(
        "mig_device",
        r"'MIG-[\w/-]+'|MIG-GPU-[\w/-]+|\bMIG\b.*(?:not supported|unsupported|not enabled|invalid)",
        "a slice of a GPU (MIG) was named in a way that this release cannot serve on",
        "Name the whole card in gpus of the instance; for slices, a vllm_release that knows MIG "
        "UUIDs, one slice to an instance (nvidia-smi -L lists them), without "
        "tensor_parallel_size.",
    ),
    # torch/cuda/__init__.py, c10/cuda/CUDAFunctions.cpp; pytorch#49081.
    _cause(
        "driver_state",
        r"Error 999\b|cudaErrorUnknown|CUDA_ERROR_UNKNOWN|CUDA error: unknown error"
        r"|NVMLError_(?:Unknown|InvalidArgument|ResetRequired)"
        r"|Failed to initialize NVML: Unknown Error",
        "the driver no longer answers for the GPU as it should",
        "See journalctl -k for Xid and NVRM; nvidia-smi must answer. Often nvidia_uvm is to be "
        "loaded anew (after suspend: rmmod nvidia_uvm, modprobe nvidia_uvm), or the host to be "
        "rebooted; in a container hand the devices in again.",
    ),
    # vllm/distributed/device_communicators/symm_mem.py; vllm#26525.
    _cause(
        "symmetric_memory",
        r"invalid device ordinal|CUDA driver error|multicast|rendezvous",
        _SYMMETRIC,
        _NO_SYMMETRIC,
        frames=r"symm_mem\.py|_symmetric_memory",
    ),
    # torch says "driver error" of what its symmetric memory asks the driver itself.
    _cause(
        "symmetric_memory",
        r"CUDA driver error: invalid device ordinal|SymmMem\w*.*(?:[Ee]rror|fail)",
        _SYMMETRIC,
        _NO_SYMMETRIC,
    ),
    # vllm/config/parallel.py; dynamo#4934.
    _cause(
        "too_few_gpus",
        r"Tensor parallel size \((?P<wanted>\d+)\) cannot be larger than the number of available"
        r" GPUs \((?P<there>\d+)\)"
        r"|tensor parallel size is larger than the number of available GPUs"
        r"|[Tt]he number of required GPUs exceeds the total number of available GPUs"
        r"|World size \(\d+\) is larger than the number of available GPUs"
        r"|number of GPUs .* is less than the world size|local_world_size \(\d+\) must be less",
        "tensor_parallel_size is larger than the number of GPUs that the instance sees",
        "Set tensor_parallel_size to the number of its gpus, or name as many gpus; nvidia-smi -L "
        "lists what there is.",
        advise=_shards,
    ),
    # vllm/config/model.py verify_with_parallel_config; vllm#596.
    _cause(
        "heads_not_divisible",
        r"[Tt]otal number of attention heads \(\d+\) must be divisible by tensor parallel size"
        r"|\d+ is not divisible by \d+|must be divisible by (?:tensor|tp_size|ep_size|world)"
        r"|tensor_parallel_size.* (?:must divide|divisible)",
        "the model cannot be split over this many cards",
        "Set tensor_parallel_size to a number that divides the model's attention heads (1, 2, 4 or "
        "8 most often), with as many gpus.",
    ),
    # torch/cuda/__init__.py _lazy_init, vllm#8893.
    _cause(
        "forked_cuda",
        r"Cannot re-initialize CUDA in forked subprocess",
        "CUDA was used before the engine's process was forked",
        "Set environment: {VLLM_WORKER_MULTIPROC_METHOD: spawn} on the instance; a plugin or the "
        "model's own code touches CUDA while it is imported.",
    ),
    # cudaErrorSystemNotReady on machines with NVSwitch; gpustack#4154.
    _cause(
        "fabric_manager",
        r"Error 802|system not yet initialized|cudaErrorSystemNotReady",
        "the NVSwitch of this machine is not set up, so that CUDA does not begin (error 802)",
        "Start the fabric manager of the driver's own version: systemctl enable --now "
        "nvidia-fabricmanager; nvidia-smi -q shows Fabric State Completed when it is done.",
    ),
    # vllm 0.14.1, vllm/v1/structured_output/utils.py: pins memory as for a GPU; 0.26.0 does not.
    _cause(
        "schema_without_gpu",
        r"Found no NVIDIA driver on your system|Cannot access accelerator device",
        "a request with a JSON schema was computed together with another one, of which this "
        "release's engine dies without a GPU",
        "Serve vllm_release 0.26.0 or later on a CPU, or set max_num_seqs: 1 on the instance.",
        frames=r"apply_grammar_bitmask",
    ),
    # torch/cuda/__init__.py; vllm/config/device.py.
    _cause(
        "no_gpu",
        r"Found no NVIDIA driver on your system"
        r"|No CUDA GPUs are available"
        r"|Failed to infer device type"
        r"|no CUDA-capable device is detected|cudaErrorNoDevice"
        r"|CUDA unknown error - this may be due to an incorrectly set up environment"
        r"|CUDA error: invalid device ordinal|cudaErrorInvalidDevice\b"
        r"|CUDA error: initialization error|CUDA_ERROR_NO_DEVICE|NVMLError_DriverNotLoaded"
        r"|CUDA driver initialization failed|NVML_SUCCESS == r INTERNAL ASSERT FAILED"
        r"|CUDA-capable device\(s\) is/are busy or unavailable",
        "no usable GPU was found",
        "See nvidia-smi, whether ldconfig -p has libcuda.so.1 (Debian: libcuda1), and gpus of the "
        "instance in the inventory; a device policy of the unit can hide /dev/nvidia* "
        "(systemctl show -p DeviceAllow).",
    ),
    # cudaErrorNotSupported: virtual and partitioned GPUs, WSL2.
    _cause(
        "operation_not_supported",
        r"CUDA (?:driver )?error: operation not supported|cudaErrorNotSupported"
        r"|CUDA_ERROR_NOT_SUPPORTED",
        "the driver of this GPU, a virtual or partitioned one, cannot do what is asked",
        "Let the hypervisor give the virtual GPU unified memory (enable_uvm=1 for NVIDIA vGPU) or "
        "a whole card; with several of them set extra_args: {disable_custom_all_reduce: true} and "
        'environment: {NCCL_P2P_DISABLE: "1"}. Memory settings do not help.',
    ),
    # vllm/v1/worker/gpu/buffer_utils.py; vllm#43381, vllm#47387, vllm#50239, vllm#54652.
    _cause(
        "no_pinned_memory",
        r"UVA is not available|[Pp]in(?:ned)?[ _]memory is not (?:available|supported)"
        r"|requires pinned memory",
        "this release needs pinned memory, which vLLM switches off on WSL2",
        'Set environment: {VLLM_WSL2_ENABLE_PIN_MEMORY: "1"} on the instance, which vLLM 0.26.0 '
        'knows; or use a release whose runner does without it (vllm_release: "0.14.1").',
    ),
    # vllm#39609, vllm#41103; the dynamic linker's words.
    _cause(
        "glibc_too_old",
        r"version `(?:GLIBC(?:XX)?|CXXABI)_[\d.]+' not found",
        "the system's C or C++ library is older than this release's wheels need",
        "Upgrade the distribution to one with that version (glibc 2.34: Debian 12, Ubuntu 22.04, "
        "RHEL 9), or use an older vllm_release. Installing the environment again does not help. "
        "For GLIBCXX: another libstdc++ comes first in LD_LIBRARY_PATH of the instance's "
        "environment.",
    ),
    # SIGILL; vLLM's CPU build wants AVX512 or AVX2.
    _cause(
        "cpu_instruction",
        r"Illegal instruction|SIGILL|signal 4\b|(?:requires?|does not support) (?:the )?AVX\w*"
        r"|AVX\w* .*(?:not supported|required)",
        "the processor lacks an instruction that this build uses",
        "Use a build for this processor: accelerator cpu needs AVX2 or AVX512 as "
        "docs/releases.md says; in a virtual machine hand the host's processor through (CPU model "
        "host). Another model or setting does not help.",
    ),
    # vllm#35608, pytorch#174949: another cuBLAS than torch's.
    _cause(
        "cublas_mismatch",
        r"CUBLAS_STATUS_(?:INVALID_VALUE|NOT_SUPPORTED|ARCH_MISMATCH|INTERNAL_ERROR)"
        r"|CUDNN_STATUS_(?:SUBLIBRARY|VERSION)\w*|cuDNN version incompatibility"
        r"|libcublas\w*\.so[.\d]*: (?:undefined symbol|version)"
        r"|libnvJitLink\.so[.\d]*|undefined symbol: (?:__nvJitLink|cublasLt|ncclComm|cusparse)\w*",
        "another CUDA library (cuBLAS, cuDNN, NCCL) than torch's own is loaded",
        "Take LD_LIBRARY_PATH out of environment of the instance, out of the unit's drop-ins and "
        "of /etc/environment, so that torch finds the libraries of its own virtual environment.",
    ),
    # Qwen#120: no room for cuBLAS' handle, or a driver that was gone.
    _cause(
        "cublas_not_initialized",
        r"CUBLAS_STATUS_NOT_INITIALIZED|CUDNN_STATUS_NOT_INITIALIZED|CUSOLVER_STATUS_NOT_INIT",
        "cuBLAS could not begin, most often for want of GPU memory",
        "Lower gpu_memory_utilization by 0.05, and see who else holds the card's memory "
        "(nvidia-smi); if enough is free, look for LD_LIBRARY_PATH in environment of the instance.",
    ),
    # -- more than one card -----------------------------------------------------------------------
    # torch's TCPStore; verl#6677, SkyRL#284, vllm#39015, vllm#11617.
    _cause(
        "rendezvous_port",
        r"code: -98, name: EADDRINUSE|server socket has failed to (?:listen|bind)"
        r"|DistNetworkError.*(?:EADDRINUSE|[Aa]ddress already in use)"
        r"|zmq\.error\.ZMQError: Address already in use",
        _PORT_WITHIN,
        _ANOTHER_PORT,
        by_itself=_DRAWN_AGAIN,
    ),
    _cause(
        "rendezvous_port",
        r"\[Errno 98\]|[Aa]ddress already in use",
        _PORT_WITHIN,
        _ANOTHER_PORT,
        who=(ENGINE, WORKER),
        by_itself=_DRAWN_AGAIN,
    ),
    # NCCL's src/bootstrap.cc, src/init.cc, vllm#7201.
    _cause(
        "nccl_network",
        r"[Nn]o socket interface found|Bootstrap : no|no usable (?:network )?interface"
        r"|connectFullMesh|[Uu]nable to find address for|Gloo connect\w* .*(?:fail|time)"
        r"|gai error|getaddrinfo.*(?:failed|not known)|Name or service not known"
        r"|Unable to resolve hostname|ifa.*not found",
        "the processes of this server do not find a network interface to meet on",
        "Set environment: {VLLM_HOST_IP: 127.0.0.1, NCCL_SOCKET_IFNAME: lo, GLOO_SOCKET_IFNAME: "
        "lo} on the instance (one host); see that the host's own name resolves (/etc/hosts).",
        who=(WORKER, ENGINE),
    ),
    # NCCL's "Duplicate GPU detected"; vllm#17176.
    _cause(
        "nccl_same_gpu",
        r"Duplicate GPU detected",
        "two of the processes got the same GPU",
        "Name each GPU once in gpus of the instance, and take CUDA_VISIBLE_DEVICES out of its "
        "environment.",
    ),
    # NCCL's own words for cards without peer access, or a machine whose IOMMU forbids it; vllm#406.
    _cause(
        "nccl_peer_access",
        r"NCCL WARN .*(?:Cuda failure|CUDA).*(?:peer|ipc|Ipc|IPC)"
        r"|NCCL .*peer access|NCCL WARN .*P2P",
        "NCCL cannot reach from one card to the other's memory",
        'Set environment: {NCCL_P2P_DISABLE: "1"} on the instance: the cards then talk through the '
        "host's memory. If it is not that, extra_args: {disable_custom_all_reduce: true}.",
    ),
    # csrc/custom_all_reduce.cuh; vllm#406, vllm#9046, sglang#1509.
    _cause(
        "custom_all_reduce",
        r"peer access is not supported between these two devices|custom_all_reduce\.cuh"
        r"|peer mapping resources exhausted|cudaIpcOpenMemHandle|cudaIpcGetMemHandle"
        r"|invalid resource handle|invalid argument",
        "the cards cannot read each other's memory as vLLM's own all-reduce wants it",
        "Set extra_args: {disable_custom_all_reduce: true} on the instance; if it is not that, "
        'environment: {NCCL_P2P_DISABLE: "1"}.',
        frames=r"custom_all_reduce|quick_all_reduce|flashinfer_all_reduce",
    ),
    _cause(
        "custom_all_reduce",
        r"peer access is not supported between these two devices"
        r"|custom_all_reduce\.cuh[^\n]*'?|peer mapping resources exhausted",
        "the cards cannot read each other's memory as vLLM's own all-reduce wants it",
        "Set extra_args: {disable_custom_all_reduce: true} on the instance; if it is not that, "
        'environment: {NCCL_P2P_DISABLE: "1"}.',
    ),
    # torch's ProcessGroupNCCL.cpp and ProcessGroup watchdog; vllm#14449, vllm#8087.
    _cause(
        "nccl_timeout",
        r"Watchdog caught collective operation timeout|ncclCommInitRank.*timed out"
        r"|Some NCCL operations have failed or timed out|wait timeout after \d+ms"
        r"|Timed out after \d+ seconds waiting for clients|DistStoreError: Timed out",
        "the cards waited for each other until a timeout",
        f"{_MULTI_GPU}. Look for Xid in journalctl -k. A longer timeout does not help.",
    ),
    # vllm/v1/executor/multiproc_executor.py get_response; vllm#41647, vllm#48801.
    _cause(
        "worker_timeout",
        r"RPC call to \w+ timed out|execute_model timed out"
        r"|TimeoutError: .*(?:collective_rpc|sample_tokens|execute_model)",
        "the workers hung, and vLLM gave up waiting for their answer",
        f"Look for Xid in journalctl -k. With several cards: {_MULTI_GPU[0].lower()}"
        f"{_MULTI_GPU[1:]}. With one: another attention_backend. Nothing was killed for memory.",
    ),
    # NCCL's general words; vllm#21661, nccl#1241.
    _cause(
        "nccl_failed",
        r"NCCL error|setting up NCCL communicator|ncclUnhandledCudaError"
        r"|ncclSystemError|ncclInternalError|ncclInvalid\w+"
        r"|NCCL WARN .*(?:[Ff]ailure|[Ee]rror|failed)|DistBackendError",
        "NCCL, by which the cards talk to each other, failed",
        f"{_MULTI_GPU}. environment: {{NCCL_DEBUG: INFO}} names the call that failed.",
        refers=True,
    ),
    # -- what goes wrong on the card --------------------------------------------------------------
    # vllm#31709; torch's indexSelectLargeIndex and its like.
    _cause(
        "device_assert",
        r"device-side assert triggered|cudaErrorAssert|Assertion `[^`]*` failed",
        "a kernel's own check failed, such as a token beyond the vocabulary",
        "Look at the request that was under way, and whether tokenizer, LoRA or draft model and "
        "model belong together (their vocabularies); report it to vLLM. The card and its power are "
        'not at fault. environment: {CUDA_LAUNCH_BLOCKING: "1"} shows which kernel it is.',
    ),
    # vllm#19483, vllm#6976, vllm#5222.
    _cause(
        "illegal_access",
        r"illegal memory access|misaligned address|illegal instruction was encountered"
        r"|cudaErrorIllegalAddress|CUDA_ERROR_ILLEGAL_ADDRESS|an invalid address space",
        "a kernel reached beyond its memory",
        "Look for Xid in journalctl -k: Xid 31 or 13 is a fault of a kernel. Try another "
        "attention_backend, then enforce_eager: true, and report it to vLLM; with several cards "
        "also extra_args: {disable_custom_all_reduce: true}.",
    ),
    # NVML's own words, and nvidia-smi's.
    _cause(
        LOST,
        r"fallen off the bus|GPU is lost|NVMLError_GpuIsLost|Unable to determine the device handle",
        *GPU_CAUSES[LOST],
        by_itself="the supervisor ends the server as soon as the driver says so, and it stays down "
        "(docs/power.md).",
    ),
    # CUDA's text of error 214.
    _cause(
        MEMORY,
        r"uncorrectable ECC error|cudaErrorECC",
        *GPU_CAUSES[MEMORY],
    ),
    # NVIDIA's Xid messages as CUDA shows them; vllm#27430.
    _cause(
        "gpu_failed",
        r"uncorrectable NVLink error|unspecified launch failure|the launch timed out"
        r"|cudaErrorDevicesUnavailable|hardware stack error",
        "the GPU failed while a kernel ran on it",
        "Look for Xid in journalctl -k, and at power and temperature (nvidia-smi -q); reboot if "
        "nvidia-smi shows ERR! or no card. If it comes back with another model or release, the "
        "card or its power is at fault; else report it to vLLM.",
    ),
    # llguidance, xgrammar, outlines.
    _cause(
        "structured_output",
        r"vocab size too small|Grammar (?:compiler|matcher)? ?error|xgrammar\w*.*(?:[Ee]rror|fail)"
        r"|Invalid token_id|StructuredOutput.*(?:[Ee]rror|fail)"
        r"|structured outputs? backend .*(?:not|fail)",
        "the engine for structured output does not get along with the model's tokenizer",
        "Use another one: extra_args: {structured_outputs_config: {backend: xgrammar}} (or "
        "guidance, outlines), or a tokenizer that belongs to the model.",
    ),
    # -- address and port -------------------------------------------------------------------------
    # OSError of bind(): EADDRNOTAVAIL, also EAI_NONAME of a name that does not resolve.
    _cause(
        "host_not_here",
        r"\[Errno 99\]|[Cc]annot assign requested address|gaierror",
        "host is no address of this machine",
        "Set host of the instance to one of the machine's own addresses (ip -brief address), to "
        "127.0.0.1 or to 0.0.0.0.",
        by_itself="preflight refuses a host that is no address of the machine.",
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
    # -- the model --------------------------------------------------------------------------------
    # openai_harmony, tiktoken; vllm#22525, harmony#46, harmony#101, blackfish#162.
    _cause(
        "harmony_vocabulary",
        r"error downloading or loading vocab file|failed to download or load vocab"
        r"|HarmonyError|tiktoken.*(?:download|openaipublic)|openaipublic\.blob",
        "gpt-oss: its vocabulary is not on the host, and the server may not fetch it",
        "Put o200k_base.tiktoken and cl100k_base.tiktoken into a directory of the host and set "
        "environment: {TIKTOKEN_ENCODINGS_BASE: that directory} on the instance.",
    ),
    # torch.load on a text of git LFS; vllm#1382, vllm#337; safetensors' header of one.
    _cause(
        "lfs_pointer",
        r"invalid load key, 'v'|git-lfs\.github\.com|HeaderTooLarge|Unable to (?:parse|load)"
        r" .*version https://git-lfs",
        "a file of the model is a pointer of git LFS, a few lines of text",
        "Fetch the weights themselves: git lfs pull in the model's directory, or let site.yml "
        "fetch the model. Nothing is wrong with the caches.",
        not_frames=r"vllm/compilation/|torch/_inductor/|torch/_functorch/",
    ),
    # safetensors; torch's zip reader; Qwen3-VL#264, vllm#15445, gpustack#815.
    _cause(
        "damaged_weights",
        r"SafetensorError|Error while deserializing header|PytorchStreamReader failed"
        r"|MetadataIncompleteBuffer|InvalidHeader|failed finding central directory"
        r"|storage has wrong byte size|unexpected pos \d+",
        "a file of the model's weights is damaged or cut off",
        "Fetch the model again: run site.yml, whose check of the files' sizes and digests tells "
        "which one. The compile caches are not at fault and stay.",
        not_frames=r"vllm/compilation/|torch/_inductor/|torch/_functorch/",
        by_itself="site.yml compares sizes and digests, and fetches again what differs.",
    ),
    _cause(
        "damaged_weights",
        r"UnpicklingError|pickle data was truncated|invalid load key|EOFError|Weights only load"
        r" failed|unexpected end of file",
        "a file of the model's weights is damaged or cut off",
        "Fetch the model again: run site.yml, whose check of the files' sizes and digests tells "
        "which one. The compile caches are not at fault and stay.",
        frames=_READS_MODEL + r"|torch/serialization\.py",
        by_itself="site.yml compares sizes and digests, and fetches again what differs.",
    ),
    # huggingface_hub/errors.py.
    _cause(
        "model_access",
        r"GatedRepoError|Access to model \S+ is restricted|You are trying to access a gated repo"
        r"|401 Client Error|403 Client Error|RepositoryNotFoundError|Invalid username or password",
        "the Hub does not give this model to the server",
        "Let site.yml fetch it, with a token that may (vllm_model_token), after the model's terms "
        "were accepted on its page; the server itself fetches nothing. See how model is spelt.",
    ),
    # huggingface_hub/utils/_validators.py: a path that is not there is taken for a repository's
    # name. transformers/configuration_utils.py, vllm/transformers_utils/config.py.
    _cause(
        "bad_model_path",
        r"HFValidationError: Repo id must be in the form"
        r"|Can't load the configuration of"
        r"|Invalid repository ID or local directory specified"
        r"|is not a local folder and is not a valid model identifier"
        r"|LocalEntryNotFoundError|OfflineModeIsEnabled|couldn't connect to 'https://huggingface"
        r"|does not appear to have (?:a file|files) named|Unrecognized model in .*config\.json"
        r"|Cannot find any model weights with|is not a valid JSON file"
        r"|No such file or directory:? [^\n]*(?:config\.json|\.safetensors|\.bin|\.gguf|tokenizer)"
        r"|Can't load tokenizer for|No safetensors|no \S+ weights? found",
        "the model's directory is not there, or is not a whole model",
        "See model (and tokenizer) in /etc/vllm/INSTANCE.yaml; run site.yml to fetch the model "
        "again, or mount the directory.",
    ),
    # vllm/model_executor/model_loader: weight_utils.py, bitsandbytes_loader.py,
    # runai_streamer_loader.py; vllm/transformers_utils/config.py.
    _cause(
        "bad_model_path",
        r"Weight files referenced in index but missing|No model weights found in"
        r"|Cannot find any (?:safetensors )?model weights|[Dd]ownloaded GGUF files not found"
        r"|Could not detect config format for no config file found"
        r"|No model architectures are specified",
        "the model's directory is not there, or is not a whole model",
        "See model (and tokenizer) in /etc/vllm/INSTANCE.yaml; run site.yml to fetch the model "
        "again, or mount the directory.",
    ),
    # huggingface_hub/utils/_http.py, hf_xet; xet-core#850, huggingface_hub#4520.
    _cause(
        "hub_transfer",
        r"CAS service error|Data processing error: |\bxet\b.*(?:[Ee]rror|fail|timed? out)"
        r"|(?:MaxRetryError|ReadTimeout|ConnectTimeout|ConnectionError|NameResolutionError)[^\n]*"
        r"(?:huggingface\.co|hf\.co|modelscope)|(?:429|50\d) (?:Client|Server) Error"
        r"|Consistency check failed: file should be of size",
        "a download from the Hub broke off while the server started",
        "Let site.yml fetch the model before the start (model: ORG/NAME), over plain HTTP, with "
        "resuming, and serve it from the disk; a server of your own: HF_HUB_DISABLE_XET=1 and "
        "another try. The model itself is not at fault.",
        by_itself="Models are fetched and checked before a server is started.",
    ),
    # transformers 5 with a vLLM that knows 4; Qwen3-VL#2058, verl#4337, worker-vllm#260.
    _cause(
        "transformers_too_new",
        r"all_special_tokens_extended|cannot import name '\w+' from 'transformers"
        r"|has no attribute '?(?:rope_theta|rope_scaling|_tokenizer|get_text_config"
        r"|additional_special_tokens)\b|module 'transformers\S*' has no attribute"
        r"|transformers[<>=!~]=?\S* is required for a normal functioning",
        "the environment's transformers does not fit this release of vLLM",
        "Run site.yml, whose lock pins the version that the release was proved with; in an "
        "environment of your own (vllm_runtime_venv) install 'transformers<5'; or use a newer "
        "vllm_release.",
    ),
    # transformers/models/auto; minimind#578, gpustack#5096, transformers#37977.
    _cause(
        "transformers_too_old",
        r"Tokenizer class \S+ does not exist or is not currently imported"
        r"|Transformers does not recognize this architecture"
        r"|`?rope_scaling`?(?:'s \w+ field)? must be a"
        r"|did not match any variant of untagged enum|KeyError: 'model_type'"
        r"|[Uu]nrecognized (?:configuration|processing|processor) class",
        "the release's transformers does not know the model",
        _NEWER_TRANSFORMERS,
    ),
    _cause(
        "transformers_too_old",
        r"^KeyError: ",
        "the release's transformers does not know the model",
        _NEWER_TRANSFORMERS,
        frames=r"models/auto/configuration_auto\.py",
    ),
    # vllm/model_executor/model_loader/gguf_loader.py; vllm#30691, vllm#33229; transformers#32577.
    _cause(
        "gguf_not_supported",
        r"GGUF model with architecture \S+ is not supported|Architecture \S+ not supported"
        r"|Unknown gguf model_type|Unsupported GGUF|No GGUF tensors? mapping"
        r"|gguf.*(?:not supported|Could not)",
        "this release cannot read the model's GGUF file",
        "Serve the model's original files, or an AWQ or GPTQ quantization of it; a newer "
        "vllm_release may know the architecture.",
    ),
    # vllm/lora/peft_helper.py; gpustack#5438, unsloth#2097, vllm#2847.
    _cause(
        "lora_rank",
        r"LoRA rank (?P<rank>\d+) is greater than max_lora_rank \d+",
        "a LoRA adapter's rank is larger than max_lora_rank",
        "Set extra_args: {max_lora_rank: at least the adapter's rank}; 8, 16, 32, 64, 128, 256, "
        "320 and 512 are known.",
        advise=_rank,
    ),
    # vllm/lora.
    _cause(
        "lora_not_loaded",
        r"Loading lora \S+ failed|LoRAAdapterNotFoundError|No adapter found for"
        r"|(?:expected target modules|unsupported LoRA weight|does not support LoRA)"
        r"|adapter_config\.json",
        "a LoRA adapter cannot be loaded",
        "See the key lora: the directory must have adapter_config.json, be made for "
        "this model, and have target modules that the release knows.",
        not_frames=r"serving_models",
    ),
    # vllm/lora: layers/logits_processor.py, model_manager.py, lora_model.py, peft_helper.py.
    _cause(
        "lora_not_loaded",
        r"When using LoRA, vocab size must be|is not supported for LoRA|doesn't contain tensors"
        r"|embedding LoRA size\(|LoRA rank `r` must be"
        r"|Number of (?:requested|added) (?:LoRAs|models)|modules_to_save being None"
        r"|LoRA.*(?:does not yet support|not supported)|Unsupported LoRA|DoRA",
        "a LoRA adapter cannot be loaded",
        "See lora_modules and max_loras in extra_args: an adapter must be made for this model, and "
        "the model's class in this release must support LoRA at all.",
        frames=r"/lora/",
        not_frames=r"serving_models",
    ),
    # vllm/model_executor/models: load_weights; vllm#40358, llm-compressor#2255, vllm#28274.
    _cause(
        "weights_do_not_match",
        r"KeyError: |AssertionError|There is no module or parameter named|size mismatch for"
        r"|ValueError|RuntimeError: (?:The size of tensor|shape|Tensors must|start \(|The expanded)"
        r"|AttributeError|IndexError",
        "the checkpoint's tensors are not those that vLLM's class for the model expects",
        "Use the original checkpoint or another quantization of the model, or a newer vllm_release "
        "that knows this one. Fetching the same files again does not help.",
        frames=r"in (?:load_weights|_load_module|weight_loader\w*|load_\w+_weights?"
        r"|default_weight_loader|load_column_parallel_weight|load_row_parallel_weight)\b",
    ),
    _cause(
        "weights_do_not_match",
        r"There is no module or parameter named|weights? (?:were|was) not initialized from"
        r"|KeyError: '[\w.]*layers\.\d+\.[\w.]+'|size mismatch for \S+: copying a param",
        "the checkpoint's tensors are not those that vLLM's class for the model expects",
        "Use the original checkpoint or another quantization of the model, or a newer vllm_release "
        "that knows this one. Fetching the same files again does not help.",
    ),
    # vllm/entrypoints/openai/api_server.py, vllm/tool_parsers, vllm/reasoning.
    _cause(
        "unknown_parser",
        r"invalid (?:tool call|reasoning) parser|Reasoning parser '[^']*' not found"
        r"|tool (?:call )?parser:? \S+ .*not (?:found|registered)|Tool parser .*not found"
        r"|requires --tool-call-parser|enable.auto.tool.choice requires",
        "the tool call parser or reasoning parser is none that vLLM knows",
        "Set tool_call_parser (or reasoning_parser in extra_args) to one that the line lists: "
        "hermes for Qwen2.5 and Qwen3, qwen3_coder or qwen3_xml for its Coder models, llama3_json, "
        "mistral; the reasoning parser of Qwen3 is qwen3.",
    ),
    # vllm/entrypoints/chat_utils.py validate_chat_template.
    _cause(
        "chat_template",
        r"supplied chat template .*(?:looks like a file path|doesn't exist|but)"
        r"|chat template string .*looks like|Failed to load chat template",
        "the chat template that is named is not there",
        "Set chat_template in extra_args to a file on the host that the server's user can read, "
        "or leave it out, where the model brings its own.",
        who=(SERVER,),
    ),
    # vllm/entrypoints/chat_utils.py, as 0.26.0 says it.
    _cause(
        "chat_template",
        r"chat template (?:string|path).*(?:appears path-like|doesn't exist|does not exist)"
        r"|is not a valid chat template type|chat_template is expected to be read directly",
        "the chat template that is named is not there",
        "Set chat_template in extra_args to a file on the host that the server's user can read, "
        "or leave it out, where the model brings its own.",
    ),
    # vllm/config/model.py; transformers.
    _cause(
        "custom_code",
        r"contains custom code which must be executed|trust_remote_code=True|--trust-remote-code"
        r"|set the option `?trust_remote_code",
        "the model brings code of its own, which is not run unless you say so",
        "Where you trust it: extra_args: {trust_remote_code: true}; else another model, or a newer "
        "vllm_release that has the class itself.",
    ),
    _cause(
        "model_not_supported",
        r"are not supported for now|is not supported by (?:vLLM|this)|has no vLLM implementation"
        r"|no compatible .* implementation|Cannot find model module|is not a supported model type",
        "this release of vLLM does not support the model",
        "Use a newer vllm_release (docs/releases.md), or another model; where the model brings its "
        "own code that you trust: extra_args: {trust_remote_code: true}.",
    ),
    # vllm/model_executor/models/registry.py _raise_for_unsupported.
    _cause(
        "model_not_supported",
        r"was supported in vLLM until|is not compatible with vLLM",
        "this release cannot serve a model of this architecture",
        "Set a vllm_release that the line names, or that knows the model (docs/models.md), or "
        "choose another model.",
    ),
    # A package that only this model needs.
    _cause(
        "model_needs_package",
        r"requires (?:the following packages that were not found|the \w+ library but it was not)"
        r"|Couldn't instantiate the backend tokenizer|You need to install|pip install \S+"
        r"|Please install \S+|(?:is|are) required (?:to|for) .*install",
        "the model needs a Python package that the release does not have",
        "Use an environment of your own that has it (vllm_runtime_venv); the release's environment "
        "is locked. The line names the package.",
        frames=r"transformers_modules|check_imports|dynamic_module_utils|/models/|tokeniz|multimodal",
    ),
    # -- settings that do not fit -----------------------------------------------------------------
    # vllm/config/model.py _get_and_verify_max_len.
    _cause(
        "max_model_len_too_large",
        r"User-specified max_model_len \(\d+\) is greater than the derived max_model_len"
        r"(?: \([^)]*?=(?P<most>\d+))?",
        "max_model_len is more than the model can do",
        "Lower max_model_len in the inventory, or leave it out.",
        advise=_derived_length,
    ),
    # vllm/config/scheduler.py.
    _cause(
        "batched_tokens",
        r"max_num_batched_tokens \(?\d+\)? (?:is smaller than|must be greater than or equal to)",
        "max_num_batched_tokens is smaller than max_model_len or max_num_seqs allows",
        "Raise max_num_batched_tokens in extra_args to what the line compares it with, or lower "
        "that (max_model_len, max_num_seqs).",
    ),
    # vllm/config/compilation.py; vllm/v1/worker/gpu_model_runner.py
    # _check_and_update_cudagraph_mode.
    _cause(
        "cudagraph_mode",
        r"CUDAGraphMode\.\w+ is not supported with"
        r"|cudagraph (?:sizes?|shapes?) (?:after rounding|that are both)"
        r"|(?:customized )?max_cudagraph_capture_size.* should be consistent",
        "CUDA graphs cannot be captured in the way that is asked for",
        "Leave compilation_config and cudagraph_capture_sizes out of extra_args; or set "
        "enforce_eager: true, which does without them (slower).",
    ),
    # vllm/config/speculative.py, vllm/v1/spec_decode.
    _cause(
        "speculative_config",
        r"speculative|num_speculative_tokens|draft model|prompt_lookup_m|EAGLE|[Ee]agle3? is only"
        r"|[Ss]peculators? (?:config|model)|MTP",
        "the speculative decoding that is asked for does not fit the model",
        "Correct speculative_config in extra_args as the line says, or leave it out: the model "
        "serves without it, one token at a time.",
        frames=r"config/speculative\.py|/spec_decode/|configs/(?:speculators/|eagle)"
        r"|in (?:create_speculative_config|_verify_\w*spec\w*)",
    ),
    # vllm/envs.py env_with_choices, get_vllm_port.
    _cause(
        "bad_environment",
        r"Invalid value '[^']*' (?:for|in) VLLM_\w+|VLLM_PORT '[^']*' (?:appears|must)"
        r"|[Uu]nknown vLLM environment variable",
        _REFUSED_VARIABLE,
        _OTHER_VALUE,
    ),
    # The same of a variable that shall be a number; the frame's source tells its name.
    _cause(
        "bad_environment",
        r"invalid literal for |could not convert string to|JSONDecodeError",
        _REFUSED_VARIABLE,
        _OTHER_VALUE,
        frames=r"/vllm/envs\.py",
    ),
    # vllm/config/model.py __post_init__; vllm/v1/worker/gpu_model_runner.py _dummy_pooler_run.
    _cause(
        "wrong_runner",
        r"(?:models? do(?:es)? not support|cannot be used with) [`']?--(?:runner|convert|task)"
        r"|does not support any pooling tasks|Unsupported task: |does not support the .* task",
        "the model cannot do what it is to be served for",
        "Leave runner and convert out of extra_args, so that the model's own is taken; set "
        "kind of the instance to what the model is made for.",
    ),
    # vllm/model_executor/model_loader: get_model_loader, default_loader, gguf_loader.
    _cause(
        "load_format",
        r"[Ll]oad[ _]format[:`' ]+\S+ is not supported|Unknown load_format"
        r"|'load_format' must be|Unrecognised GGUF reference|Model loader extra config is not"
        r"|model_loader_extra_config must|Unexpected extra config keys for",
        "the model cannot be loaded in the format that is asked for",
        "Leave load_format and model_loader_extra_config out of extra_args, so that the format is "
        "found from the model's files; a GGUF model is one file, or ORG/NAME with its type.",
    ),
    # vllm/config/model.py _verify_quantization.
    _cause(
        "quantization_deprecated",
        r"quantization method \S+ (?:is|has been) (?:deprecated|removed)"
        r"|allow.deprecated.quantization",
        "vLLM is about to give up the model's quantization, and refuses it until it is told twice",
        "Set extra_args: {allow_deprecated_quantization: true} for now; then move to AWQ, GPTQ, "
        "FP8 or compressed-tensors, or stay with an older vllm_release.",
    ),
    # Python's ssl, from uvicorn's configuration.
    _cause(
        "tls_files",
        r"SSLError|PEM lib|No such file or directory: '[^']*\.(?:pem|crt|key)'",
        "the certificate or its key cannot be used",
        "See ssl_certfile and ssl_keyfile in extra_args: both must be readable for the server's "
        "user, in PEM, and belong together.",
        who=(SERVER,),
    ),
    # vllm/utils/deep_gemm.py; vllm#29943.
    _cause(
        "deep_gemm",
        r"DeepGEMM (?:is not available|backend (?:is )?not|to be installed)"
        r"|deep_gemm\b.*(?:[Ee]rror|fail|not)",
        "DeepGEMM's kernels do not work here",
        'Set environment: {VLLM_USE_DEEP_GEMM: "0"} on the instance; if it is not that: '
        '{VLLM_MOE_USE_DEEP_GEMM: "0"}.',
    ),
    # -- the host ---------------------------------------------------------------------------------
    _cause(
        "too_many_files",
        r"Too many open files|\[Errno 24\]",
        "the server may not open as many files as it wants",
        "Give the unit a drop-in with LimitNOFILE=1048576 (systemctl edit), then restart it.",
    ),
    # pthread_create: EAGAIN; OpenBLAS says the same.
    _cause(
        "too_many_threads",
        r"can't start new thread|pthread_create failed|Resource temporarily unavailable"
        r"|\[Errno 11\]|failed to create (?:a )?thread|thread creation failed",
        "the server may not start as many processes and threads as it wants",
        "Raise limits: {tasks_max: 16384} of the instance (vllm_service_tasks_max for all), or "
        'lower the number: environment: {OMP_NUM_THREADS: "4"}.',
    ),
    # EIO, ENOTCONN, EHOSTDOWN, ESTALE: of a disk that fails, or a file system that has gone.
    _cause(
        "storage_failed",
        r"\[Errno 5\]|Input/output error|\[Errno 107\]|Transport endpoint is not connected"
        r"|\[Errno 112\]|Host is down|Stale file handle",
        "a disk, or a network file system, did not give what it holds",
        "See journalctl -k for errors of the disk, and whether the file system is still mounted "
        "(findmnt, df); mount it again, or put the model on a local disk.",
    ),
    _cause(
        "permission",
        r"PermissionError: \[Errno (?:1|13)\]|\[Errno 30\] Read-only file system"
        r"|Permission denied \(os error 13\)",
        "the server may not read or write a file",
        "The server runs as its own user and writes below /var/cache/vllm/INSTANCE only; make the "
        "path in the line readable for it (a model's directory: chmod -R a+rX).",
    ),
    # malloc, mmap; the kernel's out-of-memory killer is told by systemd, not here.
    _cause(
        "out_of_memory",
        r"^(?:.*\) )?MemoryError\b|Cannot allocate memory|\[Errno 12\]|std::bad_alloc"
        r"|Too large swap space|node running low on memory"
        r"|DefaultCPUAllocator: can't allocate memory|not enough memory: you tried to allocate",
        "the host's memory, or the unit's share of it, is used up",
        "Lower max_num_seqs or, on CPU, cpu_kvcache_space; raise limits: {memory_max} of the "
        "instance; or end other processes.",
    ),
    # -- what says less ---------------------------------------------------------------------------
    # torch's dlopen; vllm#36099, vllm#31018, vllm#52300; libnuma for vLLM's CPU build.
    _cause(
        "missing_library",
        r"(?:ImportError|OSError): [^\s:]+\.so[.\d]*: cannot open shared object file"
        r"|error while loading shared libraries: ",
        "a shared library is missing",
        "Run site.yml with -e vllm_runtime_verify=full, which installs what the release and its "
        "environment lack (libnuma.so.1 is Debian's libnuma1). In an environment of your own "
        "(vllm_runtime_venv), a libcudart or libcublas says that vLLM and torch are of different "
        "CUDA versions: install both for the same one.",
    ),
    # Told before the model's class that could not be looked at for it: with a library of 0.26.0
    # removed, registry.py's "Error in inspecting model architecture" was seen above it.
    _cause(
        "import_failed",
        r"^(?:\w+\.)*ModuleNotFoundError: |^(?:\w+\.)*ImportError: |undefined symbol: "
        r"|'_OpNamespace' '\w+' object has no attribute|operator \w+::\w+ does not exist"
        r"|numpy\.dtype size changed|module 'torch[\w.]*' has no attribute",
        "something of the release's virtual environment cannot be imported",
        "Run site.yml with -e vllm_runtime_verify=full, which compares every file of the "
        "environment and installs again what is damaged; one of your own (vllm_runtime_venv), or "
        "a package that only the model needs, is yours to mend. For flashinfer: environment: "
        '{VLLM_USE_FLASHINFER_SAMPLER: "0"}.',
        by_itself="site.yml -e vllm_runtime_verify=full compares every file with its lock.",
    ),
    # torch/_inductor/exc.py CppCompileError; triton's subprocess.CalledProcessError; FlashInfer's
    # and torch's ninja.
    _cause(
        "compiler_failed",
        r"CppCompileError|C\+\+ compile error|Ninja build failed|Error building extension"
        r"|CalledProcessError: Command '\['[^']*/?"
        r"(?:gcc|cc|g\+\+|c\+\+|clang|nvcc|ptxas|ninja|ld)'",
        "a compiler failed",
        "The compiler's own message is in the log above the line; often a header or a library is "
        "missing, or /tmp does not allow execution (environment: {TMPDIR: a directory that does}).",
        refers=True,
    ),
    # triton/compiler/errors.py.
    _cause(
        "triton_failed",
        r"PassManager::run failed|triton\.compiler\.errors|CompilationError: at \d+|LLVM ERROR"
        r"|Failed to (?:convert|legalize|translate) .*(?:LLVM|LinalgToTriton|TritonGPU)",
        "Triton could not build a kernel for this card",
        "Set dtype: float16 on a card below compute capability 8.0; else another "
        "attention_backend, or another vllm_release, whose Triton knows the card.",
        refers=True,
    ),
    # torch/_dynamo/exc.py, torch/_inductor/exc.py.
    _cause(
        "torch_compile_failed",
        r"torch\._(?:dynamo|inductor)\.exc\.|BackendCompilerFailed|InductorError|LoweringException",
        "torch.compile could not compile the model",
        "Set enforce_eager: true on the instance, which does without it (slower); report it to "
        "vLLM, or use another vllm_release.",
        refers=True,
    ),
    # vllm/model_executor/models/registry.py imports the class in a process of its own.
    _cause(
        "model_inspection_failed",
        r"Error in inspecting model architecture|failed to be inspected",
        "vLLM's own code for the model does not load",
        "The traceback in the log says why, below 'Error in inspecting model architecture'.",
    ),
    # pydantic's report of vLLM's own checks (vllm/config): the reason, not the headline.
    _cause(
        "bad_configuration",
        r"pydantic_core\._pydantic_core\.ValidationError|validation errors? for \w+(?:Config|Args)"
        r"|Value error, |\[type=\w+, input_value=",
        "vLLM refuses this configuration",
        "The line says why; correct the instance in the inventory (its keys, or extra_args).",
        who=(SERVER, ENGINE),
    ),
    # The same without pydantic: the last frame is a check of vLLM's own configuration.
    _cause(
        "bad_configuration",
        r"^(?:ValueError|AssertionError|NotImplementedError|argparse\.ArgumentTypeError): \S",
        "vLLM refuses this configuration",
        "The line says why; correct the instance in the inventory (its keys, or extra_args).",
        frames=r'File "[^"]*/vllm/(?:config/\w+|engine/arg_utils|platforms/\w+|envs'
        r"|entrypoints/(?:cli/(?:\w+/)?\w+|openai/(?:api_server|cli_args)))\.py\", line \d+, in "
        r"\S+(?:\n(?![^\n]*File \")[^\n]*)*\Z",
        not_frames=r"get_attn|config/attention\.py",
        who=(SERVER, ENGINE),
    ),
    # A pickle that is broken, and nothing tells whose file it is: nothing is removed for it.
    _cause(
        "damaged_file",
        r"_pickle\.UnpicklingError|pickle data was truncated|BadZipFile|JSONDecodeError",
        "a file that the server reads is damaged, and the log does not tell which",
        "Run site.yml, which checks the model's files and, with -e vllm_runtime_verify=full, the "
        "environment; if both are whole, stop the unit and remove what is below "
        "/var/cache/vllm/INSTANCE.",
    ),
)

# What tells that a process was ended, and how: vllm/v1/engine/utils.py, core_client.py,
# multiproc_executor.py, Python's multiprocessing, the shell.
_STATUS = re.compile(
    r"Failed core proc\(s\): \{[^}]*?: (?P<core>-?\d+)"
    r"|died,? (?:with )?exit ?code:? (?P<exit>-?\d+)|exitcode[=:]? ?(?P<mp>-?\d+)"
    r"|killed by (?:signal:? )?(?P<name>SIG[A-Z]+)"
)
_DIED = re.compile(
    r"Engine core proc(?:ess)? \S+ died unexpectedly"
    r"|Process \S+ \(PID: \d+\) died with exit code|Worker \S+ pid \d+ died"
    r"|Worker proc \S+ died unexpectedly|process .* died unexpectedly"
    r"|EngineDeadError|killed by (?:signal|SIG)"
)
_FAULT = re.compile(
    r"Fatal Python error: (?P<fault>[^\n]+)|(?P<seg>Segfault encountered|Segmentation fault)"
    r"|\*\*\* (?P<sig>SIG[A-Z]+)|(?P<bus>Bus error)|^(?P<killed>Killed)$"
)
_FAILED = re.compile(
    r"EngineCore failed to start|EngineCore encountered a fatal error"
    r"|Engine core initialization failed|WorkerProc initialization failed"
    r"|Engine process failed to start"
)

_NOTHING = re.compile(r"(?!)")

ENGINE_DIED = Cause(
    "engine_died",
    _DIED,
    "the engine's process ended without saying why",
    "Something killed it: look for oom-kill and Xid in journalctl -k, in systemctl status, and "
    "for a core dump (coredumpctl). Nothing in the inventory is known to be wrong.",
)
ENGINE_FAILED = Cause(
    "engine_failed",
    _FAILED,
    "the engine failed, and the log does not say why",
    "What it said stands above what was kept: journalctl -u the unit. If it names nothing that "
    "you can change, report it to vLLM.",
)
INTERNAL_ERROR = Cause(
    "internal_error",
    _NOTHING,
    "vLLM, or a library of it, failed in a way that is not known here",
    "Report it to vLLM with the traceback, or use a newer vllm_release. Nothing was killed, and no "
    "setting of memory is at fault as far as the traceback tells.",
)
UNKNOWN = Cause(
    "unknown",
    _NOTHING,
    "it ended by itself, for a reason that is not known here",
    f"Read the traceback in its log: journalctl -u the unit. {_REPORT}",
)
VAGUE = ("engine_died", "engine_failed")
"""Causes that say no more than that the engine has ended."""
PURGES = ("corrupt_compile_cache", "stale_cache")
"""Causes for which an instance's compile caches are removed, decided by the traceback's frames."""


@dataclass(frozen=True)
class Signal:
    """What a signal says that ended a process.

    Attributes:
        cause: The cause's short name.
        name: The signal's name.
        summary: What it means.
        remedy: What to do.
    """

    cause: str
    name: str
    summary: str
    remedy: str


SIGNALS = {
    9: Signal(
        "killed",
        "SIGKILL",
        "was killed, most often by the kernel because the host's memory was used up",
        "Look for oom-kill in journalctl -k and in systemctl status (or who else killed it). Give "
        "the host more memory or swap (WSL2: memory= in .wslconfig), or serve a smaller model; a "
        "limit of the unit: limits: {memory_max} or vllm_service_memory_max.",
    ),
    15: Signal(
        "killed",
        "SIGTERM",
        "was told to end by somebody else",
        "systemctl status and the journal tell who; start it again.",
    ),
    11: Signal(
        "segfault",
        "SIGSEGV",
        "crashed in a library (segmentation fault)",
        "coredumpctl and journalctl -k name the library. A driver's or NCCL's: upgrade the driver, "
        'or environment: {NCCL_P2P_DISABLE: "1"} with several cards; another attention_backend '
        "for a kernel's; then report it to vLLM.",
    ),
    6: Signal(
        "aborted",
        "SIGABRT",
        "gave up in a library (abort)",
        "The library's own words stand above in the log; Xid in journalctl -k tells of the card. "
        "Report it with them.",
    ),
    7: Signal(
        "bus_error",
        "SIGBUS",
        "read a file that has become shorter, or /dev/shm is full (bus error)",
        "See df -h /dev/shm and make it larger, or remove what processes that have ended left "
        "there; and that nobody writes to the model's files while it serves (a network file "
        "system that has gone says the same).",
    ),
    4: Signal(
        "cpu_instruction",
        "SIGILL",
        "used an instruction that this processor lacks",
        "Use a build for this processor: accelerator cpu needs AVX2 or AVX512 as docs/releases.md "
        "says; in a virtual machine hand the host's processor through.",
    ),
}
_BY_NAME = {signal.name: number for number, signal in SIGNALS.items()}


def signal_of(status: int | None) -> int | None:
    """The signal that an exit status tells of: `-9`, and the shell's `137`."""
    if status is None:
        return None
    if status < 0:
        return -status
    return status - 128 if 128 < status < 128 + 32 else None


def _signal_in(line: str) -> int | None:
    match = _STATUS.search(line)
    if match:
        if match.group("name"):
            return _BY_NAME.get(match.group("name"))
        return signal_of(int(match.group("core") or match.group("exit") or match.group("mp")))
    match = _FAULT.search(line)
    if not match:
        return None
    if match.group("killed"):
        return 9
    if match.group("bus"):
        return 7
    if match.group("sig"):
        return _BY_NAME.get(match.group("sig"))
    fault = match.group("fault") or ""
    for word, number in (("Illegal", 4), ("Bus", 7), ("Abort", 6)):
        if word in fault:
            return number
    return 11 if match.group("seg") or "Segmentation" in fault else None


def _in_lines(lines: Iterable[str], causes: Sequence[Cause]) -> Found | None:
    """The first cause, in the table's order, that one of the lines tells."""
    texts = list(lines)
    for cause in causes:
        if cause.frames is not None:
            continue
        told = [(text, match) for text in texts if (match := cause.pattern.search(text.strip()))]
        if told:
            # The exception's own line rather than the source that raised it.
            line, match = next(
                ((t, m) for t, m in told if tracebacks.EXCEPTION.match(t.strip())), told[0]
            )
            return _found(cause, line, match)
    return None


def _found(cause: Cause, line: str, match: re.Match[str], who: str = "") -> Found:
    advice = cause.advise(match) if cause.advise else ""
    return Found(cause, line.strip(), advice + cause.remedy, who)


def _in_report(report: Report, causes: Sequence[Cause]) -> Found | None:
    """The first cause, in the table's order, that one of a traceback's exceptions tells."""
    frames = report.frames
    for cause in causes:
        if cause.who and report.who not in cause.who:
            continue
        if cause.frames is not None and not cause.frames.search(frames):
            continue
        if cause.not_frames is not None and cause.not_frames.search(frames):
            continue
        for one in report.reasons:
            for line in one.message:
                match = cause.pattern.search(line.strip())
                if match:
                    found = _found(cause, _headline(one.message, line), match, report.who)
                    return found if found.line == one.text else replace(found, raised=one.text)
    return None


def _headline(message: Sequence[str], line: str) -> str:
    """The line that tells; with what it belongs to where it is not the exception's own."""
    first = message[0].strip()
    if line.strip() == first:
        return first if len(message) == 1 or "ValidationError" not in first else _reason(message)
    return line.strip()


def _reason(message: Sequence[str]) -> str:
    """Pydantic's reason below its headline."""
    for line in message[1:]:
        text = line.strip()
        if text and ("error" in text.lower() or "[type=" in text):
            return text
    return message[0].strip()


_PRECISE = tuple(cause for cause in CAUSES if not cause.refers)
_AROUND_BEFORE, _AROUND_AFTER = 60, 20


def _plain(lines: Sequence[Line], first: int, last: int, reports: Sequence[Report]) -> list[str]:
    """Lines in a range that are no part of a traceback which ended nothing."""
    out: set[int] = set()
    for report in reports:
        if not report.is_fatal:
            out.update(report.numbers)
    return [
        line.text
        for number, line in enumerate(lines)
        if first <= number < last
        and number not in out
        and not line.chatter
        and line.text.strip()
        and not line.source.startswith(("serving", "protocol", "dump_input"))
    ]


def find_cause(log: Sequence[str]) -> Found | None:
    """The cause that a log tells.

    Args:
        log: Lines, oldest first.

    Returns:
        The cause; `None` where the log tells of no end.
    """
    lines = [parse(line) for line in log]
    reports = tracebacks.read(lines)
    ends = tracebacks.fatal(reports)
    started = max((n for n, line in enumerate(lines) if _UP in line.text), default=-1)
    ends = [report for report in ends if report.first > started]
    if ends:
        return _of_end(ends, lines, reports)
    return _without_traceback(lines, reports, started)


_UP = "Application startup complete"


def _of_end(ends: Sequence[Report], lines: Sequence[Line], reports: Sequence[Report]) -> Found:
    end = ends[0]
    # A process that was ended by a signal tells more than what the API server said of it.
    if end.who not in (ENGINE, WORKER):
        killed = _killed(lines[end.first :], end.who)
        if killed is not None and killed.cause.name not in VAGUE:
            return killed
    found = _in_report(end, _PRECISE)
    if found is not None:
        return found
    found = _in_report(end, CAUSES)
    if found is not None:
        around = _plain(lines, end.first - _AROUND_BEFORE, end.last + _AROUND_AFTER, reports)
        better = _in_lines(around, _PRECISE)
        if better is not None:
            return replace(better, who=end.who, raised=end.reasons[-1].text)
        for other in ends[1:]:
            told = _in_report(other, _PRECISE)
            if told is not None:
                return told
        return found
    if end.is_of_a_peer or not end.whole:
        for other in ends[1:]:
            told = _in_report(other, CAUSES)
            if told is not None:
                return told
    cause = INTERNAL_ERROR if end.who in (ENGINE, WORKER) else UNKNOWN
    return Found(cause, end.reasons[-1].text, cause.remedy, end.who)


def _killed(lines: Sequence[Line], who: str) -> Found | None:
    """What tells that a process has ended without a traceback of its own."""
    told = [line for line in lines if not line.chatter and line.text.strip()]
    for line in told:
        number = _signal_in(line.text)
        if number is not None and number in SIGNALS:
            signal = SIGNALS[number]
            cause = Cause(
                signal.cause,
                _NOTHING,
                f"a process of the server {signal.summary}: signal {number} ({signal.name})",
                signal.remedy,
            )
            return Found(cause, line.text.strip(), cause.remedy, who or ENGINE)
    for cause in (ENGINE_DIED, ENGINE_FAILED):
        for line in told:
            if cause.pattern.search(line.text):
                return Found(cause, line.text.strip(), cause.remedy, ENGINE)
    return None


def _without_traceback(
    lines: Sequence[Line], reports: Sequence[Report], started: int
) -> Found | None:
    """A log that has no traceback of an end: what was killed, and lines of programs."""
    plain = _plain(lines, started + 1, len(lines), reports)
    told = set(plain)
    parsed = [line for line in lines[started + 1 :] if line.text in told]
    killed = _killed(parsed, "")
    if killed is not None and killed.cause.name not in VAGUE:
        return killed
    return _in_lines(plain, _PRECISE) or _in_lines(plain, CAUSES) or killed
