# Every target makes its own .venv first; it needs Python 3.11+, make and pip, and never compiles anything.
#   make demo                  a story of a minute on a real Kafka on this machine
#   make demo MEDIA=my.mp4     a file of yours instead            make demo CAMERA=1   your camera, after asking
#   make test                  the tests                          make lint            ruff and mypy
#   make quality DATA=DIR      every figure of every model card, found again from the data sets there
#   make venv                  only the environment               make clean           remove it, and caches
# PYTHON=python3.12 chooses another interpreter.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
RUNTIME := $(VENV)/.runtime
DEV := $(VENV)/.dev
INSTALL = install --disable-pip-version-check --only-binary :all: --constraint constraints.txt

DATA ?= ../shared/data

.PHONY: demo test lint quality venv clean

demo: $(RUNTIME)
	@$(BIN)/python -m demo $(if $(CAMERA),--camera) $(if $(MEDIA),--media "$(MEDIA)")

test: $(DEV)
	$(BIN)/python -m pytest

lint: $(DEV)
	$(BIN)/ruff check .
	$(BIN)/mypy

quality: $(RUNTIME)
	$(BIN)/python -m benchmarks.quality --data $(DATA) $(QUALITY)

venv: $(DEV)

clean:
	rm -rf $(VENV) build dist *.egg-info .mypy_cache .ruff_cache .pytest_cache .hypothesis

$(BIN)/python:
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || \
		{ echo "affectstream needs Python 3.11 or newer; choose one: make PYTHON=python3.12" >&2; exit 78; }
	@echo "making $(VENV) with $$($(PYTHON) --version)"
	@$(PYTHON) -m venv $(VENV) >/dev/null 2>&1 || $(PYTHON) -m venv --without-pip --clear $(VENV)

# Installed again only when what is wanted changes. Where this Python brings no pip into a venv, its own installs there.
$(RUNTIME): pyproject.toml constraints.txt | $(BIN)/python
	@echo "installing what affectstream needs into $(VENV) (once)"
	@if $(BIN)/python -m pip --version >/dev/null 2>&1; then $(BIN)/python -m pip $(INSTALL) --editable .; \
		else $(PYTHON) -m pip --python $(BIN)/python $(INSTALL) --editable .; fi
	@touch $@

$(DEV): pyproject.toml constraints.txt | $(BIN)/python
	@echo "installing what affectstream and its tests need into $(VENV) (once)"
	@if $(BIN)/python -m pip --version >/dev/null 2>&1; then $(BIN)/python -m pip $(INSTALL) --editable '.[dev]'; \
		else $(PYTHON) -m pip --python $(BIN)/python $(INSTALL) --editable '.[dev]'; fi
	@touch $@ $(RUNTIME)
