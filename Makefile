# `make demo` and `make test` need Python 3.11+, make and git; they make the rest.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
READY := $(VENV)/.ready

.PHONY: help native demo test test-all lint format bench bench-sample costs clean \
  build build-local local validate clients

help:  ## what can be made here
	@grep -hE '^[a-z-]+:.*##' $(MAKEFILE_LIST) | sed -E 's/:.*## /\t/' | expand -t 12

$(READY): pyproject.toml
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' \
	  || { echo "Squash needs Python 3.11 or later; say which with 'make PYTHON=python3.12 ...'" >&2; exit 1; }
	$(PYTHON) -m venv $(VENV)
	$(BIN)/pip install --quiet --disable-pip-version-check -e '.[dev]'
	@touch $@

native: $(READY)  ## compile the native kernels, if their sources have changed
	@$(BIN)/python layers/squash/native/build.py

demo: native  ## encode 8,360 descriptions of programs and ask for them in plain words
	@$(BIN)/python demo/demo.py

test: native  ## all tests but the slow ones
	$(BIN)/python -m pytest -n 2 -m "not slow" tests

# Without it, what is compiled for another architecture is left out.
ZIG_READY := $(VENV)/.zig-ready

$(ZIG_READY): $(READY)
	@if $(BIN)/pip install --quiet --disable-pip-version-check -e '.[native]'; then touch $@; \
	  else echo "no ziglang: tests that compile for arm64, or without gcc, are skipped" >&2; fi

test-all: native $(ZIG_READY)  ## every test
	@command -v qemu-aarch64-static >/dev/null || command -v qemu-aarch64 >/dev/null \
	  || echo "no qemu: the arm64 kernels are not run; apt-get install qemu-user-static" >&2
	SQUASH_TEST_CHANCE=chance $(BIN)/python -m pytest -n 2 tests

lint: $(READY)  ## style, types, and the direction of imports
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/lint-imports

format: $(READY)  ## lay the code out
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

BENCH_READY := $(VENV)/.bench-ready

$(BENCH_READY): $(READY)
	$(BIN)/pip install --quiet --disable-pip-version-check -e '.[bench]'
	@touch $@

bench: native $(BENCH_READY)  ## recall and speed beside the peers, and growth, on real data; hours
	$(BIN)/python bench/run.py --data sift
	$(BIN)/python bench/run.py --data text
	$(BIN)/python bench/run.py --data glove
	$(BIN)/python bench/run.py --data fashion
	$(BIN)/python bench/growth.py --data sift
	$(BIN)/python bench/rotations.py
	$(BIN)/python bench/threads.py --data sift
	$(BIN)/python bench/cold_waits.py --data sift --out docs/benchmarks.md
	$(BIN)/python bench/cold_waits.py --data text --out docs/benchmarks.md
	$(BIN)/python bench/quality.py
	$(BIN)/python bench/encoding.py
	$(BIN)/python bench/bulk.py --data sift made-384:200000 made-768:200000 --save --out docs/benchmarks.md
	$(BIN)/python bench/bulk.py --memory --parquet --dimension 768 --out docs/benchmarks.md
	$(BIN)/python bench/scale.py --out docs/scale.md
	$(BIN)/python bench/scale.py --check .cache/bench/bulk.json --out docs/scale.md

costs: native $(BENCH_READY)  ## what the steps of a search cost here, for SQUASH_COSTS to name
	$(BIN)/python bench/costs.py

bench-sample: native $(BENCH_READY)  ## the same on a small slice, to see that the bench itself runs
	$(BIN)/python bench/run.py --data glove:10000 --queries 50 --tuning 30 --k 10 \
	  --out .cache/bench/sample/benchmarks.md
	$(BIN)/python bench/growth.py --data glove:30000 --queries 20 --out .cache/bench/sample/benchmarks.md

# The SAM CLI and cfn-lint pin releases of boto3: they keep to an environment of their own.
SAM_VENV := .venv-sam
SAM_BIN := $(SAM_VENV)/bin
SAM_READY := $(SAM_VENV)/.ready
export SAM_CLI_TELEMETRY := 0

