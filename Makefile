# Two commands: `make run` and `make test`. Each sets up what it needs, once.
# Recipes are plain sh; every installed package is in a lock file with its hash.

PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
ARGS ?=

.DEFAULT_GOAL := help
.PHONY: help run test lint bench slurm-up slurm-down install install-core install-optuna install-dev lock clean broken
.DELETE_ON_ERROR:

# A stamp is named after the locks it stands for, so a checkout that touches their times changes nothing.
key = $(shell cat $(1:%=requirements/%.lock) | sha256sum | cut -c1-12)
BUILD := $(VENV)/build-$(call key,build).stamp
CORE := $(VENV)/core-$(call key,build core).stamp
LOCAL := $(VENV)/local-$(call key,build core local).stamp
OPTUNA := $(VENV)/optuna-$(call key,build core local optuna).stamp
DEV := $(VENV)/dev-$(call key,build core local optuna dev).stamp

# An interpreter that is gone or broken makes every stamp stale: `broken` is never up to date.
BROKEN := $(if $(filter ok,$(shell $(BIN)/python -c 'print("ok")' 2>/dev/null)),,broken)

broken:

help: ## list these commands
	@sed -n 's/^\([a-z-]*\):.*## /\1\t/p' $(MAKEFILE_LIST) | expand -t 16

run: $(LOCAL) ## run the command: make run ARGS="backend=sglang"
	@$(BIN)/python run.py $(ARGS)

test: $(DEV) ## run the tests: make test ARGS="-k lock"
	@$(BIN)/python -m pytest -n 3 --dist worksteal $(ARGS)

lint: $(DEV) ## ruff, and mypy on compiler and launchers
	@$(BIN)/ruff check .
	@$(BIN)/ruff format --check .
	@$(BIN)/mypy

bench: $(LOCAL) ## measure servix itself
	@$(BIN)/python benchmarks/run.py $(ARGS)

slurm-up: ## start a small real Slurm on this machine (root; installs Debian's packages)
	@tools/mini_slurm.sh start && tools/mini_slurm.sh env

slurm-down: ## stop it
	@tools/mini_slurm.sh stop

install: $(LOCAL) ## set up for runs on this machine (Dynamo mocker, AIPerf)
install-core: $(CORE) ## set up for cluster use only: no Dynamo, no AIPerf
install-optuna: $(OPTUNA) ## set up for runs on this machine, with Optuna's sweeper
install-dev: $(DEV) ## set up for tests as well

lock: ## resolve again; ARGS=--upgrade moves every pin
	@$(PYTHON) tools/lock.py $(ARGS)

clean: ## remove the environment and caches; outputs/ stays
	rm -rf $(VENV) .pytest_cache .mypy_cache .ruff_cache .hypothesis
	find . -name __pycache__ -type d -prune -exec rm -rf {} +

# A stamp is written last, so an interrupted installation is never taken for a finished one.
# Each set adds to the one before: build < core < local < optuna < dev.
$(BUILD): $(BROKEN)
	@command -v $(PYTHON) >/dev/null || { echo 'servix: $(PYTHON) is not installed; apt install python3-venv' >&2; exit 1; }
	@$(PYTHON) -c '$(check_version)'
	@$(PYTHON) -c 'import ensurepip, venv' 2>/dev/null || \
		{ echo 'servix: $(PYTHON) cannot make a virtual environment; apt install python3-venv' >&2; exit 1; }
	@echo 'setting up $(VENV): once, one to two minutes'
	@rm -rf $(VENV)
	@$(PYTHON) -m venv $(VENV)
	$(call install-lock,build)

$(CORE): $(BUILD)
	$(call install-lock,core)

$(LOCAL): $(CORE)
	$(call install-lock,local)

$(OPTUNA): $(LOCAL)
	$(call install-lock,optuna)

$(DEV): $(OPTUNA)
	$(call install-lock,dev)

define check_version
import sys; v = sys.version_info; sys.exit(None if v >= (3, 11) else \
"servix: $(PYTHON) is Python %d.%d, 3.11 or newer is needed; try make PYTHON=python3.12" % v[:2])
endef

# --no-deps: a lock is complete, and ai-dynamo's own list cannot be met from the public index.
# --no-build-isolation: the one source package builds with the setuptools of build.lock, not a newer one.
# -qq: errors only. --no-compile: Python compiles what is imported; most of what is installed never is.
# The old stamp goes first: after going to another lock and back it would be believed.
define install-lock
	@rm -f $(VENV)/$(1)-*.stamp
	@$(BIN)/python -m pip install -qq --disable-pip-version-check --no-input --no-deps --require-hashes \
		--only-binary=:all: --no-binary=antlr4-python3-runtime --no-build-isolation --use-pep517 --no-compile \
		-r requirements/$(1).lock
	@touch $@
endef
