# What a developer and CI run; `make` alone lists it.
#
#   PYTHON=python3.12 VENV=.venv-312   another interpreter, in an environment of its own
#   ARGS="-k frames -x"                more arguments for pytest, the benchmarks or the conformance run; -n0: one process
#   FUZZ_SECONDS=600                   for each fuzz target
#
# An environment is made in steps, each with a stamp in it: base (pip, Cython, setuptools), ext (the extension modules,
# in place), install (editable, with the run-time dependencies), test, lint. A step runs again when what it reads changed.

VENV ?= .venv
PYTHON ?=
FUZZ_SECONDS ?= 30
ARGS ?=
COVERAGE ?= coverage>=7.6

PY := $(VENV)/bin/python
PIP := $(PY) -m pip install -qq
STAMPS := $(VENV)/.stamps
# .venv builds in build/asan, .venv-312 in build/asan-312.
SUFFIX := $(patsubst .venv%,%,$(notdir $(VENV)))
ASAN := build/asan$(SUFFIX)
COV := build/cov$(SUFFIX)
JOBS := $(shell nproc 2>/dev/null || echo 2)
COMPILER = CC="$$(scripts/setup-env compiler $(PY))"
AFRESH := CYTHON_FORCE_REGEN=1
# pymalloc would hide an overflow from the sanitizers, and CPython itself leaks by their account.
SANITIZED = LD_PRELOAD="$$(gcc -print-file-name=libasan.so) $$(gcc -print-file-name=libubsan.so)" PYTHONMALLOC=malloc \
    ASAN_OPTIONS=detect_leaks=0 UBSAN_OPTIONS=print_stacktrace=1 TEST_LIMIT=120
# These limit the address space, of which the sanitizers need all, or ask the allocator that they replace.
UNSANITIZED = --deselect tests/io/test_resources.py::test_r31_no_memory_for_a_message_costs_its_connection_1011 \
    --deselect tests/io/test_compression_many.py::test_z15_no_memory_for_what_a_message_inflates_to_costs_its_connection_1011 \
    --deselect tests/io/test_compression_many.py::test_z15_no_memory_for_a_context_costs_its_connection_1011 \
    --deselect tests/io/test_compression_many.py::test_idle_contexts_give_their_memory_back \
    --deselect tests/io/test_uvicorn_servers.py::test_memory_does_not_grow_with_connections_that_have_ended

