# Copyright: (c) 2026, compute_plane.vllm contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Throwaway hosts: real systemd machines for tests, without Docker, KVM or a daemon.

Modules, from the bottom up: `common` (errors, settings, running programs), `addresses` and
`network` (the bridge), `carryover` (the machine's package indexes and authorities, as the guest
needs them), `images` (root file systems), `cgroups` and `launcher` (how a host runs), `hosts`
(a host's life), `needs` (what is missing here), `cli`.
"""
