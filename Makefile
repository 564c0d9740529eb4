# rankloop. On a fresh machine `make demo` and `make test` each do all their own set-up.
PYTHON ?= $(shell command -v python3.11 || command -v python3)
PY := .venv/bin/python
LABEL_STUDIO_VERSION := 1.23.2
DEMO_ARGS ?=
BENCH_ARGS ?=
PIP_FLAGS := --quiet --disable-pip-version-check

.PHONY: help setup demo up check test faults load bench format browser postgresql clean

help: ## list these commands
	@grep -hE '^[a-z]+:.*## ' $(MAKEFILE_LIST) | sed -E 's/:.*## /\t/' | sort

setup: ## make both virtual environments (rankloop's, and Label Studio's own)
	@$(MAKE) --no-print-directory -j2 .venv/.ready .venv-label-studio/.ready

# torch goes in first and exactly so, which takes the CPU build where the index offers one; a looser
# requirement brings gigabytes of CUDA packages.
.venv/.ready: pyproject.toml constraints.txt
	@echo "Setting up rankloop in .venv (about two minutes) ..."
	@$(PYTHON) -c 'import sys; sys.exit(0 if sys.version_info >= (3, 11) else "rankloop needs Python 3.11 or newer; say which with: make PYTHON=/path/to/python3.11")'
	@$(PYTHON) -m venv .venv
	@$(PY) -m pip install $(PIP_FLAGS) "$$(grep '^torch==' constraints.txt)"
	@$(PY) -m pip install $(PIP_FLAGS) -c constraints.txt -e '.[test]'
	@touch $@

.venv-label-studio/.ready: constraints-label-studio.txt
	@echo "Setting up Label Studio $(LABEL_STUDIO_VERSION) in .venv-label-studio (about two minutes) ..."
	@$(PYTHON) -m venv .venv-label-studio
	@.venv-label-studio/bin/python -m pip install $(PIP_FLAGS) -c constraints-label-studio.txt label-studio==$(LABEL_STUDIO_VERSION)
	@touch $@

demo: setup ## the whole loop with a simulated annotator: Label Studio, rankings, reward model, PPO, and back
	@.venv/bin/rankloop demo $(DEMO_ARGS)

up: setup ## serve the ML backend and its worker on port 9090
	@.venv/bin/rankloop up

check: .venv/.ready ## lint, types, import rules and the fast tests
	@.venv/bin/ruff check .
	@.venv/bin/ruff format --check .
	@.venv/bin/mypy
	@$(PY) -m pytest -q -m "not e2e and not slow"

test: setup browser postgresql ## everything, against real servers
	@.venv/bin/ruff check .
	@.venv/bin/ruff format --check .
	@.venv/bin/mypy
	@$(PY) -m pytest

faults: setup postgresql ## kill, starve and damage a running loop, and count what was lost: faults.json (ten minutes)
	@PYTHONPATH=tests $(PY) -m faults --report faults.json

load: setup ## fifty annotators, 100 webhooks a second and a training cycle on one server: load.json (ten minutes)
	@PYTHONPATH=tests $(PY) -m load --report load.json

bench: .venv/.ready .venv-bench/.ready .venv-bench-trl/.ready ## our speed beside TRL's, transformers' and CTranslate2's
	@$(PY) -m benchmarks $(BENCH_ARGS)

# Two of them, since TRL 1.12 is the last release with PPO.
.venv-bench/.ready .venv-bench-trl/.ready: constraints.txt
	@echo "Setting up $(@D) with the peers to measure against ..."
	@$(PYTHON) -m venv $(@D)
	@$(@D)/bin/python -m pip install $(PIP_FLAGS) "$$(grep '^torch==' constraints.txt)"
	@$(@D)/bin/python -m pip install $(PIP_FLAGS) $$(grep -E '^(transformers|tokenizers|accelerate|datasets)==' constraints.txt) \
	  $(if $(findstring trl,$(@D)),trl==1.16.0,trl==1.12.0 $$(grep '^ctranslate2==' constraints.txt))
	@touch $@

format: .venv/.ready ## let ruff lay out and mend the code
	@.venv/bin/ruff check --fix .
	@.venv/bin/ruff format .

browser: # the browser tests drive Debian's chromium
	@command -v chromium chromium-browser google-chrome >/dev/null || { echo "Installing chromium ..."; \
	  $$(test "$$(id -u)" = 0 || echo sudo) sh -c 'apt-get update -qq && apt-get install -y -qq chromium' >/dev/null; }

postgresql: # one test, and some of the faults, need Debian's server
	@ls /usr/lib/postgresql/*/bin/postgres >/dev/null 2>&1 || command -v postgres >/dev/null || { echo "Installing PostgreSQL ..."; \
	  $$(test "$$(id -u)" = 0 || echo sudo) sh -c 'apt-get update -qq && apt-get install -y -qq postgresql' >/dev/null; }

clean: ## forget both virtual environments
	rm -rf .venv .venv-label-studio