EXT := $(shell find ext -name '*.pyx' -o -name '*.pxd' -o -name '*.pxi' -o -name '*.[ch]')
SOURCES := setup.py fastws tests scripts $(wildcard benchmarks examples docs)
STUBS := $(patsubst fastws/%.pyi,fastws.%,$(wildcard fastws/*.pyi))
PYTHON_FILES := $(shell find fastws -name '*.py' -o -name '*.pyi')

# An environment keeps the Python it was made with; asking for another is a mistake that should not pass in silence.
ifneq ($(and $(PYTHON),$(wildcard $(PY)),$(filter-out help clean,$(MAKECMDGOALS))),)
version = $(shell $(1) -c 'import sys; print("%d.%d.%d" % sys.version_info[:3])')
ifneq ($(call version,$(PYTHON)),$(call version,$(PY)))
$(error $(VENV) holds Python $(call version,$(PY)), PYTHON is $(or $(call version,$(PYTHON)),none that runs): name another VENV, or make clean)
endif
endif
export PYTHON

.PHONY: help demo test lint style types cov asan fuzz conformance bench bench-full micro bench-compare bench-save \
    instructions clean
.DELETE_ON_ERROR:

help: ## list the targets
	@sed -n 's/^\([a-z-]*\):.*## \(.*\)/\1	\2/p' Makefile | while IFS='	' read -r name text; do printf '%-14s %s\n' "$$name" "$$text"; done

demo: $(STAMPS)/install ## build, then run the ticker example
	$(PY) examples/ticker/server.py $(ARGS)

test: $(STAMPS)/test ## build, then run the tests, a process for each core
	$(PY) -m pytest -n $(JOBS) --dist worksteal $(ARGS)

lint: style types ## check format, style and types

style: $(STAMPS)/lint
	$(PY) -m ruff format --check $(SOURCES)
	$(PY) -m ruff check $(SOURCES)
	PATH="$(abspath $(VENV))/bin:$$PATH" cython-lint ext

types: $(STAMPS)/lint $(STAMPS)/test ## check the types of the package, and its stubs against the extension modules
	$(PY) -m mypy --strict fastws
	$(PY) -m mypy.stubtest --allowlist scripts/stubtest-allowlist.txt --ignore-unused-allowlist $(STUBS)

cov: $(STAMPS)/cov $(COV)/.built ## measure branch coverage of the Python modules and of the C kernels
	find $(COV) -name '*.gcda' -delete
	$(PY) -m coverage run --branch --source=$(COV)/lib/fastws --data-file=$(COV)/coverage scripts/test_build.py $(COV)/lib $(ARGS)
	$(PY) -m coverage report --data-file=$(COV)/coverage --show-missing
	@find $(COV)/tmp/ext/kernels -name '*.gcda' -exec gcov --branch-probabilities --no-output {} + | \
	    awk -F"'" '/^File/ { file = $$2 } file ~ /ext\/kernels/ && /^(Lines|Branches) / { print file ": " $$0 } /^(Br|No br)/ { file = "" }'

asan: $(STAMPS)/test $(ASAN)/.built ## run the tests under AddressSanitizer and UndefinedBehaviorSanitizer
	@# Their reports go to file descriptor 2, which pytest would otherwise capture and lose.
	$(SANITIZED) $(PY) scripts/test_build.py $(ASAN)/lib --capture=sys $(UNSANITIZED) $(ARGS)

fuzz: $(STAMPS)/test $(ASAN)/.built ## run each target of tests/fuzz for FUZZ_SECONDS, under the sanitizers
	@set -e; targets='$(sort $(wildcard tests/fuzz/fuzz_*.py))'; [ -n "$$targets" ] || { echo "no tests/fuzz/fuzz_*.py"; exit 1; }; \
	for target in $$targets; do \
	    echo "$$target: $(FUZZ_SECONDS) s"; \
	    $(SANITIZED) PYTHONPATH=$(abspath $(ASAN)/lib) FUZZ_SECONDS=$(FUZZ_SECONDS) $(PY) "$$target" $(ARGS); \
	done

conformance: $(STAMPS)/test ## run the Autobahn testsuite against an echo server (needs a Python 2.7 as well)
	$(PY) tests/conformance/run.py $(ARGS)

bench: $(STAMPS)/bench ## compare with other servers: the main cells and servers, a few minutes
	$(PY) benchmarks/bench.py $(ARGS)

bench-full: $(STAMPS)/bench ## compare with all other servers in all cells, a few hours
	$(PY) benchmarks/bench.py --full $(ARGS)

micro: $(STAMPS)/micro ## time the kernels and the protocol without sockets, beside other libraries
	$(PY) -m pytest benchmarks/micro --benchmark-enable --benchmark-group-by=group --benchmark-columns=min,median,iqr,rounds $(ARGS)

bench-compare: $(STAMPS)/test ## time fastws's part of micro, compare with the committed run of this processor
	PYTHONPATH=benchmarks $(PY) -m micro.compare $(ARGS)

bench-save: $(STAMPS)/test ## time fastws's part of micro several times, to be committed
	PYTHONPATH=benchmarks $(PY) -m micro.compare --save $(ARGS)

instructions: $(STAMPS)/install ## count the instructions of hot paths, compare with the committed ones (needs valgrind)
	@$(COMPILER) PYTHONPATH=benchmarks $(PY) -m micro.instructions $(ARGS)

clean: ## remove the environment and all that was built
	rm -rf $(VENV) build dist *.egg-info fastws/*.so .pytest_cache .mypy_cache .ruff_cache .hypothesis .benchmarks
	find . -name __pycache__ -type d -not -path './.venv*' -prune -exec rm -rf {} +

# ---- the environment

$(STAMPS)/base: pyproject.toml scripts/setup-env
	@echo "making $(VENV)"
	@scripts/setup-env create $(VENV)
	@$(PIP) --group build
	@mkdir -p $(@D) && touch $@

# Written only when it says something new.
$(STAMPS)/toolchain: $(STAMPS)/base
	@$(PY) -c 'import sys, Cython; print(sys.version, Cython.__version__)' >$@.new
	@if cmp -s $@.new $@; then rm $@.new; else mv $@.new $@; fi

# A build's stamp has the time at which it began: a source saved meanwhile is newer.
# setuptools compares the sources with the modules, but not the flags or Cython's version: when those changed, or are not
# known to be the same, everything is built anew.
$(STAMPS)/ext: $(EXT) setup.py $(STAMPS)/toolchain
	@touch $@.begun
	@$(if $(filter setup.py $(STAMPS)/toolchain,$?),$(AFRESH)) $(COMPILER) \
	    $(PY) setup.py --quiet build_ext --inplace -j $(JOBS) $(if $(filter setup.py $(STAMPS)/toolchain,$?),--force)
	@mv $@.begun $@

# After ext, so that it finds the modules built; when only those changed it has nothing to do.
$(STAMPS)/install: pyproject.toml setup.py | $(STAMPS)/base $(STAMPS)/ext
	@$(COMPILER) $(PIP) --no-build-isolation --editable .
	@touch $@

$(STAMPS)/test: $(STAMPS)/install
	@$(PIP) --group test
	@touch $@

# Competitors that cannot be installed are left out, and so are the charts.
$(STAMPS)/bench: $(STAMPS)/test
	@$(PIP) --group charts || true
	@$(PIP) --group bench || true
	@touch $@

# What is compared with in the micro-benchmarks alone; left out as well.
$(STAMPS)/micro: $(STAMPS)/test
	@$(PIP) --group micro || true
	@touch $@

$(STAMPS)/lint: $(STAMPS)/base
	@$(PIP) --group lint
	@touch $@

$(STAMPS)/cov: $(STAMPS)/test
	@$(PIP) '$(COVERAGE)'
	@touch $@

# ---- builds of their own, beside the one in place

BUILD_APART = $(PY) setup.py --quiet build -j $(JOBS) \
    --build-lib $(@D)/lib --build-temp $(@D)/tmp $(if $(filter setup.py $(STAMPS)/toolchain,$?),build_ext --force)

$(ASAN)/.built: $(EXT) $(PYTHON_FILES) setup.py $(STAMPS)/toolchain
	@command -v gcc >/dev/null || { echo "the sanitizer build needs gcc (Debian: gcc)" >&2; exit 1; }
	@mkdir -p $(@D) && touch $@.begun && rm -f $(@D)/lib/fastws/*.py*
	@$(if $(filter setup.py $(STAMPS)/toolchain,$?),$(AFRESH)) CC=gcc FASTWS_BUILD=asan $(BUILD_APART)
	@mv $@.begun $@

$(COV)/.built: $(EXT) $(PYTHON_FILES) setup.py $(STAMPS)/toolchain
	@command -v gcov >/dev/null || { echo "coverage of the kernels needs gcc and gcov (Debian: gcc)" >&2; exit 1; }
	@mkdir -p $(@D) && touch $@.begun && rm -f $(@D)/lib/fastws/*.py*
	@$(if $(filter setup.py $(STAMPS)/toolchain,$?),$(AFRESH)) CC=gcc CFLAGS=--coverage LDFLAGS=--coverage \
	    FASTWS_BUILD=checked $(BUILD_APART)
	@mv $@.begun $@
