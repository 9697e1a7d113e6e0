# `make demo` tunes two scales of the synthetic ladder in every way and ends with a table and a report; `make real` does
# so on real text; `make test` runs the tests. Each makes the environment itself, from Python 3.11 or newer with pip.

PYTHON ?= python3
BIN := .venv/bin
READY := .venv/ready
CODE := src tests benchmarks microworld $(wildcard examples)

.PHONY: env demo real test slow soak fuzz bench check dead-code clean

demo: env
	$(BIN)/apet study run quick --output runs/demo
	$(BIN)/apet report runs/demo

real: env
	$(BIN)/apet compare --backbone all-minilm-l6-v2 --task tweets --max-steps 90 \
		eval_steps=30 max_eval_samples=300 --output runs/real

env: $(READY)

$(READY): requirements.txt requirements-real.txt pyproject.toml microworld/pyproject.toml
	@echo "making .venv (a few minutes the first time)"
	@# Debian's python3 may lack ensurepip: then the pip outside makes the one inside.
	@test -x $(BIN)/pip || $(PYTHON) -m venv .venv >/dev/null 2>&1 \
		|| { $(PYTHON) -m venv --clear --without-pip .venv && $(PYTHON) -m pip --python $(BIN)/python install -q pip; }
	$(BIN)/pip install -q --disable-pip-version-check -r requirements.txt
	$(BIN)/pip install -q --disable-pip-version-check --no-deps -r requirements-real.txt
	$(BIN)/pip install -q --disable-pip-version-check --no-deps --no-build-isolation -e . -e microworld
	@touch $@

test: env
	$(BIN)/python -m pytest -m "not slow"

slow: env
	$(BIN)/python -m pytest -m slow --timeout=0

soak: env
	cd tests && ../$(BIN)/python crash_injection.py 200

fuzz: env
	PYTHONPATH=tests nice $(BIN)/python -m benchmarks.fuzz --page docs/results/reliability.md

bench: env
	$(BIN)/python benchmarks/speed.py --minutes 24
	$(BIN)/python benchmarks/speed.py --page

check: env
	$(BIN)/ruff format --check $(CODE)
	$(BIN)/ruff check $(CODE)
	$(BIN)/mypy
	$(BIN)/lint-imports --no-cache --no-logo
	$(MAKE) --no-print-directory dead-code
	$(BIN)/codespell src docs benchmarks $(wildcard microworld examples) README.md CHANGELOG.md CONTRIBUTING.md

dead-code: env
	$(BIN)/vulture --version
	! $(BIN)/vulture | grep -E "unused (function|method|property|import)|unused variable '[A-Z_0-9]+'|unreachable"

clean:
	rm -rf .venv build dist src/*.egg-info microworld/build microworld/src/*.egg-info
