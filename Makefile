# `make demo` is the place to start. Every target makes .venv first, once.
PYTHON ?= python3
BIN := .venv/bin
READY := .venv/.ready
PEERS := .venv/.peers
# What the compiled engine is made from; what did not change is not compiled again.
NATIVE := hatch_build.py src/cllm/native/build.py $(wildcard src/cllm/native/source/*.* src/cllm/native/source/*/*)
# One test process for each core; models in tests take one thread each.
PYTEST := $(BIN)/python -m pytest --numprocesses auto --dist loadscope

.PHONY: help setup demo test peers check-long lint docs bench lock map clean

help:  ## list the targets
	@grep -hE '^[a-z-]+:.*##' $(MAKEFILE_LIST) | sed -E 's/:[^#]*## */\t/' | expand -t 14

setup: $(READY)  ## make .venv with the locked versions and cllm itself

$(READY): requirements.lock pyproject.toml $(NATIVE)
	test -x $(BIN)/python || $(PYTHON) -m venv .venv
	$(BIN)/python -m pip install --quiet --no-deps -r requirements.lock
	$(BIN)/python -m pip install --quiet --no-deps -e .
	@$(BIN)/python -c "import torch" || { \
	  echo "This build of PyTorch needs libraries that are not here. Point pip at PyTorch's CPU build"; \
	  echo "(its installation page names the setting), remove .venv, and run make again."; exit 1; }
	@touch $@

demo: $(READY)  ## train on Python's own documentation for a minute, and see it write
	@CLLM_HOME=demo-home $(BIN)/cllm demo
	@echo; echo "  Here, begin those commands with:  CLLM_HOME=demo-home $(BIN)/"

# The tests of the pages open them in Debian's Chromium.
BROWSER := .venv/.browser
$(BROWSER): $(READY)
	@command -v chromium >/dev/null || { echo "Installing Chromium for the tests of the pages …"; \
	  apt-get update -qq && apt-get install -y -qq chromium >/dev/null; } || { \
	  echo "The tests of the pages need Chromium: install your system's package \"chromium\"."; exit 1; }
	@touch $@

test: $(BROWSER)  ## the everyday test suite
	$(PYTEST)

# llama.cpp is compiled from source: ten minutes, once.
$(PEERS): requirements-peers.lock $(READY)
	$(BIN)/python -m pip install --quiet --no-deps -r requirements-peers.lock
	@touch $@

peers: $(PEERS)  ## install the programs that long checks and benchmarks compare with

check-long: $(PEERS) $(BROWSER)  ## the tests that take minutes
	$(PYTEST) -m long --override-ini timeout=3600

lint: $(READY)  ## formatting, style and types
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/lint-imports

docs: $(READY)  ## build the documentation into docs/_build/html
	$(BIN)/sphinx-build -W --keep-going -q -b html docs docs/_build/html
	@echo "docs/_build/html/index.html"

bench: $(PEERS)  ## run every benchmark; each ends with one line of JSON
	@for file in $$(grep -l __main__ benchmarks/*.py); do echo "== $$file"; $(BIN)/python $$file || exit 1; done

lock: $(READY)  ## write requirements.lock from what .venv holds (see docs/contributing.md)
	$(BIN)/python tools/lock.py

map: $(READY)  ## write the maps of the code: rooms into README.md, files into docs/map.md
	$(BIN)/python tools/map.py

clean:  ## remove everything that can be made again
	rm -rf .venv build dist docs/_build docs/reference/generated demo-home src/cllm/native/built \
	  .mypy_cache .ruff_cache .pytest_cache .hypothesis .import_linter_cache
	find src tests benchmarks docs tools -name __pycache__ -type d -prune -exec rm -rf {} +
