# Copyright: (c) 2026, compute_plane.vllm contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What went wrong between this host and the Hub, in words that say what to do.

The codes are those of `worker.failure`, and `stalled`, `died`, `digest` and `tools` of
`fetch`.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

TRANSIENT = frozenset({"network", "server", "rate", "range", "mismatch", "stalled", "died"})
"""Codes of failures that another attempt may cure; all others end the run at once."""

# Remedies name the roles' variables; the module's options are called by their last words, but for
# `cache_dir`. A code with "+token" is for runs that were given a token.
REFUSALS: dict[str, tuple[str, str]] = {
    "gated": (
        "the model {repo_id} is gated (HTTP {status}) and no token was given",
        (
            "Ask for access at {page}, make a token with read permission at"
            " {endpoint}/settings/tokens and give it as vllm_model_token"
        ),
    ),
    "gated+token": (
        (
            "access to the gated model {repo_id} is refused (HTTP {status}): the token's account"
            " has not been granted access"
        ),
        (
            "Ask for it at {page} with that account, wait until it is granted, and see that a"
            " fine-grained token may read gated repositories"
        ),
    ),
    "token": (
        (
            "the Hub at {endpoint} does not know the token (HTTP {status}): it is mistyped, expired"
            " or revoked, or of another Hub"
        ),
        "Make a new one at {endpoint}/settings/tokens",
    ),
    "repository": (
        (
            "there is no model {repo_id} on {endpoint}, or it is private and no token was given"
            " (HTTP {status})"
        ),
        "Check repo_id, or give a token that may read it as vllm_model_token",
    ),
    "repository+token": (
        (
            "there is no model {repo_id} on {endpoint}, or it is private and the token may not read"
            " it (HTTP {status})"
        ),
        "Check repo_id and the token's account",
    ),
    "revision": (
        (
            "the model {repo_id} has no revision {revision} (HTTP {status}): no such branch, tag or"
            " commit"
        ),
        "See its branches at {page}/tree/main and check revision",
    ),
    "forbidden": (
        "the Hub at {endpoint} refuses {repo_id} (HTTP 403) and no token was given",
        "Give one as vllm_model_token, or see what stands between this host and the Hub",
    ),
    "forbidden+token": (
        "the Hub at {endpoint} refuses {repo_id} with this token (HTTP 403)",
        "Check its permissions, or what stands between this host and the Hub",
    ),
    "disabled": (
        "the Hub has disabled the model {repo_id} (HTTP {status})",
        "Choose another one",
    ),
    "endpoint": (
        "{endpoint} answers HTTP {status} like a server that is no Hugging Face Hub",
        "Check vllm_model_endpoint",
    ),
}
"""What is wrong and what to do, where asking again helps nothing: the plan tells it too."""

