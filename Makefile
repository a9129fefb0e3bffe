# Two commands on a bare machine: `make demo` and `make test`.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
STAMP := $(VENV)/.installed

# Suites that may run beside one another, and those that time real processes and so run alone.
BESIDE := $(wildcard tests/unit tests/prop tests/exhaust tests/contract tests/agent tests/sim tests/clients tests/vault)
ALONE := tests/cli tests/api tests/e2e

# How long each target of the fuzzer runs, in seconds.
FUZZ_S ?= 600

.PHONY: demo test lint unit fuzz wheel clean

$(STAMP): pyproject.toml constraints.txt
	@$(PYTHON) -c 'import sys; sys.exit("drover needs Python 3.11 or later, this is " + sys.version.split()[0]) if sys.version_info < (3, 11) else None'
	@$(PYTHON) -c 'import ensurepip' 2>/dev/null || { \
	  echo "python's venv module is missing: installing python3-venv"; apt-get install -y -qq python3-venv >/dev/null || \
	  { apt-get update -qq && apt-get install -y -qq python3-venv >/dev/null; }; }
	$(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --disable-pip-version-check -c constraints.txt -e '.[dev]'
	touch $@

demo: $(STAMP)
	$(BIN)/python -m cli.demo

test: $(STAMP) lint
	$(BIN)/python -m tests.components
	$(BIN)/python -m pytest $(BESIDE) -n 2 --dist loadfile
	$(BIN)/python -m pytest $(ALONE)

lint: $(STAMP)
	$(BIN)/ruff check .
	$(BIN)/mypy
	$(BIN)/lint-imports

unit: $(STAMP)
	$(BIN)/python -m pytest tests/unit tests/prop -x

fuzz: $(STAMP)
	$(BIN)/python -m pip install --quiet --disable-pip-version-check -c constraints.txt -e '.[fuzz]'
	mkdir -p .fuzz/hcl .fuzz/function .fuzz/json .fuzz/document
	for kind in hcl function json document; do \
	  $(BIN)/python -m tests.fuzz.jobspec_atheris $$kind .fuzz/$$kind -max_total_time=$(FUZZ_S) -artifact_prefix=.fuzz/$$kind- || exit 1; \
	done

wheel: $(STAMP)
	$(BIN)/python -m pip wheel --quiet --no-deps -w dist .

clean:
	rm -rf $(VENV) .fuzz dist .mypy_cache .ruff_cache
