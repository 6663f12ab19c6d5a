# The two commands: `make demo` and `make test`. Both set up all they need.
PYTHON ?= python3
VENV   := .venv
BIN    := $(VENV)/bin

.PHONY: demo test lint bench accuracy clean

demo: $(VENV)/.ready
	$(BIN)/pdm-edge demo

test: $(VENV)/.ready-dev
	$(PYTHON) tools/test_packages.py
	$(BIN)/pytest -n auto --maxprocesses 4
	$(PYTHON) tools/test_second_runtime.py

lint: $(VENV)/.ready-dev
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy

bench: $(VENV)/.ready-dev
	@set -e; for file in benchmarks/bench_*.py; do echo "== $$file"; $(BIN)/python $$file; done

accuracy: $(VENV)/.ready-dev
	$(BIN)/python benchmarks/accuracy.py

clean:
	rm -rf $(VENV) .venv-tflite .pytest_cache .mypy_cache .ruff_cache build dist

$(VENV)/.ready: pyproject.toml tools/make_venv.py
	$(PYTHON) tools/make_venv.py $(VENV) dashboard
	@touch $@

$(VENV)/.ready-dev: pyproject.toml tools/make_venv.py
	$(PYTHON) tools/make_venv.py $(VENV) dev
	@touch $(VENV)/.ready $@

# The sensor firmware on an emulated Cortex-M3, read by pdm-edge.
.PHONY: firmware-demo firmware-size
firmware-demo: $(VENV)/.ready
	$(BIN)/python tools/firmware_demo.py --for 20

# Code size, stack and instructions of the wire protocol in C.
firmware-size: $(VENV)/.ready
	$(BIN)/python tools/firmware_size.py
