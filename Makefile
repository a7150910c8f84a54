# make demo    four nets on the embedded digits, their training curves and the verdict
# make test    the test suite
# make lint    style, format and types
# Each makes .venv itself when it is missing or older than the requirements.

PYTHON ?= python3
RUN = .venv/bin/python

.PHONY: demo test lint
demo: .venv/installed
	JAX_PLATFORMS=cpu $(RUN) -m experiments.sweep --config=configs/sweeps/digits_depth.py
	$(RUN) -m experiments.compare runs/digits_depth

test: .venv/installed
	$(RUN) -m pytest --numprocesses=auto --dist=loadgroup

lint: .venv/installed
	.venv/bin/ruff check
	.venv/bin/ruff format --check
	.venv/bin/mypy

.venv/installed: requirements.txt requirements-dev.txt requirements.lock
	@$(PYTHON) -c 'import sys; sys.version_info >= (3, 11) or sys.exit("error: Python 3.11 or later is needed; name one as in: make PYTHON=python3.12")'
	@echo "Installing into .venv, once; this takes a minute or two."
	$(PYTHON) -m venv .venv
	$(RUN) -m pip install --quiet --disable-pip-version-check -r requirements.txt -r requirements-dev.txt -c requirements.lock
	@touch $@
