# rankloop. On a fresh machine, `make demo` and `make test` each do all of their own setup.
PYTHON ?= $(shell command -v python3.11 || command -v python3)
PY := .venv/bin/python
LABEL_STUDIO_VERSION := 1.23.2
AXE_VERSION := 4.14.1
DEMO_ARGS ?=
BENCH_ARGS ?=
PIP_FLAGS := --quiet --disable-pip-version-check

.PHONY: help setup demo demo-real up check test faults load bench format browser axe postgresql clean

help: ## list these commands
	@awk -F ':.*## ' '/^[a-zA-Z0-9_.-]+:.*## / { printf "%-12s%s\n", $$1, $$2 }' $(MAKEFILE_LIST) | sort

setup: ## create both virtual environments: .venv (rankloop) and .venv-label-studio
	@$(MAKE) --no-print-directory -j2 .venv/.ready .venv-label-studio/.ready

# torch is installed first and pinned exactly, which picks the CPU build where the index offers one; a looser
# requirement would pull in gigabytes of CUDA packages.
.venv/.ready: pyproject.toml constraints.txt
	@echo "Setting up rankloop in .venv (about two minutes) ..."
	@$(PYTHON) -c 'import sys; sys.exit(0 if sys.version_info >= (3, 11) else "rankloop needs Python 3.11 or newer; choose one with: make PYTHON=/path/to/python3.11")'
	@$(PYTHON) -m venv .venv
	@$(PY) -m pip install $(PIP_FLAGS) "$$(grep '^torch==' constraints.txt)"
	@$(PY) -m pip install $(PIP_FLAGS) -c constraints.txt -e '.[test,real]'
	@touch $@

.venv-label-studio/.ready: constraints-label-studio.txt
	@echo "Setting up Label Studio $(LABEL_STUDIO_VERSION) in .venv-label-studio (about two minutes) ..."
	@$(PYTHON) -m venv .venv-label-studio
	@.venv-label-studio/bin/python -m pip install $(PIP_FLAGS) -c constraints-label-studio.txt label-studio==$(LABEL_STUDIO_VERSION)
	@touch $@

demo: setup ## run the whole loop with a simulated annotator (DEMO_ARGS="--rounds 3 ...")
	@.venv/bin/rankloop demo $(DEMO_ARGS)

demo-real: setup ## the same with a real chat model, SmolLM2-135M, and a taste for positive answers (half an hour)
	@.venv/bin/rankloop demo --model smollm2 $(DEMO_ARGS)

up: setup ## run the ML backend and its worker, on port 9090
	@.venv/bin/rankloop up

check: .venv/.ready ## lint, type-check and run the fast, offline tests, architecture rules included
	@.venv/bin/ruff check .
	@.venv/bin/ruff format --check .
	@.venv/bin/mypy
	@$(PY) -m pytest -q -m "not e2e and not slow"

test: setup browser axe postgresql ## run all checks and tests, against a real Label Studio, PostgreSQL and browser
	@.venv/bin/ruff check .
	@.venv/bin/ruff format --check .
	@.venv/bin/mypy
	@$(PY) -m pytest

faults: setup postgresql ## kill, starve and damage a running loop, and count what is lost: faults.json (half an hour or more)
	@PYTHONPATH=tests $(PY) -m faults --report faults.json

load: setup ## put 50 annotators, 100 webhooks a second and a training cycle on one server: load.json (ten minutes)
	@PYTHONPATH=tests $(PY) -m load --report load.json

bench: .venv/.ready .venv-bench/.ready .venv-bench-trl/.ready .venv-bench-openvino/.ready ## compare speed with TRL, transformers, CTranslate2 and OpenVINO (BENCH_ARGS="--only ppo")
	@$(PY) -m benchmarks $(BENCH_ARGS)

# Two environments, because TRL 1.12 is the last release with PPO.
.venv-bench/.ready .venv-bench-trl/.ready: constraints.txt
	@echo "Setting up $(@D) with the libraries to compare against ..."
	@$(PYTHON) -m venv $(@D)
	@$(@D)/bin/python -m pip install $(PIP_FLAGS) "$$(grep '^torch==' constraints.txt)"
	@$(@D)/bin/python -m pip install $(PIP_FLAGS) $$(grep -E '^(transformers|tokenizers|accelerate|datasets)==' constraints.txt) \
	  $(if $(findstring trl,$(@D)),trl==1.16.0,trl==1.12.0 $$(grep '^ctranslate2==' constraints.txt))
	@touch $@

# OpenVINO's exporter takes an older transformers than ours.
.venv-bench-openvino/.ready: constraints.txt
	@echo "Setting up $(@D) with the libraries to compare against ..."
	@$(PYTHON) -m venv $(@D)
	@$(@D)/bin/python -m pip install $(PIP_FLAGS) "$$(grep '^torch==' constraints.txt)"
	@$(@D)/bin/python -m pip install $(PIP_FLAGS) "$$(grep '^torch==' constraints.txt)" "$$(grep '^openvino==' constraints.txt)" \
	  openvino-genai==2026.4.1.0 openvino-tokenizers==2026.4.1.0 optimum-intel==2.2.0 nncf==3.4.0 'transformers<5.6'
	@$(@D)/bin/python -m pip uninstall $(PIP_FLAGS) --yes torchvision  # comes built for CUDA, which this torch can't load
	@touch $@

format: .venv/.ready ## format the code and apply ruff's fixes
	@.venv/bin/ruff check --fix .
	@.venv/bin/ruff format .

browser: ## install Debian's chromium, which the browser tests drive, unless it is there
	@command -v chromium chromium-browser google-chrome >/dev/null || { echo "Installing chromium ..."; \
	  $$(test "$$(id -u)" = 0 || echo sudo) sh -c 'apt-get update -qq && apt-get install -y -qq chromium' >/dev/null; }

axe: .axe/axe-$(AXE_VERSION).js ## fetch axe-core from the npm registry, which checks in a test that everybody can use the pages

.axe/axe-%.js:
	@command -v npm >/dev/null || { echo "Installing npm ..."; \
	  $$(test "$$(id -u)" = 0 || echo sudo) sh -c 'apt-get update -qq && apt-get install -y -qq npm' >/dev/null; }
	@mkdir -p .axe && cd .axe && npm pack --silent axe-core@$* >/dev/null && tar -xzf axe-core-$*.tgz package/axe.min.js
	@mv .axe/package/axe.min.js $@ && rm -r .axe/package .axe/axe-core-$*.tgz

postgresql: ## install Debian's PostgreSQL server, which one test and some faults need, unless it is there
	@ls /usr/lib/postgresql/*/bin/postgres >/dev/null 2>&1 || command -v postgres >/dev/null || { echo "Installing PostgreSQL ..."; \
	  $$(test "$$(id -u)" = 0 || echo sudo) sh -c 'apt-get update -qq && apt-get install -y -qq postgresql' >/dev/null; }

clean: ## delete all virtual environments, those of make bench included
	rm -rf .venv .venv-label-studio .venv-bench .venv-bench-trl .venv-bench-openvino .axe