_TEXTS = {
    **{
        code: f"{wrong}. {remedy}. The Hub says: {{said}}"
        for code, (wrong, remedy) in REFUSALS.items()
    },
    "entry": (
        "{repo_id} at {revision} lists {path}, but the Hub at {endpoint} does not have it (HTTP"
        " 404). If vllm_model_endpoint is a mirror, use another one. The Hub says: {said}"
    ),
    "network": (
        "{endpoint} cannot be reached ({said}), and there is no whole copy of {repo_id} at"
        " {revision} under {cache_dir}.{have} Check the host's network, DNS and proxy"
        " (HTTPS_PROXY), set vllm_model_endpoint to a Hub that it can reach, or bring the model"
        " there by another way"
    ),
    "rate": (
        "the Hub at {endpoint} limits the rate of requests (HTTP 429), did so at every attempt,"
        " and asks to wait {retry_after}. Try again later, or set vllm_model_token: limits"
        " are higher with a token.{have}"
    ),
    "rate+token": (
        "the Hub at {endpoint} limits the rate of requests (HTTP 429), did so at every attempt,"
        " and asks to wait {retry_after}. Try again later.{have}"
    ),
    "server": (
        "the Hub at {endpoint} fails at every attempt to get {what} of {repo_id} (HTTP"
        " {status}). Try again later.{have} The Hub says: {said}"
    ),
    "digest": (
        "{path} of {repo_id} arrives with the wrong content every time ({said}). The Hub, a"
        " mirror or a proxy on the way is broken; nothing of the wrong content is kept.{have}"
    ),
    "mismatch": (
        "the Hub at {endpoint} contradicts itself at every attempt to get {what} of {repo_id}:"
        " {said}. The Hub, a mirror or a proxy on the way is broken; try another endpoint.{have}"
    ),
    "range": (
        "the Hub at {endpoint} refuses at every attempt to send {what} of {repo_id} (HTTP 416)."
        " The Hub, a mirror or a proxy on the way is broken; try another endpoint.{have}"
    ),
    "stalled": (
        "no byte of {what} of {repo_id} came from {endpoint} for {said}, at every attempt."
        " Check the network; the next run goes on where this one stopped.{have}"
    ),
    "space": (
        "the disk of {cache_dir} is full ({said}). Make room there, or set vllm_model_hub"
        " (cache_dir) to another mount; the next run goes on where this one stopped.{have}"
    ),
    "unwritable": (
        "the cache cannot be written: {said}. Run as a user that may write {cache_dir}"
        " (become), remount it read-write, or set vllm_model_hub"
        " (cache_dir) to another place"
    ),
    "died": ("the process that fetches {repo_id} ended by itself, at every attempt: {said}.{have}"),
    "tools": (
        "huggingface_hub cannot be used from {tools}: {said}. It is what fetches models; the"
        " role vllm_runtime installs it there, or set tools_path"
    ),
    "peer": (
        "{what} of {repo_id} cannot be copied from {endpoint}: {said}.{have} See that the model is"
        " whole there and that this host may log in there, or fetch it from the Hub"
    ),
    "other": ("{what} of {repo_id} cannot be had from {endpoint}: {said}{trace}"),
}


def explain(
    event: Mapping[str, Any],
    repo_id: str,
    revision: str,
    endpoint: str,
    tools: str,
    has_token: bool,
    cache_dir: str,
    path: str | None = None,
    have: str | None = None,
) -> str:
    """The text that ends a run: what is wrong, where, and what to do.

    Args:
        event: A `failed` event of the worker.
        repo_id: The repository.
        revision: The revision asked for.
        endpoint: The Hub's address.
        tools: The environment of the client.
        has_token: Whether a token was given.
        cache_dir: The cache.
        path: The file it happened with, if it was one.
        have: A sentence about what of the model is there already.
    """
    said = said_by(event)
    asked = event.get("retry_after")
    return _TEXTS[_code(event, has_token)].format(
        **_words(event, repo_id, revision, endpoint),
        tools=tools,
        cache_dir=cache_dir,
        path=path,
        what=path or "the list of files",
        have=" " + have if have else "",
        said=said,
        retry_after="without saying how long" if asked is None else f"{asked:.0f} s",
        trace=f"\n{event['trace']}" if event.get("trace") else "",
    )


def refusal(
    event: Mapping[str, Any], repo_id: str, revision: str, endpoint: str, has_token: bool
) -> tuple[str, str] | None:
    """What is wrong and what to do, when the Hub refuses; None for what may pass by itself.

    Args:
        event: A `failed` event of the worker, or `ask.HubRefusal.event`.
        repo_id: The repository.
        revision: The revision asked for.
        endpoint: The Hub's address.
        has_token: Whether a token was given.
    """
    texts = REFUSALS.get(_code(event, has_token))
    if texts is None:
        return None
    words = _words(event, repo_id, revision, endpoint)
    return texts[0].format(**words), texts[1].format(**words)


def said_by(event: Mapping[str, Any]) -> str:
    """What the Hub, or who stands before it, said; on one line, of 500 letters at most."""
    said = " ".join(str(event.get("message") or "").split()).rstrip(".")
    return said if len(said) <= 500 else said[:500] + "…"


def _code(event: Mapping[str, Any], has_token: bool) -> str:
    code = str(event["code"])
    return code + "+token" if has_token and code + "+token" in _TEXTS else code


def _words(event: Mapping[str, Any], repo_id: str, revision: str, endpoint: str) -> dict[str, Any]:
    address = endpoint.rstrip("/")
    return {
        "repo_id": repo_id,
        "revision": revision,
        "endpoint": address,
        "page": f"{address}/{repo_id}",
        "status": event.get("status"),
    }
