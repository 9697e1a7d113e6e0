# `make test` runs the tests; it makes the environment itself, from Python 3.11 or newer with pip.

PYTHON ?= python3
BIN := .venv/bin
READY := .venv/ready

.PHONY: env test slow check clean

env: $(READY)

$(READY): requirements.txt requirements-real.txt pyproject.toml
	@echo "making .venv (a few minutes the first time)"
	@# Debian's python3 may lack ensurepip: then the pip outside makes the one inside.
	@test -x $(BIN)/pip || $(PYTHON) -m venv .venv >/dev/null 2>&1 \
		|| { $(PYTHON) -m venv --clear --without-pip .venv && $(PYTHON) -m pip --python $(BIN)/python install -q pip; }
	$(BIN)/pip install -q --disable-pip-version-check -r requirements.txt
	$(BIN)/pip install -q --disable-pip-version-check --no-deps -r requirements-real.txt
	$(BIN)/pip install -q --disable-pip-version-check --no-deps --no-build-isolation -e .
	@touch $@

test: env
	$(BIN)/python -m pytest -m "not slow"

slow: env
	$(BIN)/python -m pytest -m slow

check: env
	$(BIN)/ruff format --check src tests
	$(BIN)/ruff check src tests
	$(BIN)/mypy

clean:
	rm -rf .venv build dist src/*.egg-info
