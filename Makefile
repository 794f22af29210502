# Two commands do everything from a bare clone: `make reproduce` and `make test`; `make quick` is a part of the tests.
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

# Three workers for two cores: some tests wait.
PYTEST := -m pytest -n 3 --dist worksteal

test: lint browser
	$(BIN)/python $(PYTEST)

.PHONY: quick coverage oldest newest dist
QUICK := $(PYTEST) -m "not dist and not browser and not integrations and not gpu and not slow"

# What two cores test in two minutes; tests/conftest.py says what it leaves out.
quick: install
	$(BIN)/python $(QUICK) $(ARGS)

# The lines that `make quick` runs; pyproject.toml has the floor.
coverage: install
	$(BIN)/python $(QUICK) --cov --cov-report=term:skip-covered $(ARGS)

BOUNDS := tests/core tests/runs tests/bridge tests/cli/test_commands.py tests/report/test_page.py
BOUNDS += tests/optim/test_oracle.py tests/theory/test_certify.py tests/theory/test_formulas.py
BOUNDED := '.[lab,cluster,export,pep]' pytest pytest-xdist hypothesis
OLDEST_TORCH ?= 2.6.0

# A part of the tests with the oldest packages that pyproject.toml allows, and with the newest there are: docs/dependencies.md.
oldest:
	$(PYTHON) -m venv --clear $(VENV)/oldest
	$(VENV)/oldest/bin/python -m pip install --quiet --constraint constraints-oldest.txt torch==$(OLDEST_TORCH)
	$(VENV)/oldest/bin/python -m pip install --quiet --constraint constraints-oldest.txt --editable $(BOUNDED)
	$(VENV)/oldest/bin/python $(PYTEST) $(BOUNDS) $(ARGS)

newest:
	$(PYTHON) -m venv --clear $(VENV)/newest
	$(VENV)/newest/bin/python -m pip install --quiet torch
	$(VENV)/newest/bin/python -m pip install --quiet --editable $(BOUNDED)
	$(VENV)/newest/bin/python $(PYTEST) $(BOUNDS) $(ARGS)

# The sdist and the wheel of a release in dist/, tested; TAG=v0.1.0 must be the version that the source has.
dist: install
	@version=v$$($(BIN)/hatchling version); test "$${TAG:-$$version}" = "$$version" \
	  || { echo "the tag is $$TAG, and src/sharpmin/_version.py says $$version"; exit 1; }
	$(BIN)/python -m pytest tests/test_package.py
	rm -rf dist
	$(BIN)/python -m hatchling build -d dist

# Changes the source in one place at a time and tells which changes no test notices; ARGS="--sample 100" takes some.
mutants: install
	$(BIN)/python -m tools.mutants $(ARGS)

# Random configurations against a loop by hand, for an hour: make soak ARGS="--minutes 2 --seed 5", "--case 7", "--interrupts", "--points".
soak: install
	cd tests && ../$(BIN)/python -m soak $(ARGS)

clean:
	rm -rf $(VENV) $(OUT) site build/docs
