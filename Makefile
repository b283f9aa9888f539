# `make serve` starts Outrider on its demo model; `make test` runs every check. Both set up .venv first and are safe to repeat.

PYTHON ?= python3
HOST ?= 127.0.0.1
PORT ?= 8000
FOLDERS = cli demo engine gateway kernels loadtest speculative structured telemetry
BIN = .venv/bin
PIP = $(BIN)/python -m pip --disable-pip-version-check install -qq --progress-bar off

.PHONY: serve test check format equality fuzz schema-suite constrained phoenix soak demo-model clean

serve: .venv/serve.stamp
	@exec $(BIN)/outrider serve --host $(HOST) --port $(PORT) --trace-file traces.jsonl $(ARGS)

test: check
	$(BIN)/pytest -n 2 --dist loadfile $(ARGS)

check: .venv/test.stamp .typing
	$(BIN)/ruff check
	$(BIN)/ruff format --check
	$(BIN)/mypy

format: .venv/test.stamp
	$(BIN)/ruff check --fix
	$(BIN)/ruff format

# Thousands of answers of every kind, with every speculation, beside the plain ones: a minute or two.
equality: .venv/test.stamp
	OUTRIDER_EQUALITY_ROUNDS=4 $(BIN)/pytest tests/engine/test_lossless.py tests/engine/test_lossless_power.py tests/engine/test_guesses.py $(ARGS)

# Requests of every kind, read back from a real backend: Arize Phoenix in an environment of its own (850 MB, two minutes).
phoenix: .venv/test.stamp build/phoenix/stamp
	OUTRIDER_PHOENIX=$(CURDIR)/build/phoenix/bin/python $(BIN)/pytest tests/backends $(ARGS)

build/phoenix/stamp:
	@$(PYTHON) -m venv build/phoenix
	@build/phoenix/bin/python -m pip --disable-pip-version-check install -qq --progress-bar off arize-phoenix==20.26.1
	@touch $@

# The official JSON Schema test suite through audit, compile, grammar and validator. OUTRIDER_SCHEMA_SUITE says where it lies.
schema-suite: .venv/test.stamp
	$(BIN)/python -P tests/support/schema_suite.py $(ARGS)

# Two thousand requests that keep to the document of the API, or do not: no answer may be undocumented.
fuzz: .venv/test.stamp
	OUTRIDER_FUZZ_CASES=2000 $(BIN)/pytest tests/gateway/test_fuzz.py $(ARGS)

# A thousand constrained answers at temperature 1 with every speculation, judged by the jsonschema package: some minutes.
constrained: .venv/test.stamp
	$(BIN)/python -P tests/support/constrained.py $(ARGS)

# Half an hour of load with clients that leave: every block is free in the end, and no memory is lost.
soak: .venv/test.stamp
	$(BIN)/python -P tests/e2e/soak.py $(MINUTES)

# Trains a demo family from nothing into build/: ten hours for the target on two cores, two more for its speculators.
# Each part goes on where it was stopped.
demo-model: .venv/serve.stamp
	@mkdir -p build
	test -e build/target || $(BIN)/python -P -m outrider.demo.recipe.train --out build/target
	$(BIN)/python -P -m outrider.demo.recipe.mixture --count 60000 --seed 2 > build/demo.jsonl
	$(BIN)/outrider train draft --target build/target --data build/demo.jsonl --out build/draft --minutes 40
	$(BIN)/outrider train eagle3 --target build/target --data build/demo.jsonl --out build/eagle3 --minutes 36
	$(BIN)/outrider train medusa --target build/target --data build/demo.jsonl --out build/medusa --minutes 15
	$(BIN)/python -P -m outrider.demo.recipe.evaluation build/target
	$(BIN)/python -P -m outrider.demo.recipe.mixture --count 300 --held-out > build/held-out.jsonl
	$(BIN)/outrider train evaluate --target build/target --data build/held-out.jsonl --draft build/draft --eagle3 build/eagle3 --medusa build/medusa

clean:
	rm -rf .venv .typing build *.egg-info

# Without a GPU the CPU build of torch saves gigabytes; where pip offers none, the default build serves as well.
.venv/torch.stamp:
	@echo "Setting up .venv (once, a minute or two) ..."
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || { echo "Outrider needs Python 3.11 or newer: set PYTHON=/path/to/python3.11"; exit 1; }
	@test -x $(BIN)/python || $(PYTHON) -m venv .venv
	@command -v nvidia-smi >/dev/null 2>&1 || $(PIP) 'torch==2.13.0+cpu' 2>/dev/null || echo "pip offers no CPU build of torch: taking the default one"
	@touch $@

.venv/serve.stamp: .venv/torch.stamp pyproject.toml
	@echo "Installing Outrider into .venv ..."
	@$(PIP) -e .
	@touch $@

.venv/test.stamp: .venv/torch.stamp pyproject.toml
	@echo "Installing Outrider with its test tools into .venv ..."
	@$(PIP) -e '.[test]'
	@touch .venv/serve.stamp $@

# Type checkers do not run the import hook of an editable install: they follow these links.
.typing: Makefile
	@mkdir -p .typing/outrider
	@for folder in $(FOLDERS); do ln -sfn ../../$$folder .typing/outrider/$$folder; done
	@touch .typing
