# muxjax: `make demo` and `make test` need nothing but a Python (3.11 or later): they set up everything else in $(VENV).
#   PYTHON=python3.12   the interpreter that makes a new $(VENV); one is looked for otherwise
#   VENV=.venv          the virtual environment
#   ARGS=...            passed on to `muxjax demo`, or to pytest
VENV ?= .venv
BIN := $(VENV)/bin

.PHONY: help demo test lint clean
.DELETE_ON_ERROR:
.SECONDARY:

help:
	@echo "make demo    three small models answer at once, from one cache"
	@echo "make test    all tests"
	@echo "make lint    ruff and pyright"
	@echo "make clean   removes $(VENV) and caches"

demo: $(VENV)/.has-demo
	$(BIN)/muxjax demo $(ARGS)

test: $(VENV)/.has-test
	$(BIN)/python -m pytest --numprocesses=auto --maxprocesses=4 --dist=worksteal $(ARGS)

lint: $(VENV)/.has-dev
	$(BIN)/ruff check
	$(BIN)/ruff format --check
	$(BIN)/pyright --pythonpath $(BIN)/python

clean:
	rm -rf $(VENV) .xla_cache .hypothesis .pytest_cache .ruff_cache
	find muxjax scripts tests -name __pycache__ -prune -exec rm -rf {} +

# An extra is installed again when what the project needs has changed.
$(VENV)/.has-%: pyproject.toml | $(VENV)/.made
	@echo "installing muxjax[$*] into $(VENV) (minutes, the first time)"
	@$(BIN)/python -m pip install --quiet --disable-pip-version-check --editable '.[$*]'
	@touch $@

$(VENV)/.made:
	@python=$$(scripts/find_python.sh $(PYTHON)) && echo "making $(VENV) with $$python" && "$$python" -m venv $(VENV)
	@touch $@
