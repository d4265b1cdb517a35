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
	@awk -F ':.*## ' '/^[a-z0-9-]+:.*## / { printf "  make %-22s %s\n", $$1, $$2 }' $(MAKEFILE_LIST)

.PHONY: demo
demo: $(READY) ## Start a cluster and its balancer here, and say which page to open (NODES=5 for five nodes)
	@$(BIN)/python deploy/demo.py

.PHONY: test
test: $(READY) ## Run the tests: no root, no packages of the system, loopback only
	@$(BIN)/python -m pytest

.PHONY: test-stores
test-stores: $(READY) ## Run the tests of stores that need PostgreSQL and Redis, which must be installed
	@$(BIN)/python -m tests.support.services
	@$(BIN)/python -m pytest -m servers tests/stores tests/e2e

.PHONY: check
check: $(READY) ## Check format, lint, types, and which module may import which
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/mypy
	$(BIN)/lint-imports

.PHONY: sim
sim: $(READY) ## Simulate clusters under faults: SEEDS=300 of them, or SEED=n again with its transcript (PLAN=any)
	@$(BIN)/python -m tests.sim $(if $(SEED),--seed $(SEED),--seeds $(or $(SEEDS),300)) $(if $(PLAN),--plan $(PLAN)) --processes 2

.PHONY: proof-sim
proof-sim: $(READY) ## 10,000 seeds with all faults: none may break a promise (two to three hours; COMPILED=1, with a C compiler: half of it)
	@$(BIN)/python -m tests.sim$(if $(COMPILED),.compiled) --first $(or $(FIRST),0) --seeds $(or $(SEEDS),10000) --processes 2

.PHONY: proof-races
proof-races: $(READY) ## 10,000 logouts and expiries against use and takeovers, simulated: no session comes back or ends early
	@$(BIN)/python -m tests.sim.races

.PHONY: proof-mutants
proof-mutants: $(READY) ## Plant each bug of the table, and search the seed that finds it
	@$(BIN)/python -m tests.sim.mutants

.PHONY: e2e-browser
e2e-browser: $(READY) ## Look at the pages with Debian's chromium, which must be installed
	@command -v chromium >/dev/null || { echo "chromium is not installed: on Debian it is the package chromium"; exit 1; }
	@$(PIP) install --constraint deploy/constraints.txt playwright
	@$(BIN)/python -m pytest tests/demo/test_browser.py tests/balancer/admin/test_browser.py

.PHONY: e2e-docker
e2e-docker: $(READY) ## Kill containers of the compose cluster on a real engine (starts one if it must: as root)
	@$(BIN)/python -m pytest -m docker -s tests/e2e_docker

.PHONY: proof-rolling-restart
proof-rolling-restart: $(READY) ## Restart 5 nodes in turn under 500 requests/s: no request fails (PROOF='--rounds 3')
	@$(BIN)/python -m tests.proof.rolling_restart $(PROOF)

.PHONY: conformance
conformance: $(READY) ## Judge the balancer by sources that are not ours (needs Debian's varnish, and the network)
	@$(BIN)/python -m pytest -m 'conformance or not conformance' tests/conformance

.PHONY: proof-tagged
proof-tagged: $(READY) ## A million tagged requests, clients and nodes that hang up: no answer reaches another (REQUESTS=n SEED=n)
	@$(BIN)/python -m tests.conformance.tagged --requests $(or $(REQUESTS),1000000) --seed $(or $(SEED),1)

.PHONY: torture
torture: $(READY) ## Hurt a real cluster at random (SECONDS=60 SEED=1 QUORUM=any; as root: drops packets too)
	@$(BIN)/python -m tests.torture --seconds $(or $(SECONDS),60) --seed $(or $(SEED),1) --quorum $(or $(QUORUM),any)

.PHONY: torture-short
torture-short: $(READY) ## The torture and the proofs by process, a few rounds of each: what CI runs
	@$(BIN)/python -m pytest -m torture tests/torture

.PHONY: proof-kill-loop
proof-kill-loop: $(READY) ## Kill one node after the other under load: nothing is lost (ROUNDS=100 SEED=1 QUORUM=any)
	@$(BIN)/python -m tests.torture.proof_kill_loop --rounds $(or $(ROUNDS),100) --seed $(or $(SEED),1) --quorum $(or $(QUORUM),any)

.PHONY: proof-pause
proof-pause: $(READY) ## Stop a primary under load and let it go on: it says nothing old (ROUNDS=3 SEED=1 QUORUM=any)
	@$(BIN)/python -m tests.torture.proof_pause --rounds $(or $(ROUNDS),3) --seed $(or $(SEED),1) --quorum $(or $(QUORUM),any)

