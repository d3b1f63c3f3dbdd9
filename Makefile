# muxjax: `make demo` and `make test` need nothing but a Python (3.11 or later): they set up everything else in $(VENV).
#   PYTHON=python3.12   the interpreter that makes a new $(VENV); one is looked for otherwise
#   VENV=.venv          the virtual environment
#   ARGS=...            passed on to `muxjax demo`, or to pytest
VENV ?= .venv
BIN := $(VENV)/bin

.PHONY: help demo test lint clean clients
.DELETE_ON_ERROR:
.SECONDARY:

help:
	@echo "make demo    three small models answer at once, from one cache"
	@echo "make test    all tests"
	@echo "make lint    ruff and pyright"
	@echo "make clients clients of others, for the tests that drive them against our server"
	@echo "make clean   removes $(VENV) and caches"

demo: $(VENV)/.has-demo
	$(BIN)/muxjax demo $(ARGS)

# What fails is asked once more, alone: tests of processes and sockets have a machine to themselves then, and a fault fails again.
test: $(VENV)/.has-test
	@$(BIN)/python -m pytest --numprocesses=auto --maxprocesses=4 --dist=worksteal $(ARGS) || { \
		status=$$?; [ $$status = 1 ] || exit $$status; \
		echo "== once more, alone: what has failed beside others"; \
		$(BIN)/python -m pytest --last-failed --last-failed-no-failures=none $(ARGS) && \
		echo "== passed alone what failed beside others: too little time on a busy machine, or a race; see above"; }

lint: $(VENV)/.has-dev
	$(BIN)/ruff check
	$(BIN)/ruff format --check
	$(BIN)/pyright --pythonpath $(BIN)/python

# Pinned to the last package: an environment of its own, for they want other versions than we do.
clients: .venv-clients/.made
	@if command -v npm >/dev/null; then npm ci --silent --prefix tests/clients/npm; else echo "no npm: its client is skipped"; fi

.venv-clients/.made: tests/clients/requirements.txt
	@python=$$(scripts/find_python.sh $(PYTHON)) && "$$python" -m venv .venv-clients
	@echo "installing clients into .venv-clients"
	@.venv-clients/bin/python -m pip install --quiet --disable-pip-version-check --no-deps --requirement $<
	@touch $@

clean:
	rm -rf $(VENV) .venv-clients tests/clients/npm/node_modules .xla_cache .hypothesis .pytest_cache .ruff_cache
	find muxjax scripts tests -name __pycache__ -prune -exec rm -rf {} +

# An extra is installed again when what the project needs has changed.
$(VENV)/.has-%: pyproject.toml | $(VENV)/.made
	@echo "installing muxjax[$*] into $(VENV) (minutes, the first time)"
	@$(BIN)/python -m pip install --quiet --disable-pip-version-check --editable '.[$*]'
	@touch $@

$(VENV)/.made:
	@python=$$(scripts/find_python.sh $(PYTHON)) && echo "making $(VENV) with $$python" && "$$python" -m venv $(VENV)
	@touch $@
