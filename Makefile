# make run: set up and run the quickstart.  make run-llm: the same with a real language model.
# make test: set up and pass the tests.
VENV   ?= .venv
PYTHON ?= python3
BIN    := $(VENV)/bin

.PHONY: run run-llm local-model setup test test-learn test-all lint types hooks bench mutate docs setup-render

run: setup
	$(BIN)/llmrl run experiment=quickstart
	@echo "That was the scripted LLM. A real one, on this machine and without a key (1.1 GB, once): make run-llm"

# LESR's search on Hopper, much shortened, its programs written by a real language model on this machine.
run-llm: local-model
	$(BIN)/llmrl run experiment=lesr/hopper llm=local log.llm=true budget=smoke budget.scale=0.05 study=run-llm \
	  method.search.k=2 method.search.max_tries=6 method.search.tell_rejections=true

# The weights of Qwen2.5-Coder-1.5B into outputs/models/; interrupted, it goes on with what is missing.
local-model: setup $(VENV)/.installed-local
	$(BIN)/python scripts/local_model.py

$(VENV)/.installed-local: $(VENV)/.installed
	$(BIN)/python -m pip install --quiet --disable-pip-version-check -c constraints.txt -e ".[local]"
	@touch $@

setup: $(VENV)/.installed

$(VENV)/.installed: pyproject.toml constraints.txt
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || \
	  { echo "llmrl needs Python 3.11 or newer; say which with: make setup PYTHON=python3.12"; exit 1; }
	$(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --disable-pip-version-check -c constraints.txt -e ".[dev]"
	@touch $@

test: setup
	$(BIN)/python -m pytest -n 2 --dist worksteal

# Minutes, not in `make test`: does each agent learn?
test-learn: setup
	$(BIN)/python -m pytest -n 2 tests/learn

# All tests: those of `make test`, then the learning tests.
test-all: test test-learn

# Style and formatting, without changing a file (to mend: ruff check --fix . && ruff format .).
lint: setup
	$(BIN)/ruff check . && $(BIN)/ruff format --check .

# Type-check the package with mypy.
types: setup
	$(BIN)/mypy

# `make lint` and `make types` before every commit (.pre-commit-config.yaml).
hooks: setup
	$(BIN)/python -m pip install --quiet -c constraints.txt "pre-commit>=4"
	$(BIN)/pre-commit install

bench: setup
	$(BIN)/python -m pip install --quiet -c constraints.txt -e ".[dev,bench]"
	$(BIN)/python scripts/bench_training.py --quick

# Would the tests notice a mistake? make mutate FILES="llmrl/methods/lesr/method.py" TESTS="tests/methods/lesr/test_lesr_selection.py"
mutate: setup
	$(BIN)/python -m pip install --quiet -c constraints.txt -e ".[dev,mutate]"
	$(BIN)/python scripts/mutate.py --files $(FILES) --tests $(TESTS) $(if $(ONLY),--only $(ONLY))

# The documentation site, into build/site; a broken link or reference fails.
docs: setup
	$(BIN)/python -m pip install --quiet --disable-pip-version-check -c constraints.txt -e ".[docs]"
	$(BIN)/python scripts/docs_site.py

# Rendering without a display (videos): what Debian and Ubuntu call the libraries.
setup-render:
	apt-get update && apt-get install -y --no-install-recommends libegl1 libgl1-mesa-dri libosmesa6
