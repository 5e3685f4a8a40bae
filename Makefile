# Everything a developer does, from a fresh clone: needs Python >= 3.11, g++ and make.
# A second run does only what changed: `.venv/*.done` and `build/*.setting` are time stamps.

PYTHON ?= python3
TORCH ?= torch==2.13.0
TORCH_CUDA ?= torch==2.14.1
ARGS ?=
MAX_JOBS ?= $(shell nproc 2>/dev/null || echo 2)
export MAX_JOBS
# Without them make would link csrc/cpu/engine/isa, a folder, from isa.cpp beside it.
MAKEFLAGS += --no-builtin-rules

VENV := .venv
BIN := $(VENV)/bin
PIP := $(BIN)/python -m pip --disable-pip-version-check -q
CREATED := $(VENV)/created.done
PACKAGES := $(VENV)/packages.done
BUILT := $(VENV)/built.done
INSTALLED := $(VENV)/installed.done
READY := $(BUILT) $(INSTALLED)
PEERS := .venv-peers
PEERS_READY := $(PEERS)/packages.done
CUDA := .venv-cuda
CUDA_READY := $(CUDA)/packages.done
CLIENTS := .venv-clients
CLIENTS_READY := $(CLIENTS)/packages.done
DOCS_PACKAGES := build/docs-packages
DOCS_READY := $(DOCS_PACKAGES)/packages.done

.DEFAULT_GOAL := help
.PHONY: help demo demo-spam test test-cpp test-clients test-cuda-build test-cuda-host test-cuda-kernels test-cuda-peers bench bench-clients bench-cuda bench-peers docs guide lint format build clean FORCE

help: ## say what each target does
	@echo "Targets (each works from a fresh clone):"
	@sed -n 's/^\([a-z-]*\):.*## \(.*\)/  \1|\2/p' $(MAKEFILE_LIST) | \
		while IFS='|' read -r name text; do printf '%-16s %s\n' "$$name" "$$text"; done
	@echo "Variables: TORCH='torch==2.13.0'  PYTHON=python3  MAX_JOBS=2  ARGS='passed on'  DEBUG=1"

demo: $(READY) ## train on MNIST with stock PyTorch and with pyfastnn; picture in out/
	$(BIN)/python examples/mnist.py $(ARGS)

demo-spam: $(READY) ## learn to tell spam from real e-mail, beside scikit-learn; model and picture in out/
	$(BIN)/python examples/spam.py $(ARGS)

test: $(READY) test-cpp test-cuda-host ## run all tests: C++ without pyfastnn, then pytest
	$(BIN)/python -m pytest $(ARGS)

test-cuda-host: $(PACKAGES) ## run the CUDA operators on the CPU, with loops in place of the kernels
	$(BIN)/python -m pytest --confcutdir=tests/cuda_host tests/cuda_host

# The suite's core once more, because this torch is another one. -P: not the extension in pyfastnn/.
CUDA_TESTS := $(patsubst %,tests/test_%.py,forward backward edges errors registration autograd func \
	autocast modules fallback fusion training training_epoch packing)

test-cuda-build: $(CUDA_READY) ## build with CUDA kernels (needs nvcc, no device); test what needs no device
	rm -rf build/cuda-lib
	PYFASTNN_CUDA=1 $(CUDA)/bin/python setup.py -q build --build-lib build/cuda-lib
	PYTHONPATH=build/cuda-lib $(CUDA)/bin/python -P -m pytest tests/cuda_build $(CUDA_TESTS) $(ARGS)

test-cuda-kernels: $(PACKAGES) ## compile, execute and count the CUDA kernels without a device (needs nvcc)
	$(BIN)/python -m pytest --confcutdir=tests/cuda tests/cuda $(ARGS)

test-cuda-peers: $(PACKAGES) ## run kernels of CUTLASS in the PTX interpreter (needs nvcc; fetches 6 MB)
	$(BIN)/python -m pytest --confcutdir=tests/cuda tests/cuda/peers/check_cutlass.py $(ARGS)

bench: $(READY) ## time pyfastnn against stock PyTorch; JSON and a table in out/
	$(BIN)/python -m benchmarks.run $(ARGS)

