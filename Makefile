# `make demo` recommends how few parameters to train on the synthetic world; `make real` compares every way to tune on
# real text; `make test` runs the tests. Each makes what it needs of the environment itself, from Python 3.11 or
# newer with pip: `demo` what apet runs with, `real` also a small backbone and texts, the others the tools of development.

PYTHON ?= python3
BIN := .venv/bin
PIP := $(BIN)/pip --disable-pip-version-check
READY := .venv/ready
READY_RUN := .venv/ready-run
READY_REAL := .venv/ready-real
CODE := src tests benchmarks microworld $(wildcard examples)

.PHONY: env env-run env-real demo real test slow soak fuzz bench check docs packages dead-code clean

demo: env-run
	@echo "demo: how few parameters reach full fine-tuning in a made-up world; an answer in three minutes, again for a better one"
	$(BIN)/apet recommend --backbone microworld-t5-small-twice --task microworld-rotten-tomatoes --within 3m \
		--output runs/demo num_threads=1

real: env-real
	$(BIN)/apet compare --backbone all-minilm-l6-v2 --task tweets --max-steps 90 \
		eval_steps=30 max_eval_samples=300 --output runs/real

env: $(READY)

env-run: $(READY_RUN)

env-real: $(READY_REAL)

# Versions are those of requirements.txt, names those of pyproject.toml: what development needs beside them is not
# installed. Nothing is compiled ahead: Python does so for the few modules of each package that are imported.
$(READY_RUN): requirements.txt pyproject.toml microworld/pyproject.toml
	@echo "making .venv: what apet runs with, 1.5 GB, mostly PyTorch; minutes the first time"
	@# Debian's python3 may lack ensurepip: then the pip outside makes the one inside.
	@test -x $(BIN)/pip || $(PYTHON) -m venv .venv >/dev/null 2>&1 \
		|| { $(PYTHON) -m venv --clear --without-pip .venv && $(PYTHON) -m pip --python $(BIN)/python install -q pip; }
	$(PIP) install -q --no-compile -c requirements.txt setuptools wheel
	$(PIP) install --no-compile --no-build-isolation -c requirements.txt -e . -e microworld
	@touch $@

$(READY_REAL): $(READY_RUN) requirements-real.txt
	$(PIP) install -q --no-compile --no-deps -r requirements-real.txt
	@touch $@

$(READY): $(READY_REAL)
	@echo "adding the tools of development"
	$(PIP) install -q --no-compile -r requirements.txt
	@# Tests start a hundred processes: where Python may not keep what it compiles, each would compile PyTorch anew.
	@test -z "$$PYTHONDONTWRITEBYTECODE" || $(BIN)/python -m compileall -q -j 0 .venv/lib >/dev/null 2>&1 || true
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
	$(MAKE) --no-print-directory docs

docs: env
	NO_MKDOCS_2_WARNING=1 $(BIN)/mkdocs build --strict --quiet

packages: env
	$(BIN)/python benchmarks/packages.py

dead-code: env
	$(BIN)/vulture --version
	! $(BIN)/vulture | grep -E "unused (function|method|property|import)|unused variable '[A-Z_0-9]+'|unreachable"

clean:
	rm -rf .venv build dist site src/*.egg-info microworld/build microworld/src/*.egg-info
