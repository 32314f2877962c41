# Copyright: (c) 2026, compute_plane.vllm contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Documentation of the parameters of every module that verifies an endpoint."""

from __future__ import annotations


class ModuleDocFragment:
    """Options in plugins/module_utils/verify/run.py."""

    DOCUMENTATION = r"""
options:
  suite:
    description:
      - The checks that prove an endpoint. Each is a built-in's name, a mapping with the name as
        C(check) and its options, or an own question as in O(questions).
      - The default has all that are built in; docs/verification.md has their options.
      - Every entry may have C(name), C(severity) (V(error) or V(warning)), C(retries),
        C(timeout) (seconds for one answer) and C(instances) (the names of those it is for).
      - A check that does not apply is skipped, and says why.
    type: list
    elements: raw
    default:
      - health
      - version
      - models
      - chinese
      - is_prime
      - multi_turn
      - streaming
      - structured_output
      - tool_call
      - concurrency
      - context_limit
      - api_key
      - attention_backend
      - gpu_memory
  questions:
    description:
      - Own questions, after the suite. Each has C(name), one of C(prompt), C(messages) (a
        conversation as the chat completions API takes it) and C(turns) (what the user says, turn by
        turn), and C(expect); as wanted C(max_tokens) (64), C(temperature) (0), and what every entry
        of O(suite) may have.
      - C(expect) is a regular expression (Python's) that the answer must match somewhere, or a
        mapping with any of C(regex), C(not_regex), C(contains), C(not_contains), C(json_schema),
        C(number) (C(equals), C(tolerance), C(min), C(max), C(which)), C(min_length), C(max_length)
        and C(script) (V(traditional) or V(simplified) Chinese); all of them must hold.
    type: list
    elements: dict
    default:
      - name: completion
        prompt: What is the capital of France?
        expect: Paris
        max_tokens: 16
  ability:
    description:
      - The severity of the checks that only a model that is able to can pass (C(chinese),
        C(is_prime), C(multi_turn), C(tool_call)), where the suite gives none.
    type: str
    choices: [error, warning]
    default: warning
  thinking_tokens:
    description:
      - How many tokens a model that thinks gets in every answer beyond the check's C(max_tokens),
        and no more than half of its context in all. What thinks longer has come to no answer,
        which is an error.
    type: int
    default: 4096
  thinking_seconds:
    description: How many seconds an answer of a model that thinks may take, with its thought.
    type: int
    default: 300
  reports_dir:
    description:
      - A folder on the controller for reports. What has passed is in C(<host>.json),
        C(<host>.junit.xml) and C(<host>.html); what has failed is in C(<host>.failed.json) and so
        on, beside those of the last that passed, until the next one passes. None are written when
        empty.
    type: str
  tools_path:
    description: The virtual environment whose Python has httpx and fastjsonschema.
    type: path
    default: /opt/vllm/tools
"""
