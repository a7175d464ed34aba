# Two commands need nothing but Python 3.11, make and git: `make demo` and `make test`.

PYTHON ?= $(shell command -v python3.11 || command -v python3)
VENV := .venv
BIN := $(VENV)/bin
PIP := $(BIN)/python -m pip --disable-pip-version-check --quiet
TESTS ?= tests
ARGS ?=

.PHONY: demo test lint format docs image lock bench bench-full bench-guard clean

demo: $(VENV)/.demo
	@$(BIN)/python -m demo.tour $(ARGS)

test: $(VENV)/.dev $(VENV)/.kube
	$(BIN)/python -m pytest -n 2 --dist worksteal -q $(TESTS) $(ARGS)

lint: $(VENV)/.dev
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/lint-imports --no-cache

format: $(VENV)/.dev
	$(BIN)/ruff format .
	$(BIN)/ruff check --fix .

docs: $(VENV)/.dev
	$(BIN)/python -m sidecar.settings.export > docs/configuration.md

lock: $(VENV)/.dev
	tools/lock

# What it costs, beside its peers: docs/performance.md. Peers that can't be had are left out, and it is said why.
bench: $(VENV)/.dev
	$(BIN)/python -m benchmarks run $(ARGS)

# A million requests, 30 % of the streams broken off by their callers: an hour or so.
bench-full: bench
	$(BIN)/python -m benchmarks soak --requests 1000000

bench-guard: $(VENV)/.dev
	$(BIN)/python -m benchmarks guard $(ARGS)

# IMAGE, PLATFORMS, EXTRAS, PYTHON_IMAGE, ENGINE: docs/image.md
image:
	@tools/image

clean:
	rm -rf $(VENV) .mypy_cache .ruff_cache .pytest_cache .hypothesis

$(BIN)/python:
	@test -n "$(PYTHON)" || { echo "Python 3.11 or later is needed: set PYTHON=/path/to/python3.11"; exit 1; }
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || \
	  { echo "$(PYTHON) is older than Python 3.11: set PYTHON=/path/to/python3.11"; exit 1; }
	$(PYTHON) -m venv $(VENV)

# pip compiles what it installs to bytecode; -e puts the `sidecar` command into the environment.
$(VENV)/.demo: $(BIN)/python requirements/demo.lock pyproject.toml
	@echo "installing from requirements/demo.lock (hashes checked) ..."
	$(PIP) install --require-hashes --compile -r requirements/demo.lock
	$(PIP) install --no-deps --no-build-isolation -e .
	$(BIN)/python -m compileall -q sidecar demo
	@touch $@

# kubectl, promtool, schemas: what can't be had on this machine is said, and its tests are skipped.
$(VENV)/.kube: $(VENV)/.dev tools/kube-tools requirements/kube.lock
	tools/kube-tools
	@touch $@

$(VENV)/.dev: $(VENV)/.demo requirements/dev.lock
	@echo "installing from requirements/dev.lock (hashes checked) ..."
	$(PIP) install --require-hashes --compile -r requirements/dev.lock
	@touch $@
