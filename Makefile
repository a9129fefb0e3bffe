# Two commands on a bare machine: `make demo` and `make test`.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
STAMP := $(VENV)/.installed

# What computes; what waits for real processes, two files at a time; and what measures how long real processes take,
# with nothing beside it.
COMPUTING := tests/unit tests/prop tests/exhaust tests/sim
TIMED := $(addprefix tests/e2e/test_,$(addsuffix .py,completion datacenters dispatch quorum_loss starvation survival takeover)) \
  tests/agent/test_survival.py
REAL := tests/agent tests/api tests/cli tests/clients tests/contract tests/e2e tests/vault $(wildcard tests/ui)

# Real processes on a busy machine: a test of them that fails runs once more with nothing beside it, both runs are told,
# and what fails alone fails.
define real
$(BIN)/python -m pytest $(1) $(2) || { test $$? = 1 && echo 'once more, with nothing beside:' && \
  $(BIN)/python -m pytest $(1) --last-failed --last-failed-no-failures none; }
endef

# How long each target of the fuzzer runs, in seconds.
FUZZ_S ?= 600

.PHONY: demo test test-ansible lint unit fuzz wheel clean

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
	$(BIN)/python -m pytest $(COMPUTING) -n 2 --dist loadfile
	$(call real,$(REAL) $(addprefix --ignore=,$(TIMED)),-n 2 --dist loadfile --no-loadscope-reorder)
	$(call real,$(TIMED))

# The Ansible story on containers as hosts: about 25 minutes by itself, so it is no part of `test`.
test-ansible: $(STAMP)
	$(BIN)/python -m pytest -s tests/ansible

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
