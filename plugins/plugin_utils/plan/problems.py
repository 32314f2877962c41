# Copyright: (c) 2026, compute_plane.vllm contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Problems and notes: what the plan has to say besides what it will do.

Every code a plan can hold is declared here once, with what it means and what
the operator does about it; `docs/plan.md` shows this catalogue, and a test
fails for a code that no test case provokes.
"""

from __future__ import annotations

import difflib
from collections.abc import Iterable, Mapping, Sequence
from typing import Any, NamedTuple


class Kind(NamedTuple):
    """A kind of problem.

    Attributes:
        meaning: What is wrong, in general.
        remedy: What the operator does about it, in general; each problem
            found says it in its own words.
    """

    meaning: str
    remedy: str


PROBLEMS: dict[str, Kind] = {
    # What is wanted
    "unknown-key": Kind(
        "A key that an instance does not know.",
        "Correct the key; other flags of vLLM go into `extra_args`.",
    ),
    "missing-key": Kind(
        "A required key is not there.",
        "Write it.",
    ),
    "wrong-type": Kind(
        "A value has another type than its key takes.",
        "Write the value in the form that the message names.",
    ),
    "bad-value": Kind(
        "A value has the right type and cannot be used.",
        "Choose a value from the range or list in the message.",
    ),
    "bad-name": Kind(
        "An instance's name is not one that systemd and file names can carry.",
        "Use 1 to 63 of `a-z`, `0-9`, `.`, `_` and `-`, beginning with a letter or digit.",
    ),
    "bad-path": Kind(
        "A path that systemd, Python or vLLM cannot be given.",
        "Use an absolute path of letters, digits and `. _ + @ , = ~ -`, without `..`.",
    ),
    "duplicate-name": Kind(
        "Two instances have the same name.",
        "Give every instance its own name.",
    ),
    "duplicate-port": Kind(
        "Two instances listen on the same port of overlapping addresses.",
        "Give one of them another port; the message names a free one.",
    ),
    "unknown-release": Kind(
        "There is no data for this release.",
        "Choose a release that the message lists, or add its data.",
    ),
    "no-release-fits": Kind(
        "None of the collection's releases can run on the host.",
        "Do what the message says for the release that lacks least, or name a release.",
    ),
    "unknown-accelerator": Kind(
        "The release is not locked for this accelerator.",
        "Choose an accelerator that the message lists, or another release.",
    ),
    "release-data": Kind(
        "The release's own files are incomplete or damaged.",
        "Restore the file from the collection, or make it again (`make lock`).",
    ),
    "unknown-flag": Kind(
        "extra_args has a flag that this release of vLLM does not have.",
        "Correct the name; `vllm serve --help=all` lists the flags.",
    ),
    "flag-has-own-key": Kind(
        "extra_args sets what a key of the instance sets.",
        "Set the instance's key instead.",
    ),
    "flag-reserved": Kind(
        "extra_args sets what the collection itself sets, or a secret.",
        "Leave it out; the message says what to use instead.",
    ),
    "flag-value": Kind(
        "A flag's value is not one that vLLM's configuration file can carry.",
        "Write a value of the kind that the message names.",
    ),
    "kind-impossible": Kind(
        "The model cannot be what `kind` says.",
        "Leave `kind` out, or choose a model of that kind.",
    ),
    "tool-calling-incomplete": Kind(
        "Tool calling needs the switch and the parser together.",
        "Set `enable_auto_tool_choice: true` and `tool_call_parser`, or neither.",
    ),
    "environment-name": Kind(
        "Not the name of an environment variable.",
        "Use letters, digits and `_`, not beginning with a digit.",
    ),
    "environment-reserved": Kind(
        "A variable that the plan sets itself, or a secret.",
        "Leave it out; the message says what to use instead.",
    ),
    "two-backend-mechanisms": Kind(
        "The attention backend is chosen a second time, another way.",
        "Set only the instance's `attention_backend`.",
    ),
    "gpu-key-on-cpu": Kind(
        "A key that only means something with GPUs, on accelerator cpu.",
        "Remove the key, or set `vllm_accelerator: cuda`.",
    ),
    "cpu-key-on-cuda": Kind(
        "A key that only means something on accelerator cpu.",
        "Remove the key.",
    ),
    "group-hosts": Kind(
        "`hosts` of an instance are not hosts of the inventory, each once and two at least.",
        "Name them as the inventory does, the leader first.",
    ),
    "group-member-missing": Kind(
        "A host of a group is not in this run, so the group cannot be planned.",
        "Run over all of its hosts at once.",
    ),
    "group-differs": Kind(
        "The hosts of a group would not serve the same.",
        "Put the instance, the release and the accelerator where all of its hosts read them.",
    ),
    "group-address": Kind(
        "A host's address is none by which the others of its group reach it.",
        "Set `vllm_group_address` in the host's own variables.",
    ),
    "group-unsupported": Kind(
        "An instance over several hosts cannot be served so.",
        "Do what the message says.",
    ),
    "on-demand-incomplete": Kind(
        "A key of an instance on demand is given without `on_demand`.",
        "Set `on_demand: true`, or leave the key out.",
    ),
    "on-demand-group": Kind(
        "`on_demand` is set for an instance that spans hosts.",
        "Leave one of the two out.",
    ),
    "sleep-unsupported": Kind(
        "An instance cannot sleep as `sleep_level` says.",
        "Do what the message says; `sleep_level: 0` stops and starts its server.",
    ),
    "share-apart": Kind(
        "Instances of one `share` are on different GPUs.",
        "Name the same `gpus` for all of them, or none.",
    ),
    "group-not-needed": Kind(
        "One host of the group could serve the instance by itself, faster and without the others.",
        "Leave `hosts` out, or ask for what one host cannot hold.",
    ),
    "bad-check": Kind(
        "A check of `vllm_verify_suite` or `vllm_verify_questions` that cannot be read.",
        "Correct the entry; `docs/verification.md` has what it takes.",
    ),
    "unknown-variable": Kind(
        "A variable that begins with `vllm_`, that nothing reads, and that concerns a secret or the"
        " instances.",
        "Correct its name; one of your own must not begin with `vllm_`.",
    ),
    "registry-address": Kind(
        "The registry's address is not the template of one.",
        "Use http or https, with `{host}` and `{instance}` where they belong.",
    ),
    # The host
    "not-root": Kind(
        "The play does not run as root.",
        "Connect as root, or set `ansible_become: true`.",
    ),
    "unsupported-distribution": Kind(
        "The distribution is not one the roles know.",
        "Use one of the distributions in the message.",
    ),
    "unsupported-architecture": Kind(
        "The release has no wheels for this processor.",
        "Use an x86-64 host.",
    ),
    "unsupported-cpu": Kind(
        "The processor lacks instructions that vLLM's CPU build needs.",
        "Use a newer processor, or let a virtual machine see its host's.",
    ),
    "systemd-missing": Kind(
        "The host is not run by systemd.",
        "Use a host or container that systemd runs.",
    ),
    "systemd-too-old": Kind(
        "systemd is older than the units need.",
        "Upgrade the distribution.",
    ),
    "glibc-too-old": Kind(
        "The release's wheels need a newer C library.",
        "Upgrade the distribution.",
    ),
    "python-not-found": Kind(
        "No interpreter of a version that the release supports.",
        "Install one with the command in the message.",
    ),
    "packages-missing-offline": Kind(
        "Operating system packages are missing on a host that installs from a bundle.",
        "Install them from the distribution's medium or mirror; the message names them.",
    ),
    "port-in-use": Kind(
        "Something else listens on an instance's port.",
        "Stop what listens there, or give the instance another port.",
    ),
    "host-not-here": Kind(
        "An instance's `host` is no address of the machine.",
        "Use one of those that the message names, `127.0.0.1` or `0.0.0.0`.",
    ),
    "disk-space": Kind(
        "A file system has too little room.",
        "Free room, or mount a larger file system at the directories in the message.",
    ),
    "disk-read-only": Kind(
        "A file system that must be written is mounted read-only.",
        "Mount it read-write; look in `dmesg` for errors of the disk.",
    ),
    "disk-noexec": Kind(
        "The venv's file system is mounted noexec.",
        "Mount it exec, or mount another file system there.",
    ),
    "memory-too-small": Kind(
        "The host's memory cannot hold what the instances need.",
        "Serve a smaller model or fewer, or lower `cpu_kvcache_space`.",
    ),
    "limit-too-small": Kind(
        "An instance's own limit of memory is less than it needs to start.",
        "Raise `memory_max` in `limits`, or leave it out.",
    ),
    "nvcc-required": Kind(
        "The inventory demands nvcc and the host has none.",
        "Install the CUDA toolkit, or set `vllm_preflight_nvcc: any`.",
    ),
    "nvcc-forbidden": Kind(
        "The inventory demands a host without nvcc and there is one.",
        "Remove the CUDA toolkit, or set `vllm_preflight_nvcc: any`.",
    ),
    # GPUs and their driver
    "no-gpu": Kind(
        "Accelerator cuda, and no NVIDIA GPU answers.",
        "Seat the GPU or pass it through, or set `vllm_accelerator: cpu`.",
    ),
    "wsl2": Kind(
        "The host is WSL2, whose GPU the service cannot open.",
        "Start Linux on the machine itself, or set `vllm_accelerator: cpu`.",
    ),
    "driver-libraries-missing": Kind(
        "The NVIDIA driver is loaded, and the library by which it is asked is not installed.",
        "Install the driver's libraries, of the version of its kernel module.",
    ),
    "driver-not-loaded": Kind(
        "A GPU is on the PCI bus and the NVIDIA driver is not loaded.",
        "Install the distribution's NVIDIA driver of the version in the message, and reboot.",
    ),
    "driver-mismatch": Kind(
        "Kernel module and library of the driver differ: a reboot is due.",
        "Reboot.",
    ),
    "driver-too-old": Kind(
        "The driver cannot run the release's CUDA build.",
        "Install the driver version in the message or a newer one, and reboot.",
    ),
    "cuinit-failed": Kind(
        "The driver answers NVML, and CUDA itself fails.",
        "Depends on the error; the message names the step.",
    ),
    "power-limit": Kind(
        "A GPU does not take the power limit.",
        "Set `vllm_gpu_power_limit` within the range in the message, or leave the card out.",
    ),
    "gpu-lost": Kind(
        "A GPU fell off the bus.",
        "Reboot; if it comes back lost, check power, slot and Xid 79 in `dmesg`.",
    ),
    "gpu-mig": Kind(
        "A GPU is split into MIG devices.",
        "Name `gpus` that are not split, or merge it where the machine owns it.",
    ),
    "gpu-unknown": Kind(
        "An instance names a GPU that the host does not have.",
        "Name one of the GPUs in the message, by UUID or index.",
    ),
    "gpu-count": Kind(
        "The GPUs of an instance and its parallel sizes do not agree.",
        "Set `tensor_parallel_size` to the number of GPUs.",
    ),
    "gpu-overcommitted": Kind(
        "The instances on one GPU claim more than it has.",
        "Lower the utilizations to the sum in the message, or use other `gpus`.",
    ),
    "gpu-too-small-for-all": Kind(
        "The models on one GPU need more memory than it has.",
        "Serve fewer or smaller ones on it, or lower the share that was set for one.",
    ),
    "gpu-memory-in-use": Kind(
        "vLLM would find less free memory than it claims, and end.",
        "End what holds the memory (the message names it), or lower the utilization.",
    ),
    "compute-capability-too-low": Kind(
        "The release has no kernels for a GPU as old as this.",
        "Set the `vllm_release` in the message, which has, or use another GPU.",
    ),
    "compute-capability-too-high": Kind(
        "The release has no kernels for a GPU as new as this.",
        "Set the `vllm_release` in the message, which has, or use another GPU.",
    ),
    "dtype-unsupported": Kind(
        "GPU or model cannot work in this number format.",
        "Set the `dtype` in the message: float16 instead of bfloat16 below 8.0.",
    ),
    "architecture-unknown": Kind(
        "The release cannot serve the model's architecture.",
        "Set the `vllm_release` in the message, which can, or choose another model.",
    ),
    "quantization-not-installed": Kind(
        "The release's locks lack a package that the quantization needs.",
        "Use another quantization, or an environment of your own (`vllm_runtime_venv`).",
    ),
    "quantization-unsupported": Kind(
        "The GPU cannot run this quantization.",
        "Use another quantization of the model, or a newer GPU.",
    ),
    "backend-unknown": Kind(
        "The release has no attention backend of this name.",
        "Choose a backend that the report's table shows as working.",
    ),
    "backend-unusable": Kind(
        "The attention backend cannot work on this host.",
        "Choose a backend that works, or give the host what this one lacks.",
    ),
    "heads-not-divisible": Kind(
        "The model's attention heads cannot be split like this.",
        "Set `tensor_parallel_size` to a divisor of the heads.",
    ),
    "weights-do-not-fit": Kind(
        "Weights and activations leave no room for a KV cache, or the weights alone are too large.",
        "Raise the utilization, quantize, take a smaller model or more GPUs.",
    ),
    "max-model-len-too-long": Kind(
        "One request of this length does not fit the KV cache.",
        "Set `max_model_len` to the value in the message, or raise the utilization.",
    ),
    "max-model-len-beyond-model": Kind(
        "The length is beyond what the model was made for.",
        "Set `max_model_len` to the model's own length or less.",
    ),
    # The model on the host
    "model-not-found": Kind(
        "The model's directory, or its repository on the Hub, does not exist.",
        "Put the model there, or name a Hub repository as `org/name`; for a private one give"
        " `vllm_model_token`.",
    ),
    "model-gated": Kind(
        "The model's repository is gated, and the Hub gives no access to its files.",
        "Ask for access on the page in the message, and give a token that has it as"
        " `vllm_model_token`.",
    ),
    "revision-not-found": Kind(
        "The repository has no such branch, tag or commit.",
        "Correct `revision`.",
    ),
    "hub-refuses": Kind(
        "The Hub does not know the token, refuses it, or is none.",
        "Correct `vllm_model_token` or `vllm_model_endpoint`, as the message says.",
    ),
    "model-adapter": Kind(
        "What is given as a model is an adapter (LoRA) of one.",
        "Name the base model in the message as `model`, and the adapter in `lora`.",
    ),
    "model-not-directory": Kind(
        "The model's path is not a directory.",
        "Name the directory that holds `config.json`.",
    ),
    "model-unreadable": Kind(
        "The model's directory or its config.json cannot be read.",
        "Give the directory mode 0755 and its files 0644.",
    ),
    "model-no-config": Kind(
        "The directory or repository holds no config.json.",
        "Name one in Hugging Face format, or set the `extra_args` in the message for one in"
        " Mistral's.",
    ),
    "model-bad-config": Kind(
        "config.json is not what transformers writes.",
        "Copy the model again.",
    ),
    "model-no-weights": Kind(
        "The directory or repository holds no weights that vLLM loads.",
        "Use the whole model, with its safetensors; the message names the one that a repository"
        " was made from.",
    ),
    "model-missing-shards": Kind(
        "Files that the weights' index names are absent or empty.",
        "Copy the files in the message again.",
    ),
    "model-no-tokenizer": Kind(
        "The directory or repository holds no tokenizer.",
        "Copy `tokenizer.json` and `tokenizer_config.json` too.",
    ),
    "adapter-unusable": Kind(
        "A LoRA adapter that vLLM does not load.",
        "Merge it into the model, or take another; the message says what is wrong with it.",
    ),
    "adapter-of-another-model": Kind(
        "A LoRA adapter whose matrices do not fit the model.",
        "Serve it with its base, which the message names, or take an adapter of this model.",
    ),
}

NOTES: dict[str, str] = {
    "no-instances": "No instance is wanted.",
    "unknown-variable": "A variable that begins with `vllm_` and that nothing reads.",
    "unknown-instance": "A setting names an instance that this host does not have.",
    "release-chosen": "The release that `newest-that-fits` has taken, and why no newer one.",
    "wsl2": "The host is WSL2, and its GPU, if there is one, is not used.",
    "group-elsewhere": "An instance over several hosts, of which this host is none.",
    "instance-removed": "A deployed instance is no longer wanted.",
    "unused-on-cpu": "A setting without effect on accelerator cpu.",
    "port-moves": "A port is held by an instance that gives it up in this run.",
    "model-not-on-host": "The model is not on the host and the Hub was not asked or did not answer,"
    " so the plan is made again when the model is there.",
    "weights-pickled": "The weights are pickles and not safetensors.",
    "revision-not-pinned": "The revision is not a commit.",
    "revision-unused": "A revision means nothing for a local directory.",
    "packages-missing": "Operating system packages that the runtime role will install.",
    "memory-low": "The host's memory is short at this moment.",
    "facts-missing": "A fact could not be read, so a rule was not applied.",
    "driver-minor-version": "The driver runs the CUDA build by minor-version compatibility.",
    "gpu-ecc": "A GPU counts memory errors.",
    "gpu-display": "A display uses the GPU's memory.",
    "gpu-mixed": "The GPUs of one instance differ.",
    "gpu-shared": "Instances share a GPU, whose memory is divided by what each needs.",
    "gpu-memory-tight": "Free GPU memory is barely enough at this moment.",
    "adapter-not-on-host": "A LoRA adapter is not on the host, so its rank is not known.",
    "adapter-base-differs": "A LoRA adapter names another base than the model that is served.",
    "architecture-not-listed": "An environment of one's own may know the model's architecture.",
    "graphs-tight": "CUDA graphs may not fit beside the budget.",
    "dtype-fallback": "vLLM will use another number format than the model's own.",
    "backend-caution": "Something was recorded of the chosen attention backend on such a GPU.",
    "backend-mla": "Another default backend, because the model needs it.",
    "memory-unknown": "The model's memory cannot be planned from its files.",
    "max-model-len-auto": "The model's own context does not fit; vLLM takes the longest that does.",
    "max-model-len-chosen": "The model's own context does not fit, and a shorter one is set.",
    "os-packages-unknown": "The release names no packages for this family of systems.",
}


class Findings:
    """Collects problems and notes in the order in which they are found.

    The same finding twice is kept once, so several rules may look at one
    thing without repeating each other.
    """

    def __init__(self) -> None:
        """Start with nothing found."""
        self.problems: list[dict[str, Any]] = []
        self.notes: list[dict[str, str]] = []

    def problem(
        self,
        code: str,
        where: str,
        message: str,
        remedy: str,
        settings: Mapping[str, Any] | None = None,
        alternatives: Iterable[Mapping[str, Any]] = (),
    ) -> None:
        """Add what must be put right before anything may change.

        Args:
            code: A key of `PROBLEMS`.
            where: The inventory variable, `vllm_instances[0].port`, or `host`.
            message: What is wrong, as one line without a full stop.
            remedy: What the operator does about it, as one line.
            settings: The inventory variables that the remedy names, in the form of `where`, with
                the values that it gives them; the problem is gone when they are set. The value
                None leaves a variable out. None where it names none.
            alternatives: What else the remedy names that ends the problem, each like `settings`.
        """
        found: dict[str, Any] = {
            "code": code,
            "where": one_line(where),
            "message": one_line(message),
            "remedy": one_line(remedy),
        }
        ways = [dict(way) for way in (settings or {}, *alternatives) if way]
        if ways:
            found["settings"] = ways[0]
        if ways[1:]:
            found["alternatives"] = ways[1:]
        if found not in self.problems:
            self.problems.append(found)

    def note(self, code: str, where: str, message: str) -> None:
        """Add what is only worth knowing.

        Args:
            code: A key of `NOTES`.
            where: As in `problem`.
            message: One line.
        """
        found = {"code": code, "where": one_line(where), "message": one_line(message)}
        if found not in self.notes:
            self.notes.append(found)

    def has(self, where: str) -> bool:
        """Tell whether a problem at exactly this place is already known."""
        return any(problem["where"] == where for problem in self.problems)


def one_line(text: str) -> str:
    """Return `text` with every run of white space made one space."""
    return " ".join(text.split())


def problem_line(problem: Mapping[str, Any]) -> str:
    """Return a problem as the one line that Ansible prints for it."""
    return f"{problem['where']}: {problem['message']} — {problem['remedy']}"


def quoted(values: Iterable[Any]) -> str:
    """Return values as a readable list: `a, b, c`, or `(none)`."""
    return ", ".join(str(value) for value in values) or "(none)"


def closest(word: str, known: Sequence[str], cutoff: float = 0.6) -> str | None:
    """Return the known word that `word` was most likely meant to be, or None.

    Args:
        word: What was written.
        known: The words that there are.
        cutoff: How much alike they must be, from 0 to 1.
    """
    matches = difflib.get_close_matches(word, known, n=1, cutoff=cutoff)
    return matches[0] if matches else None


def shown(value: Any, limit: int = 60) -> str:
    """Return a value as it may appear in a message: short, on one line."""
    text = one_line(repr(value))
    return text if len(text) <= limit else text[: limit - 1] + "…"