.PHONY: proof-partition
proof-partition: $(READY) ## As root: cut five nodes into 3 and 2, under quorum any and majority (SECONDS=30)
	@$(BIN)/python -m tests.torture.proof_partition --quorum majority --seconds $(or $(SECONDS),30)
	@$(BIN)/python -m tests.torture.proof_partition --quorum any --seconds $(or $(SECONDS),30)

.PHONY: proof-detection
proof-detection: $(READY) ## As root: how soon deaths are known, and a starved node's neighbours (ROUNDS=30 MINUTES=10 BLOCK_MS=900 AWARENESS_MAX=8)
	@$(BIN)/python -m tests.torture.proof_detection --rounds $(or $(ROUNDS),30) \
	  --minutes $(or $(MINUTES),10) --block-ms $(or $(BLOCK_MS),900) --awareness-max $(or $(AWARENESS_MAX),8)

.PHONY: bench
bench: $(READY) ## Measure sessiond and the balancer beside their peers (as root: installs them; BENCH=--quick)
	@$(BIN)/python -m tests.bench $(BENCH)

.PHONY: bench-traffic
bench-traffic: $(READY) ## As root: bytes of a write on clusters of 2 to 16 nodes, and on Tomcat's: table and plots in docs/ (BENCH=--quick)
	@$(BIN)/python -m tests.bench.traffic $(BENCH)

.PHONY: bench-writes
bench-writes: $(READY) ## Session writes beside Tomcat's BackupManager and aiohttp-session on Redis (as root: installs them; BENCH=--quick)
	@$(PIP) install --constraint deploy/constraints.txt --no-build-isolation --editable '.[bench]'
	@$(BIN)/python -m tests.bench --only writes $(BENCH)

.PHONY: bench-memory
bench-memory: $(READY) ## Bytes of a session here, in Redis and in Tomcat (as root: installs them; SESSIONS=1000000)
	@$(BIN)/python -m tests.bench.memory --peers --sessions $(or $(SESSIONS),1000000)

.PHONY: bench-schemes
bench-schemes: $(READY) ## As root: what each scheme loses at kills, and what it costs: docs/schemes-table.md (BENCH=--quick)
	@$(BIN)/python -m tests.bench.scheme_table $(BENCH)

.PHONY: proof-reprotection
proof-reprotection: $(READY) ## Kill a node with 100,000 sessions on four, then join a fifth: times and users' latency
	@$(BIN)/python -m tests.proof.reprotection $(PROOF)

.PHONY: proof-million
proof-million: $(READY) ## A million sessions on one node: bytes each, and how late its loop ever is (half an hour; SESSIONS=100000)
	@$(BIN)/python -m tests.proof.million --sessions $(or $(SESSIONS),1000000) $(PROOF)

.PHONY: proof-expiry-races
proof-expiry-races: $(READY) ## Race log-outs and expiries with uses and takeovers on real nodes: nothing comes back
	@$(BIN)/python -m tests.proof.expiry_races $(PROOF)

.PHONY: proof-store
proof-store: $(READY) ## Kill a whole cluster under load with each store: every answered write is back (ROUNDS=10 STORE=file)
	@$(BIN)/python -m tests.proof.store --rounds $(or $(ROUNDS),10) $(if $(STORE),--store $(STORE))

.PHONY: proof-failover
proof-failover: $(READY) ## Kill a node under 2,000 GETs/s behind the balancer, nginx, HAProxy and Apache (as root: installs them; PROOF=--quick)
	@$(BIN)/python -m tests.proof.failover $(PROOF)

.PHONY: proof-slow-loris
proof-slow-loris: $(READY) ## 1,000 slow heads, then 500 slow bodies, beside honest users (as root: installs slowhttptest; PROOF=--quick)
	@$(BIN)/python -m tests.proof.slow_loris $(PROOF)

.PHONY: proof-loss
proof-loss: $(READY) ## Kill a node under each of flush, ack and granularity: how many acknowledged writes go with it (KILLS=10)
	@$(BIN)/python -m tests.proof.loss --kills $(or $(KILLS),10) $(PROOF)

.PHONY: proof-reload
proof-reload: $(READY) ## Change the balancer's configuration 20 times under 1,000 GETs/s: no request fails (PROOF='--workers 2')
	@$(BIN)/python -m tests.proof.reload $(PROOF)

.PHONY: proof-soak
proof-soak: $(READY) ## Everyday traffic for MINUTES=30: memory and descriptors of balancer and nodes stay flat
	@$(BIN)/python -m tests.proof.soak --minutes $(or $(MINUTES),30) $(PROOF)

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
