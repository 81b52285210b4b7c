# Each target is a command a person could type. `make setup` needs Python 3.10 to 3.12 and no more.
PYTHON ?= $(shell for v in python3.12 python3.11 python3.10 python3 python; do \
	$$v -c 'import sys; sys.exit(not (3, 10) <= sys.version_info < (3, 13))' 2>/dev/null && \
	echo $$v && break; done)
VENV := .venv
PY := $(VENV)/bin/python
UV := $(VENV)/uv/bin/uv
READY := $(VENV)/ready

.PHONY: setup test lint format demo demo-full demo-smoke docs lock

setup: $(READY)

$(READY): requirements/lock.txt pyproject.toml
	@test -n "$(PYTHON)" || { echo "error: no Python 3.10 to 3.12 found; try make PYTHON=/path/to/python"; exit 2; }
	@test -x $(PY) || $(PYTHON) -m venv --without-pip $(VENV)
	@test -x $(UV) || { mkdir -p $(dir $(UV)) && ln -s "$$(command -v uv)" $(UV) 2>/dev/null && test -x $(UV); } || \
		{ $(PYTHON) -m venv --clear $(VENV)/uv && $(VENV)/uv/bin/python -m pip install -q uv; }
	$(UV) pip install -q --python $(PY) -r requirements/lock.txt
	$(UV) pip install -q --python $(PY) --no-deps -e .
	@touch $@

test: $(READY)
	$(PY) -m pytest -n 2 --dist loadfile

lint: $(READY)
	$(PY) -m ruff check .
	$(PY) -m ruff format --check mimseg tools tests

format: $(READY)
	$(PY) -m ruff check --fix .
	$(PY) -m ruff format mimseg tools tests

demo: $(READY)
	$(PY) -m mimseg.cli benchmark demo

demo-full: $(READY)
	$(PY) -m mimseg.cli benchmark demo-full

demo-smoke: $(READY)
	$(PY) -m mimseg.cli benchmark smoke

docs: $(READY)
	$(PY) -m sphinx -E -W --keep-going -q -b html docs docs/_build/html
	@echo docs/_build/html/index.html

lock:
	$(UV) pip compile -q --universal --python-version 3.10 --extra dev --no-annotate \
		--override requirements/overrides.txt -c requirements/constraints.txt \
		--custom-compile-command "make lock" pyproject.toml -o requirements/lock.txt
