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
from collections.abc import Iterable, Sequence
from typing import Any

PROBLEMS: dict[str, str] = {
    # What is wanted
    "unknown-key": "A key that an instance does not know.",
    "missing-key": "A required key is not there.",
    "wrong-type": "A value has another type than its key takes.",
    "bad-value": "A value has the right type and cannot be used.",
    "bad-name": "An instance's name is not one that systemd and file names can carry.",
    "bad-path": "A path that systemd, Python or vLLM cannot be given.",
    "duplicate-name": "Two instances have the same name.",
    "duplicate-port": "Two instances listen on the same port of overlapping addresses.",
    "unknown-release": "There is no data for this release.",
    "unknown-accelerator": "The release is not locked for this accelerator.",
    "release-data": "The release's own files are incomplete or damaged.",
    "unknown-flag": "extra_args has a flag that this release of vLLM does not have.",
    "flag-has-own-key": "extra_args sets what a key of the instance sets.",
    "flag-reserved": "extra_args sets what the collection itself sets, or a secret.",
    "flag-value": "A flag's value is not one that vLLM's configuration file can carry.",
    "tool-calling-incomplete": "Tool calling needs the switch and the parser together.",
    "environment-name": "Not the name of an environment variable.",
    "environment-reserved": "A variable that the plan sets itself, or a secret.",
    "two-backend-mechanisms": "The attention backend is chosen a second time, another way.",
    "gpu-key-on-cpu": "A key that only means something with GPUs, on accelerator cpu.",
    "cpu-key-on-cuda": "A key that only means something on accelerator cpu.",
    # The host
    "not-root": "The play does not run as root.",
    "unsupported-distribution": "The distribution is not one the roles know.",
    "unsupported-architecture": "The release has no wheels for this processor.",
    "unsupported-cpu": "The processor lacks instructions that vLLM's CPU build needs.",
    "systemd-missing": "The host is not run by systemd.",
    "systemd-too-old": "systemd is older than the units need.",
    "glibc-too-old": "The release's wheels need a newer C library.",
    "python-not-found": "No interpreter of a version that the release supports.",
    "port-in-use": "Something else listens on an instance's port.",
    "disk-space": "A file system has too little room.",
    "disk-read-only": "A file system that must be written is mounted read-only.",
    "disk-noexec": "The venv's file system is mounted noexec.",
    "memory-too-small": "The host's memory cannot hold what the instances need.",
    "nvcc-required": "The inventory demands nvcc and the host has none.",
    "nvcc-forbidden": "The inventory demands a host without nvcc and there is one.",
    # GPUs and their driver
    "no-gpu": "Accelerator cuda, and no NVIDIA GPU answers.",
    "driver-not-loaded": "A GPU is on the PCI bus and the NVIDIA driver is not loaded.",
    "driver-mismatch": "Kernel module and library of the driver differ: a reboot is due.",
    "driver-too-old": "The driver cannot run the release's CUDA build.",
    "cuinit-failed": "The driver answers NVML, and CUDA itself fails.",
    "gpu-lost": "A GPU fell off the bus.",
    "gpu-mig": "A GPU is split into MIG devices.",
    "gpu-unknown": "An instance names a GPU that the host does not have.",
    "gpu-count": "The GPUs of an instance and its parallel sizes do not agree.",
    "gpu-overcommitted": "The instances on one GPU claim more than it has.",
    "gpu-memory-in-use": "vLLM would find less free memory than it claims, and end.",
    "compute-capability-too-low": "The release has no kernels for this GPU.",
    "dtype-unsupported": "GPU or model cannot work in this number format.",
    "quantization-unsupported": "The GPU cannot run this quantization.",
    "backend-unknown": "The release has no attention backend of this name.",
    "backend-unusable": "The attention backend cannot work on this host.",
    "heads-not-divisible": "The model's attention heads cannot be split like this.",
    "weights-do-not-fit": "Weights and activations leave no room for a KV cache.",
    "max-model-len-too-long": "One request of this length does not fit the KV cache.",
    "max-model-len-beyond-model": "The length is beyond what the model was made for.",
    # The model on the host
    "model-not-found": "The model's directory does not exist.",
    "model-not-directory": "The model's path is not a directory.",
    "model-unreadable": "The model's directory or its config.json cannot be read.",
    "model-no-config": "The directory holds no config.json.",
    "model-bad-config": "config.json is not what transformers writes.",
    "model-no-weights": "The directory holds no weights.",
    "model-missing-shards": "Files that the weights' index names are absent or empty.",
    "model-no-tokenizer": "The directory holds no tokenizer.",
}