bench-cuda: $(READY) ## time CUDA kernels on a CUDA device; needs a build with CUDA (README)
	$(BIN)/python -m benchmarks.cuda $(ARGS)

# Later options override earlier ones, so that ARGS may narrow or widen the comparison. Memory takes a
# process for each cell and provider: too long for a quick run.
bench-peers: $(READY) $(PEERS_READY) ## time pyfastnn against JAX, TensorFlow, ... (benchmarks/README.md)
	$(BIN)/python -m benchmarks.compare --providers peers --modes forward,train_step \
		--dtype float32 --csv out/peers.csv $(if $(filter --quick,$(ARGS)),,--memory) $(ARGS)

# The extension lies in pyfastnn/, so an environment with the same Python and torch can load it.
test-clients: $(READY) $(CLIENTS_READY) ## train with unchanged libraries (Stable-Baselines3, ...), plain and fused
	$(CLIENTS)/bin/python -m pytest tests/clients $(ARGS)

bench-clients: $(READY) $(CLIENTS_READY) ## time the same: out/clients.csv and the table of docs/clients.md
	$(CLIENTS)/bin/python -m benchmarks.clients $(ARGS)

docs: $(READY) $(DOCS_READY) ## build the pages and the API reference as a site: build/site/index.html
	PYTHONPATH=$(DOCS_PACKAGES) $(BIN)/python -m sphinx --builder html --conf-dir docs --fresh-env \
		--fail-on-warning --keep-going --quiet --doctree-dir build/doctrees . build/site
	cp build/site/README.html build/site/index.html

guide: $(READY) ## run the code of docs/guide.md and write its outputs and pictures; ARGS=--check compares
	$(BIN)/python docs/run_guide.py $(ARGS)

lint: $(PACKAGES) ## run ruff, mypy and clang-format over tracked and new files, as a commit does
	@git ls-files -z --cached --others --exclude-standard | \
		xargs -0 $(BIN)/pre-commit run --color=auto --files

format: $(PACKAGES) ## rewrite Python and C++ sources in the project's style
	$(BIN)/ruff check --fix --exit-zero --quiet .
	$(BIN)/ruff format .
	@git ls-files -z --cached --others --exclude-standard '*.c' '*.cpp' '*.h' '*.cu' '*.cuh' | \
		xargs -0 -r $(BIN)/clang-format -i

build: $(READY) ## make .venv and compile the extension into it (editable install)

clean: ## remove everything the other targets made, except downloaded data
	rm -rf $(VENV) $(CUDA) $(PEERS) $(CLIENTS) build dist out *.egg-info pyfastnn/_C.*.so pyfastnn/_build_info.py
	rm -rf .pytest_cache .mypy_cache .ruff_cache .benchmarks
	find pyfastnn tests examples benchmarks -name __pycache__ -prune -exec rm -rf {} +

# --- environment ----------------------------------------------------------------------------------

# A setting is a file that changes only when its value does: what depends on it is redone then.
build/python.setting: VALUE = $(PYTHON)
build/torch.setting: VALUE = $(TORCH)
build/torch-cuda.setting: VALUE = $(TORCH_CUDA)
build/flags.setting: VALUE = DEBUG=$(DEBUG) SANITIZE=$(PYFASTNN_SANITIZE) CUDA=$(PYFASTNN_CUDA) $(TORCH_CUDA_ARCH_LIST)
build/%.setting: FORCE
	@mkdir -p build
	@echo '$(VALUE)' | cmp -s - $@ || echo '$(VALUE)' > $@

define CHECK_PYTHON
import os, sys, sysconfig
if sys.version_info < (3, 11):
    sys.exit("pyfastnn needs Python 3.11 or newer, this is %s; try: make PYTHON=python3.11" % sys.version)
try:
    import ensurepip, venv
except ImportError:
    sys.exit("this Python cannot make virtual environments; on Debian and Ubuntu: apt install python3-venv")
if not os.path.exists(os.path.join(sysconfig.get_path("include"), "Python.h")):
    sys.exit("this Python has no C headers (Python.h); on Debian and Ubuntu: apt install python3-dev")
