# The work of the project, from a fresh clone: needs Python >= 3.11 and GNU make, nothing else.
# Each target creates the virtual environment it runs in, with the versions in deploy/constraints.txt.

PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
READY := $(VENV)/.ready
PIP := $(BIN)/python -m pip --disable-pip-version-check --quiet

MAKEFLAGS += --no-print-directory
.DEFAULT_GOAL := help

.PHONY: help
help: ## List the targets
	@awk -F ':.*## ' '/^[a-z0-9-]+:.*## / { printf "  make %-16s %s\n", $$1, $$2 }' $(MAKEFILE_LIST)

.PHONY: demo
demo: $(READY) ## Start a cluster and its balancer here, and say which page to open (NODES=5 for five nodes)
	@$(BIN)/python deploy/demo.py

.PHONY: test
test: $(READY) ## Run the tests: no root, no packages of the system, loopback only
	@$(BIN)/python -m pytest

.PHONY: check
check: $(READY) ## Check format, lint, types, and which module may import which
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/mypy
	$(BIN)/lint-imports

.PHONY: e2e-browser
e2e-browser: $(READY) ## Look at the pages with Debian's chromium, which must be installed
	@command -v chromium >/dev/null || { echo "chromium is not installed: on Debian it is the package chromium"; exit 1; }
	@$(PIP) install --constraint deploy/constraints.txt playwright
	@$(BIN)/python -m pytest tests/demo/test_browser.py

.PHONY: e2e-docker
e2e-docker: $(READY) ## Kill containers of the compose cluster on a real engine (starts one if it must: as root)
	@$(BIN)/python -m pytest -m docker -s tests/e2e_docker

.PHONY: bench
bench: $(READY) ## Measure sessiond and the balancer beside their peers (as root: installs them; BENCH=--quick)
	@$(BIN)/python -m tests.bench $(BENCH)

.PHONY: proof-membership
proof-membership: $(READY) ## Measure the failure detector at 10, 100, 1,000 simulated nodes: tables and plot in docs/
	@$(BIN)/python -m tests.bench.membership

.PHONY: constraints
constraints: ## Pin today's newest versions of everything in deploy/constraints.txt (PYTHON=python3.11)
	@sh deploy/refresh-constraints $(PYTHON)

.PHONY: clean
clean: ## Remove everything that the other targets made
	rm -rf $(VENV) .run build dist *.egg-info .*_cache .hypothesis
	find . -name __pycache__ -type d -prune -exec rm -rf {} +

# The stamp is written last, so an interrupted set-up is done again.
$(READY): pyproject.toml deploy/constraints.txt
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' 2>/dev/null \
	  || { echo "$(PYTHON) is missing or older than Python 3.11: say which to use, as in PYTHON=python3.12"; exit 1; }
	@$(PYTHON) -c 'import ensurepip, venv' 2>/dev/null \
	  || { echo "$(PYTHON) cannot make a virtual environment: on Debian and Ubuntu install python3-venv"; exit 1; }
	@echo "Setting up $(VENV) ..."
	@$(PYTHON) -m venv $(VENV)
	@$(PIP) install --constraint deploy/constraints.txt setuptools
	@$(PIP) install --constraint deploy/constraints.txt --no-build-isolation --editable '.[dev]'
	@touch $@
