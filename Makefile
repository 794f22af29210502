# Two commands do everything from a bare clone: `make reproduce` and `make test`.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
OUT ?= out
ARGS ?=

.PHONY: install browser reproduce docs test lint mutants soak clean

install: $(VENV)/.installed

$(VENV)/.installed: pyproject.toml constraints.txt
	@$(PYTHON) -c 'import sys; sys.version_info >= (3, 11) or sys.exit("sharpmin needs Python >= 3.11; try: make PYTHON=python3.11")'
	@test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --constraint constraints.txt torch
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --constraint constraints.txt --editable '.[test]'
	@touch $@

# A browser for the tests of the report: one on the PATH, else Debian's, else Playwright's own; the tests skip without one.
browser: install
	@command -v chromium chromium-browser google-chrome chrome >/dev/null 2>&1 \
	  || { [ "$$(id -u)" = 0 ] && command -v apt-get >/dev/null && apt-get update -qq && apt-get install -y -qq chromium; } >/dev/null 2>&1 \
	  || $(BIN)/playwright install chromium >/dev/null 2>&1 \
	  || echo "no browser could be had: the tests that open the report in one will be skipped"

reproduce: install
	$(BIN)/sharpmin reproduce --out $(OUT) $(ARGS)

# The documentation site, in site/: a warning of the renderer, a link that leads nowhere or a file from elsewhere is an error.
docs: install
	$(BIN)/python -m tools.docs

lint: install
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/lint-imports

test: lint browser
	$(BIN)/python -m pytest -n 2

# Changes the source in one place at a time and tells which changes no test notices; ARGS="--sample 100" takes some.
mutants: install
	$(BIN)/python -m tools.mutants $(ARGS)

# Random configurations against a loop by hand, for an hour: make soak ARGS="--minutes 2 --seed 5", "--case 7", "--interrupts", "--points".
soak: install
	cd tests && ../$(BIN)/python -m soak $(ARGS)

clean:
	rm -rf $(VENV) $(OUT) site build/docs
