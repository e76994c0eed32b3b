## make demo         install, start everything, run a daily backup, print what it proved
## make demo ALL=1   the same, then every other DAG once
## make down         stop everything that demo or up started
## make up           start everything, run nothing
## make status       what runs, and where
## make test         lint, types and the tests (installs what it needs)
## make test-full    the same with the tests that take long: kills by the dozen, years of retention, big databases
##
## make unit         tests without Airflow and servers
## make dags         tests of the DAG files
## make integration  tests against real servers
## make lint         ruff, formatting, spelling
## make type         mypy --strict
## make bench        measure against pg_dump, gzip | psql and the strategy's script; PEERS=1: base
##                   backups against pgBackRest and Barman; FLEET=1: 1, 10 and 50 small sources through the scheduler
## make docs         write docs/DAGs.md anew from the DAG files
## make install      only make .venv
## make lock         resolve requirements*.txt into the lock files anew
## make clean        stop the stacks; remove them with their data, .venv and caches
##
## PORT_BASE=6500    a second stack beside the first (default 6400: five ports from there)
## SAMPLE_MB=100     size of the sample database
## PYTHON=python3    the Python (3.11 to 3.13) that .venv is made of

PYTHON ?= python3
PORT_BASE ?= 6400
SAMPLE_MB ?= 100
export PORT_BASE SAMPLE_MB

VENV_PYTHON := .venv/bin/python
LOCAL := $(VENV_PYTHON) -m include.local
PYTEST := $(VENV_PYTHON) -m pytest
# Every file stays on one worker; see pytest_xdist_make_scheduler in tests/conftest.py.
WORKERS ?= 3
PARALLEL := -n $(WORKERS) --dist loadscope --no-loadscope-reorder
ifdef CI
PYTEST += -p tests.plugins.no_skips
endif

.DEFAULT_GOAL := help
.PHONY: help install demo up down status test test-full unit dags integration lint type docs bench lock clean

help:
	@sed -n 's/^## \{0,1\}//p' Makefile

install:
	@$(PYTHON) scripts/bootstrap.py

demo: install
	@$(LOCAL) demo $(if $(ALL),--all)

up: install
	@$(LOCAL) up

down: install
	@$(LOCAL) down

status: install
	@$(LOCAL) status

test: lint type
	$(PYTEST) tests --ignore=tests/benchmarks -m "not long" $(PARALLEL)

test-full: lint type
	$(PYTEST) tests --ignore=tests/benchmarks $(PARALLEL)

unit dags integration: install
	$(PYTEST) tests/$@

lint: install
	$(VENV_PYTHON) -m ruff check .
	$(VENV_PYTHON) -m ruff format --check .
	$(VENV_PYTHON) -m codespell_lib

type: install
	$(VENV_PYTHON) -m mypy

docs: install
	$(VENV_PYTHON) scripts/dag_docs.py

bench: install
	$(VENV_PYTHON) -m tests.benchmarks$(if $(FLEET),.fleet)

lock: install
	$(VENV_PYTHON) scripts/lock.py

clean:
	@$(PYTHON) scripts/clean.py
