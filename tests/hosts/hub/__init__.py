# Copyright: (c) 2026, compute_plane.vllm contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""A local Hugging Face Hub for tests: real files over the Hub's HTTP, with faults to order.

It speaks what huggingface_hub's client asks of a Hub when it downloads (read in huggingface_hub
1.33's `hf_api.py`, `file_download.py`, `utils/_http.py` and `utils/_xet.py`): a model's info and
tree, `resolve` with its headers and redirects, a CDN of another host name for LFS files, ranges,
tokens, private and gated models, and the offer of xet. Only the standard library is used.

`models` holds the repositories, `faults` what goes wrong on order, `server` the HTTP. Tests of this
process use `Hub`; others start `python -m hub` and order faults and read the log of requests over
HTTP under `/_hub/`.
"""

from __future__ import annotations

from hub.faults import Fault
from hub.models import Repository, Store
from hub.server import Hub

__all__ = ["Fault", "Hub", "Repository", "Store"]
