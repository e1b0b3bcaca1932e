# make tutorial   runs all notebooks on the synthetic demo voices (CORPUS=real: on RAVDESS and TESS)
# make test       runs every test, the notebooks' included
# make benchmark  times what a reader waits for, each thing beside another (minutes; leave the machine alone)
# make outdated   runs the tests with the newest versions that pyproject.toml allows, in .outdated (6.5 GB)
# make lab        opens JupyterLab
# make app        serves a page on this computer where you speak and see the answer
PYTHON ?= python3
CORPUS ?= demo
BIN := .venv/bin
PIP := python -m pip install --quiet --disable-pip-version-check
# librosa's compiled parts, once: two processes that make them at the same time may leave a cache that
# crashes a third (numba's issue 10128).
COMPILE := python -c "import librosa.core.audio, librosa.core.pitch, librosa.util.utils"

.PHONY: tutorial test benchmark outdated lab app

tutorial: .venv/ready
	@$(BIN)/python -m emotion_helpers tutorial --corpus $(CORPUS)

test: .venv/ready
	@$(BIN)/python -m pytest

benchmark: .venv/ready
	@$(BIN)/python -W ignore tests/benchmark.py $(CORPUS)

# Not what requirements.txt says: what somebody gets who installs the package next to nothing else.
outdated:
	@$(PYTHON) -m venv --clear .outdated
	@.outdated/bin/$(PIP) -e ".[test]"
	@.outdated/bin/$(COMPILE)
	@.outdated/bin/python -m pytest

# JupyterLab shows no SVG, which the charts are, of a notebook that is not trusted.
lab: .venv/ready
	@$(BIN)/jupyter trust notebooks/*.ipynb > /dev/null
	@$(BIN)/jupyter lab notebooks

app: .venv/ready
	@$(BIN)/python -m emotion_helpers app

# The lock first, then the package itself with nothing else (built with the lock's setuptools).
# The mark is written last, so an interrupted installation is taken up again, and a finished one is not repeated.
.venv/ready: requirements.txt pyproject.toml
	@$(PYTHON) -c 'import sys; sys.exit(None if (3, 11) <= sys.version_info < (3, 14) else "Python 3.11, 3.12 or 3.13 is needed, this is " + sys.version.split()[0] + ": make PYTHON=python3.12 ...")'
	@echo "Installing into .venv: 6.5 GB, a few minutes"
	@$(PYTHON) -m venv .venv
	@$(BIN)/$(PIP) -r requirements.txt
	@$(BIN)/$(PIP) --no-deps --no-build-isolation -e .
	@$(BIN)/$(COMPILE)
	@touch $@
