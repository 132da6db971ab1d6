# Every target sets itself up from nothing but Python 3.11+, make and PyPI. `make help` lists them.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
RUN_READY := $(VENV)/.run-$(shell cat requirements/run.txt pyproject.toml | cksum | cut -d' ' -f1)
DEV_READY := $(VENV)/.dev-$(shell cat requirements/dev.txt pyproject.toml | cksum | cut -d' ' -f1)
# Without looking at dependencies: the locked files name them all, and pip would look past a lock for those with extras.
PIP_INSTALL := $(BIN)/python -m pip install --quiet --disable-pip-version-check --no-deps

# A file's tests share servers and warehouses: each file stays with one worker, and the longest begin first.
PARALLEL := -n 6 --dist loadfile --no-loadscope-reorder

# Where it is set, each program that is started compiles this project anew, and each worker all tests.
unexport PYTHONDONTWRITEBYTECODE

.DEFAULT_GOAL := help
.PHONY: help reference docs setup run test test-quick lint etl-demo bench bench-large chaos screenshots images soak clean lock

help:  ## List the targets
	@awk -F ':.*## ' '/^##@ / {printf "\n%s\n", substr($$0, 5)} /^[a-z-]+:.*## / {printf "  make %-12s %s\n", $$1, $$2}' \
		$(MAKEFILE_LIST)

##@ Use it

setup: $(DEV_READY)  ## Create .venv with everything pinned, for running and for developing

run: $(RUN_READY)  ## Run everything on this machine, on sample data; ARGS="--port 8090" for another port than 8080
	@exec $(BIN)/usage-service up $(ARGS)

etl-demo: $(RUN_READY)  ## The nightly ETL on sample pings, of all probes and of the hot list: what is saved
	@$(BIN)/probe-builder etl-demo --data-dir data/warehouse $(ARGS)

##@ Work on it

test: $(DEV_READY)  ## Run all tests against an embedded PostgreSQL; ARGS="-k name" selects
	@$(BIN)/python -m pytest $(PARALLEL) --cov --cov-report=term:skip-covered --cov-fail-under=87 --durations=12 $(ARGS)

test-quick: $(DEV_READY)  ## Run what one runs while working, within a minute: no kills, no soaks, no browser
	@$(BIN)/python -m pytest $(PARALLEL) -m "not slow" $(ARGS)

lint: $(DEV_READY)  ## ruff, mypy --strict and the import contracts
	@$(BIN)/ruff check . && $(BIN)/ruff format --check . && $(BIN)/mypy && $(BIN)/lint-imports --no-cache --no-logo

reference: $(DEV_READY)  ## Renew the pages of docs/ that are made from the code; docs/metrics.md asks the server of `make run`
	@set -e; for page in events imports api scopes schema exit-codes; do $(BIN)/usage-service reference $$page > docs/$$page.md; done; \
	for page in commands settings; do \
		{ $(BIN)/usage-service reference $$page; $(BIN)/probe-builder reference $$page; } > docs/$$page.md; \
	done; \
	if metrics=$$(curl -sf -H "Authorization: Bearer $$(cat data/token 2>/dev/null)" http://127.0.0.1:8080/metrics); then \
		{ echo "$$metrics" | $(BIN)/usage-service reference metrics; $(BIN)/probe-builder reference metrics; } > docs/metrics.md; \
	else echo "docs/metrics.md is as it was: no server answers" >&2; fi

docs: $(DEV_READY)  ## Build the documents as a site in build/docs, warnings as errors; it fetches nothing from elsewhere
	@$(BIN)/sphinx-build -W --keep-going -q -b html docs build/docs
	@! grep -rlE '<(script|link|img)[^>]*(src|href)="(https?:)?//' build/docs --include='*.html' \
		|| { echo "these pages fetch from elsewhere" >&2; exit 1; }
	@echo "build/docs/index.html"

images:  ## Build the images with Docker or Podman; what cannot be pulled gets a stand-in from Debian's packages
	@ops/images/build

soak: $(DEV_READY)  ## Kill what runs 500 times (tells docs/reliability.md), try 500 examples of what is tried at random
	@SOAK_ROUNDS=500 SOAK_REPORT=1 $(BIN)/python -m pytest -n 0 -o timeout=0 \
		$$(grep -rl --include="test_*.py" "[ =(]rounds(\|^ *@given(" tests | grep -vE "test_build(s_equal_glams_rules|_equals_brute_force).py") $(ARGS)

screenshots: $(DEV_READY)  ## Take the pictures in docs/images, of everything on sample data (needs Chromium)
	@$(BIN)/python -m browser.screenshots

##@ Measure it

bench: $(DEV_READY)  ## Measure speed against peers and limits (writes bench/RESULTS.md)
	@$(BIN)/python -m bench $(ARGS)

bench-large: $(DEV_READY)  ## The same with 50 million events in the log
	@$(BIN)/python -m bench large $(ARGS)

chaos: $(DEV_READY)  ## Try every fault under half of the full load (writes docs/reliability.md); ARGS="disk-full failover" selects
	@$(BIN)/python -m chaos $(ARGS)

##@ Keep it in order

clean:  ## Remove .venv, caches and the local data directory
	rm -rf $(VENV) .mypy_cache .ruff_cache .hypothesis .coverage* .import_linter_cache data build dist
	find . -name __pycache__ -type d -prune -exec rm -rf {} +

COMPILE := uv pip compile -q --universal --python-version 3.11 --generate-hashes --no-emit-index-url --no-header pyproject.toml

lock:  ## Renew the hash-locked requirements (needs uv)
	$(COMPILE) --upgrade --extra build --extra all --extra dev -o requirements/dev.txt
	$(COMPILE) --extra build --extra all -c requirements/dev.txt -o requirements/run.txt
	$(COMPILE) --extra build --extra server --extra builder --extra telemetry -c requirements/dev.txt \
		-o requirements/production.txt

$(BIN)/python:
	@echo "Creating $(VENV) and installing pinned packages (once)..." >&2
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11) and "Python 3.11 or later is needed; set PYTHON=")'
	@$(PYTHON) -m venv $(VENV)

$(RUN_READY): requirements/run.txt pyproject.toml | $(BIN)/python
	@test -e $(DEV_READY) || $(PIP_INSTALL) --require-hashes -r requirements/run.txt
	@$(PIP_INSTALL) --no-build-isolation -e . && touch $@

$(DEV_READY): requirements/dev.txt pyproject.toml | $(BIN)/python
	@$(PIP_INSTALL) --require-hashes -r requirements/dev.txt
	@$(PIP_INSTALL) --no-build-isolation -e . && touch $@
