# Lifeboat. `make demo` shows it at work, `make test` runs the whole suite; both set everything up first.

PYTHON ?= python3
POSTGRES_MAJORS ?= 15 16 17
BIN := .venv/bin
STAMP := .venv/.installed

.DEFAULT_GOAL := help
.PHONY: help install install-tests demo drill up down status test test-bare lint bench requirements clean

help: ## Show what can be made
	@awk -F ':.*## ' '/^[a-z-]+:.*## / { printf "  make %-15s %s\n", $$1, $$2 }' $(MAKEFILE_LIST)

install: $(STAMP) ## Install everything that is pinned into .venv; at once done when nothing changed

$(STAMP): requirements.txt requirements-dev.txt sandbox/uv.txt sandbox/set_up.py pyproject.toml
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || { echo "Lifeboat needs Python 3.11 or later, and $(PYTHON) is not. Install one, then: make PYTHON=/path/to/python3 $(MAKECMDGOALS)" >&2; exit 1; }
	@echo "Installing what is pinned into .venv: a minute or two, once"
	@$(PYTHON) sandbox/set_up.py
	@touch $@

install-tests: install ## Fetch the servers that tests need: PostgreSQL 15 to 17 besides 18, sshd, Redis
	@$(BIN)/python -m sandbox.postgres_builds $(POSTGRES_MAJORS)
	@$(BIN)/python -m sandbox.debian_packages openssh-server redis-server

demo: install ## Back a database up, lose it, bring it back, clean up two years: five minutes, nothing left running
	@$(BIN)/python -m sandbox demo

drill: install ## Practise the total loss of the demo system: back it up, bring all of it back, measure RTO and RPO
	@$(BIN)/python -m sandbox drill

up: install ## Start the sandbox with Airflow's page and leave it running
	@$(BIN)/python -m sandbox up

down: ## End what `make up` started, also after a crash
	@if [ -x $(BIN)/python ]; then $(BIN)/python -m sandbox down; fi

status: ## Show what of `make up` is running
	@$(BIN)/python -m sandbox status

lint: install ## Check style, types and the direction of imports
	$(BIN)/ruff check
	$(BIN)/ruff format --check
	$(BIN)/mypy -p lifeboat
	$(BIN)/lint-imports

test: lint install-tests test-bare ## Check everything and run the whole suite
	$(BIN)/python -m pytest -n 3 --dist loadscope --no-loadscope-reorder

test-bare: install ## Install the command line where there is no Airflow, and see that it works
	@$(PYTHON) sandbox/set_up.py --bare
	@.sandbox/bare/bin/python -c 'import importlib.util, sys; sys.exit(importlib.util.find_spec("airflow") is not None)'
	@.sandbox/bare/bin/lifeboat policy check
	@.sandbox/bare/bin/lifeboat restore --help >/dev/null

bench: install ## Measure against the shell pipeline, side by side
	$(BIN)/python -m benchmarks

requirements: install ## Compile requirements*.in into requirements*.txt, with hashes
	$(BIN)/python -m uv pip compile --quiet --universal --python-version 3.11 --generate-hashes requirements.in -o requirements.txt
	$(BIN)/python -m uv pip compile --quiet --universal --python-version 3.11 --generate-hashes requirements-dev.in -o requirements-dev.txt

clean: down ## End the sandbox and remove what was made, except .venv
	@if [ -x $(BIN)/python ]; then $(BIN)/python -m sandbox clean; fi
	rm -rf .sandbox .mypy_cache .ruff_cache .pytest_cache .hypothesis .import_linter_cache htmlcov .coverage .coverage.*
