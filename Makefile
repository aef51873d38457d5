# Two commands for a newcomer: `make demo` and `make test`. Everything lives in .venv; nothing else is touched
# (`make deploy-kind` aside: it makes a kind cluster, which `make undeploy-kind` takes away).
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
PORT ?= 8080
DEMO ?=
PYTEST_ARGS ?=
OVERLAY ?= kind

.DEFAULT_GOAL := check
.PHONY: check demo test lint format bench clean install install-dev deploy-kind undeploy-kind

check: lint test

# The marker files make a second run quick, and a changed pyproject or constraints file installs again.
$(VENV)/bin/python:
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || { echo "ray-history needs Python 3.11 or newer: make PYTHON=python3.11 …"; exit 1; }
	@$(PYTHON) -m venv $(VENV) || { echo "no virtual environment could be made: on Debian, apt-get install python3-venv"; exit 1; }

$(VENV)/.runtime: $(VENV)/bin/python pyproject.toml constraints.txt
	@echo "installing ray-history into $(VENV)"
	@$(BIN)/python -m pip install --quiet --disable-pip-version-check -c constraints.txt -e .
	@touch $@

$(VENV)/.dev: $(VENV)/bin/python pyproject.toml constraints.txt
	@echo "installing ray-history and what its tests need into $(VENV): Ray is large, this takes a minute"
	@$(BIN)/python -m pip install --quiet --disable-pip-version-check -c constraints.txt -e '.[dev]'
	@touch $@ $(VENV)/.runtime

install: $(VENV)/.runtime

install-dev: $(VENV)/.dev

demo: $(VENV)/.runtime
	@$(BIN)/ray-history demo --port $(PORT) $(if $(filter once,$(DEMO)),--once,)

test: $(VENV)/.dev
	$(BIN)/python -m pytest $(PYTEST_ARGS)

lint: $(VENV)/.dev
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy

format: $(VENV)/.dev
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

bench: $(VENV)/.dev
	$(BIN)/python -m bench $(BENCH_ARGS)

deploy-kind:
	@k8s/deploy-kind.sh up $(OVERLAY)

undeploy-kind:
	@k8s/deploy-kind.sh down

clean:
	rm -rf $(VENV) build dist *.egg-info .pytest_cache .mypy_cache .ruff_cache .hypothesis demo-data
	find pipeline api tests bench -name __pycache__ -type d -prune -exec rm -rf {} +
