# make demo      four nets on the embedded digits, three seeds each: training curves and the verdict, in three minutes
# make test      the tests for every commit; compiled programs are kept in .pytest_cache for the next time
# make test-all  all tests, including whole runs on real images and runs of many processes; PYTEST takes pytest's flags
# make lint      style, format and types
# make bench     speed next to PyTorch, on this machine's accelerator or CPU; installs PyTorch
# make programs  the compilers for GPUs and TPUs, for benchmarks.programs; 340 MB to download, 1.1 GB on the disk
# make soak      kill a run 60 times and compare its end with an undisturbed run; ten minutes
# make figure6   figure 6 of the paper, nine nets with 64,000 steps each, into results/cifar_figure6
# Each makes .venv first if it is missing or older than the requirements; make .venv/installed makes only that.

PYTHON ?= python3
RUN = .venv/bin/python

.PHONY: help demo test test-all lint bench programs soak figure6
help:
	@sed -n '/^#/!q; s/^# //p' Makefile

demo: .venv/installed
	JAX_PLATFORMS=cpu $(RUN) -m experiments.sweep --config=configs/sweeps/digits_depth.py
	$(RUN) -m experiments.compare runs/digits_depth

test: .venv/installed
	$(RUN) -m pytest --numprocesses=auto --dist=loadgroup -m "not slow" $(PYTEST)

test-all: .venv/installed
	$(RUN) -m pytest --numprocesses=auto --dist=loadgroup $(PYTEST)

lint: .venv/installed
	.venv/bin/ruff check
	.venv/bin/ruff format --check
	.venv/bin/mypy

# Benchmarks write records to benchmarks/records; table.py makes the tables of docs/performance.md from them.
bench: .venv/peer
	$(RUN) -m benchmarks.right_answer
	$(RUN) -m benchmarks.step_time
	$(RUN) -m benchmarks.cpu_profile
	$(RUN) -m benchmarks.compile_time
	$(RUN) -m benchmarks.seeds
	$(RUN) -m benchmarks.scaling
	$(RUN) -m benchmarks.table

programs: .programs/installed

soak: .venv/installed
	JAX_PLATFORMS=cpu $(RUN) -m benchmarks.soak

# SWEEP: flags for the sweep, as in SWEEP="--config.steps=100"; RUNS and RESULTS: folders of the runs and the records.
RUNS ?= runs/cifar_figure6
RESULTS ?= results/cifar_figure6
figure6: .venv/installed
	$(RUN) -m experiments.sweep --config=configs/sweeps/cifar_figure6.py --folder=$(RUNS) --config.dtype=bfloat16 $(SWEEP)
	$(RUN) -m experiments.publish $(RUNS) --out=$(RESULTS)

.venv/peer: .venv/installed benchmarks/requirements.txt
	$(RUN) -m pip install --quiet --disable-pip-version-check -r benchmarks/requirements.txt
	@touch $@

# Not in .venv, where JAX would take them for devices.
.programs/installed: .venv/installed benchmarks/programs/requirements.txt
	rm -rf .programs
	$(RUN) -m pip install --quiet --disable-pip-version-check --no-deps --target .programs -r benchmarks/programs/requirements.txt
	@touch $@

# The package is installed in editable form, so that any script that runs with this Python can import it.
.venv/installed: pyproject.toml requirements.txt requirements-dev.txt requirements.lock
	@$(PYTHON) -c 'import sys; sys.version_info >= (3, 11) or sys.exit("error: Python 3.11 or later is needed; name one as in: make PYTHON=python3.12")'
	@echo "Installing into .venv, once; this takes a minute or two."
	$(PYTHON) -m venv .venv
	$(RUN) -m pip install --quiet --disable-pip-version-check -r requirements.txt -r requirements-dev.txt -c requirements.lock
	$(RUN) -m pip install --quiet --disable-pip-version-check --no-deps --no-build-isolation --editable .
	@touch $@
