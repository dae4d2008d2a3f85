# `make run` starts the service, `make test` tests it. Both create .venv first. README.md explains the other targets.

PYTHON ?= python3
BIN := .venv/bin
SOURCES := app clients tests bench tools conftest.py
QUIET := --quiet --disable-pip-version-check
INSTALL = $(BIN)/pip install $(QUIET) --no-deps

# The locks are for every platform and every Python from 3.11 on. They name no registry, so pip asks the one it is set to.
UV = UV_CUSTOM_COMPILE_COMMAND='make lock' .venv/lock/bin/uv pip compile --quiet --universal --python-version 3.11 \
  --generate-hashes --no-emit-index-url --no-emit-find-links --no-annotate $(UPGRADE)

# Python keeps what it compiles, even where it is told not to: tests start hundreds of processes, which would all compile it again.
unexport PYTHONDONTWRITEBYTECODE

# The tests run in several processes, each with an embedded server of its own. Three suit two processors, because many tests wait.
# Of the slow tests some measure how fast answers come, so there are two. On a server that is given they run in one, because roles
# belong to the whole server. The files keep their order: by their number of tests, the few long ones would come last.
parallel = $(if $(DATABASE_URL),,--numprocesses $(1) --dist loadfile --no-loadscope-reorder)

.DEFAULT_GOAL := help
.PHONY: help run cluster test test-slow test-cluster bench screenshots swagger-ui lint format migrate rollback schema seed seed-reset psql reference lock wheel clean

help: ## List the targets
	@sed -nE 's/^([a-z-]+):.*## (.*)/  make \1\t\2/p' $(MAKEFILE_LIST) | expand -t 20

run: .venv/run ## Serve the API on http://localhost:4000 (Ctrl-C stops it)
	@exec $(BIN)/lastpair run

cluster: .venv/dev ## Serve on two nodes and a router (needs Debian's postgresql-15-plproxy; Ctrl-C stops all)
	@exec $(BIN)/python -m tools.cluster

test: .venv/dev ## Run the tests, on PostgreSQL servers of their own
	@$(BIN)/python -m pytest $(call parallel,3) -m 'not slow'

test-slow: .venv/dev ## Run the slow tests
	@$(BIN)/python -m pytest $(call parallel,2) -m slow

test-cluster: .venv/dev ## Run the tests of the contract and of the streams on a router with two nodes (needs PL/Proxy)
	@$(BIN)/python -m pytest --cluster --numprocesses 2 --dist loadfile --no-loadscope-reorder -m 'not slow'

bench: .venv/dev ## Measure how fast a drop sells and write bench/results.md (needs wrk; peers need npm, redis-server)
	@$(BIN)/python -m bench

screenshots: .venv/dev ## Take pictures of every page into .data/screenshots, those of README.md into docs/images
	@$(BIN)/python -m tools.screenshots

swagger-ui: .venv/dev ## Replace the copy of Swagger UI with the newest release (needs npm)
	@$(BIN)/python -m tools.swagger_ui

lint: .venv/dev ## Check style, types, imports and migrations
	@$(BIN)/ruff check $(SOURCES)
	@$(BIN)/ruff format --check $(SOURCES)
	@$(BIN)/mypy
	@$(BIN)/lint-imports --no-cache > .venv/imports || { cat .venv/imports; exit 1; }
	@$(BIN)/squawk db/migrations/*.sql

format: .venv/dev ## Format the Python code
	@$(BIN)/ruff check --fix $(SOURCES)
	@$(BIN)/ruff format $(SOURCES)

migrate: .venv/run ## Run the pending migrations and apply the changed function files
	@$(BIN)/lastpair migrate

rollback: .venv/run ## Roll back the last migration
	@$(BIN)/lastpair rollback

schema: .venv/run ## Regenerate db/schema/schema.sql from the migrations
	@$(BIN)/lastpair schema

seed: .venv/run ## Fill the tables with sample data (development)
	@$(BIN)/lastpair seed

seed-reset: .venv/run ## Empty the tables, then fill them with sample data (development)
	@$(BIN)/lastpair seed --reset

psql: .venv/run ## Open psql on the functions; ARGS=--as-owner on the tables, too
	@$(BIN)/lastpair psql $(ARGS)

reference: .venv/dev ## Write docs/reference.md and .env.example anew from the code
	@$(BIN)/python -m tools.reference

lock: .venv/lock/bin/uv ## Write the locks in requirements/ anew; UPGRADE=--upgrade takes new releases
	@$(UV) pyproject.toml --all-extras --output-file requirements/dev.txt
	@$(UV) pyproject.toml --extra otel --extra socketio --extra stripe --constraint requirements/dev.txt --output-file requirements/production.txt
	@$(UV) pyproject.toml --extra embedded --constraint requirements/dev.txt --output-file requirements/run.txt
	@$(PYTHON) -c 'import tomllib; print(*tomllib.load(open("pyproject.toml", "rb"))["build-system"]["requires"], sep="\n")' | \
	  $(UV) - --output-file requirements/build.txt

wheel: .venv/run ## Build dist/lastpair-….whl
	@rm -rf build dist
	@$(BIN)/pip wheel $(QUIET) --no-deps --no-build-isolation --wheel-dir dist .
	@rm -rf build
	@ls dist/*.whl

clean: ## Delete everything that the other targets created, including the embedded database
	rm -rf .venv .data .mypy_cache .pytest_cache .ruff_cache .hypothesis build dist app/*.egg-info

# These two files mark what is installed in .venv: the service (run), and also the tools of the tests and checks (dev). Every
# package is one that the locks name, with its hash; the packages are complete there, so pip need not look for what they need.
.venv/run: pyproject.toml requirements/build.txt requirements/run.txt | .venv/bin/python
	@echo 'Installing the service into .venv; this happens once.'
	@$(INSTALL) --require-hashes --requirement requirements/build.txt --requirement requirements/run.txt
	@$(INSTALL) --no-build-isolation --editable .
	@touch $@

.venv/dev: pyproject.toml requirements/build.txt requirements/dev.txt | .venv/bin/python
	@echo 'Installing the service, tests and checks into .venv; this happens once.'
	@$(INSTALL) --require-hashes --requirement requirements/build.txt --requirement requirements/dev.txt
	@$(INSTALL) --no-build-isolation --editable .
	@touch .venv/run $@

.venv/bin/python:
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11) and "Lastpair needs Python 3.11 or later; set PYTHON to one")'
	@$(PYTHON) -m venv .venv || { rm -rf .venv; echo 'Python has no working venv; on Debian and Ubuntu: apt install python3-venv'; exit 1; }

.venv/lock/bin/uv: | .venv/bin/python
	@$(PYTHON) -m venv .venv/lock
	@.venv/lock/bin/pip install $(QUIET) uv
