# The targets of this project; `make help` lists them.
SHELL := /bin/bash
.SHELLFLAGS := -euo pipefail -c
.DEFAULT_GOAL := help
MAKEFLAGS += --no-print-directory

.PHONY: help
help: ## Show this list
	@awk 'BEGIN {FS = ":.*## "} \
	    /^## / {printf "\n%s\n", substr($$0, 4)} \
	    /^[a-z][a-z-]*:.*## / {printf "  make %-18s %s\n", $$1, $$2}' $(MAKEFILE_LIST)

## The controller
.PHONY: env
env: ## Make .venv from the locks in requirements/ (instant when up to date)
	@scripts/env
