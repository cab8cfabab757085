# `make run` starts everything on this machine, `make test` tests everything; the rest is below.

SHELL := /bin/bash
PYTHON := .venv/bin/python
CHEAP := not real and not broker and not browser and not e2e and not gpu and not compose
FRONT_END := $(shell find services/web/frontend -type f -not -path '*/node_modules/*' 2>/dev/null)
# Stamps of an environment that is gone mean nothing.
$(shell [ -x .venv/bin/python ] || rm -rf .make)
PACKAGE := pyproject.toml hatch_build.py scripts/setup.sh $(FRONT_END)

.PHONY: help run setup setup-test check test test-style test-pure test-devices test-system test-browser test-recorder test-compose docs test-gpu bench-reaction bench-node bench-passes bench-start bench-recorder bench-history bench-web bench-scheduler bench-deploy lock clean

help:  ## Show this list
	@sed -n 's/^\([a-z-]*\):.*  ## /\1\t/p' $(MAKEFILE_LIST) | expand -t 18

run: setup  ## Set up, then start everything on this machine; Ctrl-C stops it
	@exec .venv/bin/gleaner up $(ARGUMENTS)

setup: .make/run  ## Make .venv with the command .venv/bin/gleaner

setup-test: .make/test  ## Add what the tests need, from PyPI and from the distribution

check: .make/dev  ## Linters, types, import rules, pure and in-memory tests (a minute)
	@$(MAKE) --no-print-directory -j 2 -O test-pure test-style

test-style: .make/dev
	.venv/bin/ruff format --check .
	.venv/bin/ruff check .
	.venv/bin/mypy
	.venv/bin/lint-imports
	scripts/check-front-end.sh
test-pure: .make/dev
	$(PYTHON) -m pytest -q -n 3 -m "$(CHEAP)" $(addprefix --ignore tests/,browser e2e faults gpu)

test: setup-test  ## Everything: check, then brokers, processes, devices, browser, the whole system
	+$(MAKE) --no-print-directory -j 2 -O test-devices test-system test-style test-pure test-browser test-recorder

# Tests that hold devices open would see each other's processes, so these two stages follow each
# other; beside them goes what holds none.
test-devices:
	$(PYTHON) -m pytest -q -m "(real or broker) and not e2e and not gpu" --ignore tests/recorder --ignore tests/browser
test-system: test-devices
	$(PYTHON) -m pytest -q -m "e2e and not gpu" tests/e2e tests/faults
test-browser:
	$(PYTHON) -m pytest -q tests/browser
test-recorder:
	$(PYTHON) -m pytest -q -m "real or broker" tests/recorder

test-compose: .make/compose  ## The deployment by compose, in containers; starts an engine if none runs
	scripts/with-engine.sh $(PYTHON) -m pytest -q -m compose tests/compose

docs: .make/dev  ## Write anew what is generated from the contract and the settings
	$(PYTHON) -m gleaner.cli.documents

test-gpu: setup-test  ## The tests that need an NVIDIA GPU
	$(PYTHON) -m pytest -q -s -m gpu

bench-reaction: setup-test  ## From a stranger's open() to SIGTERM, hundreds of times
	$(PYTHON) -m benchmarks.reaction $(ARGUMENTS)

bench-node: setup-test  ## What an idle node costs
	$(PYTHON) -m benchmarks.node $(ARGUMENTS)

bench-passes: setup-test  ## What a look at 3,000 processes costs a node
	$(PYTHON) -m benchmarks.passes $(ARGUMENTS)

bench-start: setup-test  ## From `gleaner up` to a page with live GPUs
	$(PYTHON) -m benchmarks.start $(ARGUMENTS)

bench-recorder: setup-test  ## How fast events reach the disk; what 1,000 nodes cost and take there
	$(PYTHON) -m benchmarks.recorder $(ARGUMENTS)

bench-scheduler: .make/dev  ## How long the scheduler decides for a thousand nodes
	$(PYTHON) -m benchmarks.scheduler $(ARGUMENTS)

bench-deploy: .make/compose  ## Images, start and memory of the deployment by compose
	scripts/with-engine.sh $(PYTHON) -m benchmarks.deploy $(ARGUMENTS)

bench-web: setup-test  ## What the page of 1,000 nodes costs: paint, script, viewers
	$(PYTHON) -m benchmarks.web $(ARGUMENTS)

bench-history: setup-test  ## How long answers about a year of a hundred nodes take
	$(PYTHON) -m benchmarks.history $(ARGUMENTS)

# One file per purpose, for every Python and system alike; pip checks each hash. `uv` is not needed
# for anything else: `pipx run uv` or `python3 -m pip install uv` brings it.
LOCK := uv pip compile --quiet --universal --python-version 3.11 --generate-hashes --no-header \
	--no-annotate --no-emit-index-url --no-emit-find-links
# What each image of the Dockerfile carries besides the project: the same versions, but only its own.
EXTRAS_cli := --extra top --extra scheduler
EXTRAS_scheduler := --extra scheduler
EXTRAS_recorder := --extra recorder --extra postgres
EXTRAS_web := --extra web
EXTRAS_node := --extra node
lock:  ## Pin the newest versions that pyproject.toml allows (needs uv)
	$(LOCK) --upgrade --extra all --extra postgres --group build pyproject.toml -o requirements/run.txt
	$(LOCK) --constraint requirements/run.txt --extra all --extra postgres --group build --group dev \
		pyproject.toml -o requirements/dev.txt
	@$(foreach image,cli scheduler recorder web node,$(LOCK) --constraint requirements/run.txt \
		$(EXTRAS_$(image)) pyproject.toml -o requirements/$(image).txt &&) \
	$(LOCK) --constraint requirements/run.txt --group build -o requirements/build.txt

clean:  ## Remove the environment and everything that was built; never data
	rm -rf .venv .make services/web/static/dist services/web/frontend/node_modules
	rm -rf .pytest_cache .mypy_cache .ruff_cache .import_linter_cache .hypothesis
	find . -name __pycache__ -type d -prune -exec rm -rf {} +

.make/run: requirements/run.txt $(PACKAGE)
	scripts/setup.sh run
.make/dev: requirements/dev.txt requirements/run.txt $(PACKAGE)
	scripts/setup.sh dev
.make/test: .make/dev
	scripts/setup.sh test
.make/compose: .make/test
	scripts/setup.sh compose