$(SAM_READY): infra/requirements.txt
	$(PYTHON) -m venv $(SAM_VENV)
	$(SAM_BIN)/pip install --quiet --disable-pip-version-check -r infra/requirements.txt
	@touch $@

validate: $(SAM_READY)  ## check the templates, without an AWS account
	$(SAM_BIN)/sam validate --lint --region us-east-1
	$(SAM_BIN)/cfn-lint template.yaml infra/monitoring.yaml

# For which Lambda: ARCH=arm64 or x86_64, PY=3.12, 3.13 or 3.14.
ARCH ?= arm64
PY ?= 3.13

build: $(SAM_READY)  ## build what `sam deploy` deploys, into .aws-sam/build
	SQUASH_PYTHON=$(abspath $(SAM_BIN)/python) SQUASH_ARCH=$(ARCH) SQUASH_PY=$(PY) \
	  $(SAM_BIN)/sam build --parameter-overrides Architecture=$(ARCH) Runtime=python$(PY)
	@$(SAM_BIN)/python infra/pin.py

build-local: $(READY)  ## build the functions for this machine, into .aws-sam/local
	@SQUASH_PYTHON=$(abspath $(BIN)/python) SQUASH_ARCH=here $(MAKE) --no-print-directory \
	  -f layers/squash/Makefile build-LibraryLayer ARTIFACTS_DIR=$(abspath .aws-sam/local/LibraryLayer)
	@SQUASH_PYTHON=$(abspath $(BIN)/python) SQUASH_ARCH=here $(MAKE) --no-print-directory \
	  -f layers/encoder/Makefile build-EncoderLayer ARTIFACTS_DIR=$(abspath .aws-sam/local/EncoderLayer)
	@SQUASH_PYTHON=$(abspath $(BIN)/python) SQUASH_ARCH=here $(MAKE) --no-print-directory \
	  -f layers/builder/Makefile build-BuilderLayer ARTIFACTS_DIR=$(abspath .aws-sam/local/BuilderLayer)
	@$(MAKE) --no-print-directory -f functions/Makefile build-all ARTIFACTS_DIR=$(abspath .aws-sam/local)

# MiniStack is the S3 that keeps its objects. It pins botocore: it gets a place of its own.
MINISTACK_VENV := .venv-ministack
MINISTACK_READY := $(MINISTACK_VENV)/.ready
LOCAL_OPTIONS ?= --environment SQUASH_AUTH=none

$(MINISTACK_READY):
	@$(PYTHON) -m venv $(MINISTACK_VENV)
	@if $(MINISTACK_VENV)/bin/pip install --quiet --disable-pip-version-check 'ministack>=1.5'; \
	  then touch $@; else rm -rf $(MINISTACK_VENV); \
	  echo "no MiniStack: squash local keeps its objects in memory" >&2; fi

local: $(READY) $(MINISTACK_READY)  ## build the functions for this machine, and run them all on it
	@$(MAKE) --no-print-directory build-local
	@$(BIN)/squash local $(LOCAL_OPTIONS)

# The clients of S3 Vectors pin one another: they get a place of their own.
CLIENTS_VENV := .venv-clients
CLIENTS_READY := $(CLIENTS_VENV)/.ready

$(CLIENTS_READY): tests/clients/requirements.txt
	$(PYTHON) -m venv $(CLIENTS_VENV)
	$(CLIENTS_VENV)/bin/pip install --quiet --disable-pip-version-check -r tests/clients/requirements.txt
	@touch $@

clients: native $(CLIENTS_READY)  ## run the suites of S3 Vectors' clients against a live server
	$(CLIENTS_VENV)/bin/python tests/clients/run.py

clean:  ## remove what was made, data included
	rm -rf $(VENV) $(SAM_VENV) $(MINISTACK_VENV) $(CLIENTS_VENV) .aws-sam .squash-local .cache build dist \
	  layers/squash/squash/kernels/_native layers/squash/squash_search.egg-info .mypy_cache .ruff_cache \
	  .pytest_cache .hypothesis .schemathesis .import_linter_cache