endef
export CHECK_PYTHON

$(CREATED): build/python.setting
	@$(PYTHON) -c "$$CHECK_PYTHON"
	$(PYTHON) -m venv --clear $(VENV)
	@touch $@

$(PACKAGES): $(CREATED) build/torch.setting constraints.txt
	$(PIP) install '$(TORCH)' -r constraints.txt
	@touch $@

# The peers bring their own versions of shared packages, so they have an environment of their own.
$(PEERS_READY): build/python.setting benchmarks/peers.txt
	@$(PYTHON) -c "$$CHECK_PYTHON"
	$(PYTHON) -m venv --clear $(PEERS)
	$(PEERS)/bin/python -m pip --disable-pip-version-check -q install -r benchmarks/peers.txt
	@touch $@

$(CLIENTS_READY): build/python.setting build/torch.setting tests/clients/requirements.txt
	@$(PYTHON) -c "$$CHECK_PYTHON"
	$(PYTHON) -m venv --clear $(CLIENTS)
	$(CLIENTS)/bin/python -m pip --disable-pip-version-check -q install '$(TORCH)' \
		-r tests/clients/requirements.txt
	@touch $@

# 5.5 GB: torch's libraries for CUDA.
$(CUDA_READY): build/python.setting build/torch-cuda.setting constraints.txt
	@$(PYTHON) -c "$$CHECK_PYTHON"
	$(PYTHON) -m venv --clear $(CUDA)
	$(CUDA)/bin/python -m pip --disable-pip-version-check -q install '$(TORCH_CUDA)' \
		-c constraints.txt ninja setuptools wheel numpy pytest expecttest
	@touch $@

# Sphinx imports pyfastnn, so it runs in .venv; the tests must not need it, so it lies beside.
$(DOCS_READY): $(PACKAGES) docs/requirements.txt
	rm -rf $(DOCS_PACKAGES)
	$(PIP) install --target $(DOCS_PACKAGES) -r docs/requirements.txt
	@touch $@

# --- extension ------------------------------------------------------------------------------------

# setup.py keeps the object files, so ninja recompiles only what changed and pip finds all of it done.
$(BUILT): $(PACKAGES) build/flags.setting setup.py $(shell find csrc -type d -o -name '*.cpp' -o -name '*.h' -o -name '*.cu*')
	@touch $@.started # becomes the stamp, so that an edit made during the build counts as newer
	$(BIN)/python setup.py -q build_ext --inplace
	@mv $@.started $@

$(INSTALLED): $(PACKAGES) setup.py pyproject.toml | $(BUILT)
	$(PIP) install --no-build-isolation --no-deps -e .
	@touch $@

# --- engine without torch, under sanitizers -------------------------------------------------------

CPP_SOURCES := $(shell find csrc/cpu/engine tests/cpp -name '*.cpp')
CPP_OBJECTS := $(CPP_SOURCES:%.cpp=build/test-cpp/%.o)
CPP_PROGRAM := build/test-cpp/test_engine
# GCC 12 finds "uninitialized" variables in its own AVX-512 headers (GCC bug 105593).
CPP_FLAGS := -std=c++20 -g -O1 -Wall -Wextra -Wno-uninitialized -Wno-maybe-uninitialized -Icsrc \
	-pthread -fno-omit-frame-pointer -fsanitize=address,undefined -fno-sanitize-recover=all

test-cpp: ## run the torch-free engine's own test program under ASan and UBSan (needs only g++)
	@$(MAKE) --no-print-directory -j$(MAX_JOBS) $(CPP_PROGRAM)
	$(CPP_PROGRAM)

$(CPP_PROGRAM): $(CPP_OBJECTS)
	$(CXX) $(CPP_FLAGS) $(CXXFLAGS) $(CPP_OBJECTS) -o $@

build/test-cpp/%.o: %.cpp Makefile
	@mkdir -p $(@D)
	$(CXX) $(CPP_FLAGS) $(CXXFLAGS) -MMD -MP -c $< -o $@

-include $(CPP_OBJECTS:.o=.d)
