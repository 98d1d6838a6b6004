# Two commands to know: `make demo` and `make test`. Both set up what they need in .venv.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
READY := $(VENV)/.ready
NAME ?= startup

.PHONY: help setup frameworks demo test test-slow lint lock openapi docs migration bench clean
.DEFAULT_GOAL := help

help:  ## list the commands
	@grep -E '^[a-z-]+:.*##' $(MAKEFILE_LIST) | sed -E 's/:.*## /\t/' | expand -t 14

$(READY): requirements/dev.txt pyproject.toml
	$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11) and "Python 3.11 or newer is needed")'
	test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --require-hashes -r requirements/dev.txt
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --no-deps --no-build-isolation --editable .
	touch $(READY)

setup: $(READY)  ## make .venv from the lock

frameworks: $(READY)  ## add PyTorch to .venv, for the tests of its flavours (2.6 GB where only builds for GPUs are offered)
	$(BIN)/python -m pip install --quiet --disable-pip-version-check -r requirements/frameworks.txt

demo: $(READY)  ## run the main job on real data, in a temporary home
	$(BIN)/mops demo

test: lint  ## all checks and tests
	$(BIN)/pytest -n 2 --dist worksteal -m "not slow"
	$(BIN)/pytest -n 2 --dist worksteal -m slow

lint: $(READY)  ## format, lint and types
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/mypy

openapi: $(READY)  ## write openapi.json from the routes
	$(BIN)/python -m modelops.server.openapi openapi.json

docs: $(READY)  ## write the generated pages of docs/
	$(BIN)/python -m modelops.server.reference docs

migration: $(READY)  ## write a migration for the rows as they are: make migration MESSAGE="add x"
	$(BIN)/python -c 'import sys; from modelops.server.migrate import revise; print(revise(sys.argv[1]))' "$(MESSAGE)"
	$(BIN)/ruff format --quiet src/modelops/server/migrations

bench: $(READY)  ## measure: make bench NAME=startup
	$(BIN)/python benchmarks/run.py $(NAME)

lock: $(READY)  ## lock the dependencies anew, with hashes and no hosts
	$(BIN)/uv pip compile --quiet --universal --generate-hashes --no-emit-index-url --no-emit-find-links --python-version 3.11 \
		--extra server --extra sklearn --extra dev --custom-compile-command "make lock" --upgrade \
		pyproject.toml requirements/build.in -o requirements/dev.txt
	$(BIN)/uv pip compile --quiet --universal --generate-hashes --no-emit-index-url --no-emit-find-links --python-version 3.11 \
		--extra server --extra sklearn --custom-compile-command "make lock" \
		pyproject.toml -c requirements/dev.txt -o requirements/platform.txt

clean:  ## remove what the commands made
	rm -rf $(VENV) .bench .mypy_cache .ruff_cache .pytest_cache .hypothesis .import_linter_cache