NOTES: dict[str, str] = {
    "no-instances": "No instance is wanted.",
    "instance-removed": "A deployed instance is no longer wanted.",
    "unused-on-cpu": "A setting without effect on accelerator cpu.",
    "port-moves": "A port is held by an instance that gives it up in this run.",
    "model-not-on-host": "The model's files are not on the host, so nothing is known of its size.",
    "revision-not-pinned": "The revision is not a commit.",
    "revision-unused": "A revision means nothing for a local directory.",
    "packages-missing": "Operating system packages that the runtime role will install.",
    "memory-low": "The host's memory is short at this moment.",
    "facts-missing": "A fact could not be read, so a rule was not applied.",
    "driver-minor-version": "The driver runs the CUDA build by minor-version compatibility.",
    "gpu-ecc": "A GPU counts memory errors.",
    "gpu-display": "A display uses the GPU's memory.",
    "gpu-mixed": "The GPUs of one instance differ.",
    "gpu-memory-tight": "Free GPU memory is barely enough at this moment.",
    "graphs-tight": "CUDA graphs may not fit beside the budget.",
    "dtype-fallback": "vLLM will use another number format than the model's own.",
    "backend-caution": "Something was recorded of the chosen attention backend on such a GPU.",
    "backend-mla": "Another default backend, because the model needs it.",
    "memory-unknown": "The model's memory cannot be planned from its files.",
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
        self.problems: list[dict[str, str]] = []
        self.notes: list[dict[str, str]] = []

    def problem(self, code: str, where: str, message: str, remedy: str) -> None:
        """Add what must be put right before anything may change.

        Args:
            code: A key of `PROBLEMS`.
            where: The inventory variable, `vllm_instances[0].port`, or `host`.
            message: What is wrong, as one line without a full stop.
            remedy: What the operator does about it, as one line.
        """
        found = {
            "code": code,
            "where": where,
            "message": one_line(message),
            "remedy": one_line(remedy),
        }
        if found not in self.problems:
            self.problems.append(found)

    def note(self, code: str, where: str, message: str) -> None:
        """Add what is only worth knowing.

        Args:
            code: A key of `NOTES`.
            where: As in `problem`.
            message: One line.
        """
        found = {"code": code, "where": where, "message": one_line(message)}
        if found not in self.notes:
            self.notes.append(found)

    def has(self, where: str) -> bool:
        """Tell whether a problem at exactly this place is already known."""
        return any(problem["where"] == where for problem in self.problems)


def one_line(text: str) -> str:
    """Return `text` with every run of white space made one space."""
    return " ".join(text.split())


def problem_line(problem: dict[str, str]) -> str:
    """Return a problem as the one line that Ansible prints for it."""
    return f"{problem['where']}: {problem['message']} — {problem['remedy']}"


def quoted(values: Iterable[Any]) -> str:
    """Return values as a readable list: `a, b, c`, or `(none)`."""
    return ", ".join(str(value) for value in values) or "(none)"


def closest(word: str, known: Sequence[str]) -> str | None:
    """Return the known word that `word` was most likely meant to be, or None."""
    matches = difflib.get_close_matches(word, known, n=1, cutoff=0.6)
    return matches[0] if matches else None


def shown(value: Any, limit: int = 60) -> str:
    """Return a value as it may appear in a message: short, on one line."""
    text = one_line(repr(value))
    return text if len(text) <= limit else text[: limit - 1] + "…"
