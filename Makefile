# Copyright: (c) 2026, compute_plane.vllm contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

# The targets of this project; `make help` lists them. What is more than a line or
# two is a program in scripts/, each of which says at its top what it does.
SHELL := /bin/bash
.SHELLFLAGS := -euo pipefail -c
.DEFAULT_GOAL := help
MAKEFLAGS += --no-print-directory
.NOTPARALLEL:

# Programs of the environment come first, for every recipe below.
export PATH := $(CURDIR)/.venv/bin:$(PATH)

.PHONY: help
help: ## Show this list
	@awk 'BEGIN {FS = ":[^#]*## "} \
	    /^## / {printf "\n%s\n", substr($$0, 4)} \
	    /^[a-z][a-z-]*:[^#]*## / {printf "  make %-16s %s\n", $$1, $$2}' $(MAKEFILE_LIST)

## See it work (root; throwaway hosts on this computer)
.PHONY: demo demo-down
demo: ## From a bare machine to a verified endpoint on a throwaway host
	@scripts/demo

demo-down: ## Remove the demo's host and all that belongs to it
	@scripts/demo down

## Test
.PHONY: test lint unit integration hosts molecule
test: env env-hosts model ## Everything that CI runs
	@scripts/test

lint: env ## ansible-lint, yamllint, ruff, mypy, argument specs, build, install, ansible-test
	@scripts/test lint

unit: env ## Unit tests
	@scripts/test unit

integration: env env-hosts ## Tests with real clients, servers and hosts (root)
	@scripts/test integration

hosts: env env-hosts ## Test the throwaway hosts themselves (root)
	@scripts/test hosts

molecule: env env-hosts model ## Molecule scenarios (root); SCENARIO=default for one of them
	@SCENARIO='$(SCENARIO)' scripts/test molecule

## Measure
.PHONY: coverage bench-noop bench-first-run test-gpu
test-gpu: env model ## The whole path on this machine's NVIDIA GPUs (root); STEPS=a,b for some
	@python tests/gpu/run $(if $(STEPS),--steps '$(STEPS)')

coverage: env ## Test what only decides and say which of its lines and branches no test reaches
	@scripts/coverage

bench-noop: env ## Time a run of site.yml that changes nothing beside ansible's setup and ping
	@benchmarks/noop

bench-first-run: env env-hosts model ## Time a first run phase by phase
	@benchmarks/first-run

## Parts of the above, made as needed
.PHONY: env env-hosts model
env: ## The controller's environment .venv from its locks; PYTHON=... to choose
	@scripts/env

env-hosts: ## The Debian packages that throwaway hosts and integration tests need (root installs them)
	@scripts/apt-packages tests/hosts/packages.txt
	@scripts/apt-packages tests/integration/packages.txt

model: env ## The small test model as a Hugging Face directory in the user's cache
	@python tests/models/smollm2.py

## Maintain
.PHONY: build site lock lock-controller hosts-clean clean
site: env ## The documentation as a site in build/site
	@scripts/site

build: env ## The collection as an artifact in build/
	@ansible-galaxy collection build --force --output-path build .

lock: env ## Resolve a release's locks: RELEASE=0.14.1 [ACCELERATOR=cpu] [PYTHON=3.11]
	@[[ -n '$(RELEASE)' ]] || { echo 'lock: which release? make lock RELEASE=0.14.1' >&2; exit 2; }
	@scripts/lock '$(RELEASE)' $(if $(ACCELERATOR),--accelerator '$(ACCELERATOR)') $(if $(PYTHON),--python '$(PYTHON)')

lock-controller: env ## Resolve the controller's own locks in requirements/ anew
	@scripts/lock-controller
	@scripts/env

hosts-clean: ## Remove every throwaway host and what a crash left (root)
	@tests/hosts/testhosts.py clean

clean: ## Remove what was built here, .venv too; the user's caches stay
	@rm -rf .venv .ansible .hypothesis .mypy_cache .pytest_cache .ruff_cache build
	@find . -path ./.git -prune -o -type d -name __pycache__ -prune -exec rm -rf {} +
