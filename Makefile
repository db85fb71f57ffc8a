# demo and test set everything up by themselves; PYTHON=… picks the interpreter.
VENV := .venv
BIN := $(VENV)/bin
TEST_PROCESSES ?= 3
.DEFAULT_GOAL := help
MATRIX_VENVS := .venv-matrix
# Python, numpy and pandas of each environment. numpy 1.26 has no wheel for Python 3.13.
MATRIX ?= 3.11/1.26/2.2 3.12/1.26/2.2 3.11/2/3 3.12/2/3 3.13/2/3
NEWEST := .venv-newest
MLSERVER := .venv-mlserver
KSERVE := .venv-kserve
RAY := .venv-ray
.PHONY: help demo demo-environments test test-matrix test-newest mlserver kserve ray lint format bench faults fleet image clean

# The first interpreter that is new enough and can make a virtual environment.
FIND_PYTHON = for candidate in $(if $(PYTHON),"$(PYTHON)",python3.13 python3.12 python3.11 python3); do \
	  if "$$candidate" -c 'import sys, venv, ensurepip; sys.exit(sys.version_info < (3, 11))' >/dev/null 2>&1; then \
	    echo "$$candidate"; exit 0; fi; done; \
	{ echo "No Python 3.11 or newer that can make a virtual environment was found$(if $(PYTHON), at PYTHON=$(PYTHON))."; \
	  if command -v apt-get >/dev/null 2>&1; then echo "  sudo apt-get install python3 python3-venv"; \
	  elif command -v dnf >/dev/null 2>&1; then echo "  sudo dnf install python3.12"; \
	  elif command -v brew >/dev/null 2>&1; then echo "  brew install python@3.12"; \
	  else echo "  install Python 3.12 and run: make PYTHON=/path/to/python3.12"; fi; } >&2; exit 1

help:
	@echo "make demo    a real canary in two minutes: registry, models, traffic, an alias that moves"
	@echo "             (DEMO_SECONDS=20 make demo tells the whole story by itself and stops)"
	@echo "make demo-environments  the same with versions that two releases of scikit-learn pickled, each in a Python"
	@echo "             environment of its own, which are built first: some minutes and 3 GB on disk, once"
	@echo "make test    everything the tests need, then the tests"
	@echo "make test-matrix  what reads and writes requests, under the oldest and newest Python, numpy and pandas"
	@echo "             (with each python3.X that is found; it says which were not)"
	@echo "make test-newest  what imports MLflow, and the essential end to end, under the newest MLflow that the index has"
	@echo "make mlserver  versions behind a real MLServer, in an environment of its own: 600 MB on disk, once"
	@echo "make kserve  versions behind KServe's own model server, and its schema of what \`render\` prints: 800 MB on disk, once"
	@echo "make ray     versions as applications of a real Ray of one node, in an environment of its own: 930 MB on disk, once"
	@echo "make lint    formatting, ruff, mypy --strict, import contracts"
	@echo "make bench   speed and memory beside mlflow models serve and others, in 45 minutes"
	@echo "             (BENCH_ARGS=--quick make bench takes three; --only P1,P9 measures these)"
	@echo "make faults  the damage tests, with the figures they measured"
	@echo "make fleet   three gateways behind a real Envoy, on PostgreSQL, each in a network namespace of its own: their"
	@echo "             proof that they are one router, in a quarter of an hour; takes root and iproute2"
	@echo "make image   deploy/Dockerfile built by buildah, looked into, and the chart's pod served from it: four minutes the"
	@echo "             first time and 2 GB on disk; takes root, buildah and mmdebstrap, and Python 3.12 where no registry answers"
	@echo "make clean   remove the virtual environment, the demos' registries and caches"

$(BIN)/python:
	@python=$$($(FIND_PYTHON)) && echo "Making $(VENV) with $$($$python --version)" && "$$python" -m venv $(VENV)

$(VENV)/runtime.stamp: pyproject.toml | $(BIN)/python
	@echo "Installing the gateway and MLflow into $(VENV): about 900 MB on disk, once"
	@$(BIN)/python -m pip install --quiet --disable-pip-version-check --editable .
	@touch $@

$(VENV)/test.stamp: pyproject.toml | $(VENV)/runtime.stamp
	@echo "Installing the test tools into $(VENV)"
	@$(BIN)/python -m pip install --quiet --disable-pip-version-check --editable '.[test]'
	@touch $@

$(VENV)/environments.stamp: pyproject.toml | $(VENV)/runtime.stamp
	@echo "Installing uv into $(VENV): it builds Python environments"
	@$(BIN)/python -m pip install --quiet --disable-pip-version-check --editable '.[environments]'
	@touch $@

demo: $(VENV)/runtime.stamp
	@$(BIN)/canary-router demo

demo-environments: $(VENV)/environments.stamp
	@$(BIN)/canary-router demo --environments

test: $(VENV)/test.stamp
	@$(BIN)/python -m pytest -n $(TEST_PROCESSES) --dist loadfile $(PYTEST_ARGS)

# An interpreter is python3.X on the PATH, or one that uv knows. What can not be made is named, and is no failure.
test-matrix: pyproject.toml
	@passed=; failed=; missing=; \
	for row in $(MATRIX); do \
	  minor=$${row%%/*}; pins=$${row#*/}; venv=$(MATRIX_VENVS)/$$(echo "$$row" | tr / -); \
	  python="python$$minor"; \
	  "$$python" -c 'import ensurepip' >/dev/null 2>&1 || python=$$(uv python find "$$minor" 2>/dev/null); \
	  echo "Python $$minor, numpy $${pins%/*}, pandas $${pins#*/}"; \
	  if ! { [ -n "$$python" ] && { [ -x "$$venv/bin/python" ] || "$$python" -m venv "$$venv"; } && "$$venv/bin/python" -m pip install --quiet \
	      --disable-pip-version-check --editable '.[test]' "numpy==$${pins%/*}.*" "pandas==$${pins#*/}.*"; }; then \
	    echo "  can not be made here"; missing="$$missing $$row"; \
	  elif "$$venv/bin/python" -m pytest -n $(TEST_PROCESSES) --dist loadfile $(PYTEST_ARGS) tests/worker tests/protocol; then \
	    passed="$$passed $$row"; \
	  else failed="$$failed $$row"; fi; \
	done; \
	echo "Python/numpy/pandas passed:$${passed:- none}; failed:$${failed:- none}; not made here:$${missing:- none}"; \
	[ -n "$$passed" ] && [ -z "$$failed" ]

# MLflow's wheel alone, over the libraries of .venv, which has the newest that fits all the rest: an index may have
# MLflow before the packages of the same version that it asks for, whose code its wheel holds too.
SITE = import sysconfig; print(sysconfig.get_path("purelib"))
test-newest: $(VENV)/test.stamp
	@[ -x $(NEWEST)/bin/python ] || $(BIN)/python -m venv $(NEWEST)
	@echo "import site; site.addsitedir('$$($(BIN)/python -c '$(SITE)')')" > "$$($(NEWEST)/bin/python -c '$(SITE)')/venv.pth"
	@$(NEWEST)/bin/python -m pip install --quiet --disable-pip-version-check --no-deps --upgrade 'mlflow<4'
	@$(NEWEST)/bin/python -c 'from importlib.metadata import version; print("MLflow", version("mlflow"))'
	@$(NEWEST)/bin/python -m pytest -n $(TEST_PROCESSES) --dist loadfile $(PYTEST_ARGS) \
	  $(wildcard tests/adapters/test_registry*.py) tests/agent \
	  $(patsubst %,tests/e2e/test_%.py,damage environment hot_swap inference) \
	  $(patsubst %,tests/processes/test_%.py,loader_contract worker_tracking) tests/promotion tests/worker

mlserver: $(VENV)/test.stamp
	@[ -x $(MLSERVER)/bin/python ] || $(BIN)/python -m venv $(MLSERVER)
	@$(BIN)/uv pip install --quiet --python $(MLSERVER)/bin/python 'mlserver>=1.7' 'mlserver-mlflow>=1.7' \
	  "mlflow==$$($(BIN)/python -c 'from importlib.metadata import version; print(version("mlflow"))')"
	@TEST_MLSERVER=$(CURDIR)/$(MLSERVER)/bin/mlserver $(BIN)/python -m pytest -n 0 -k mlserver \
	  tests/e2e/test_wherever_versions_run.py $(PYTEST_ARGS)

kserve: $(VENV)/test.stamp
	@[ -x $(KSERVE)/bin/python ] || $(BIN)/python -m venv $(KSERVE)
	@$(BIN)/uv pip install --quiet --python $(KSERVE)/bin/python 'kserve>=0.21' \
	  "mlflow==$$($(BIN)/python -c 'from importlib.metadata import version; print(version("mlflow"))')"
	@TEST_KSERVE=$(CURDIR)/$(KSERVE)/bin/python $(BIN)/python -m pytest -n 0 -m 'slow or not slow' -k kserve \
	  tests/e2e/test_wherever_versions_run.py tests/core/test_version_manifests.py $(PYTEST_ARGS)

# Editable, so that Ray's processes import the code of this directory.
ray: $(VENV)/test.stamp
	@[ -x $(RAY)/bin/python ] || $(BIN)/python -m venv $(RAY)
	@$(BIN)/uv pip install --quiet --python $(RAY)/bin/python --editable '.[ray]' \
	  "mlflow==$$($(BIN)/python -c 'from importlib.metadata import version; print(version("mlflow"))')"
	@TEST_RAY=$(CURDIR)/$(RAY)/bin $(BIN)/python -m pytest -n 0 -m 'slow or not slow' -k ray \
	  tests/ray_serve tests/e2e/test_wherever_versions_run.py $(PYTEST_ARGS)

lint: $(VENV)/test.stamp
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/mypy
	$(BIN)/lint-imports

format: $(VENV)/test.stamp
	$(BIN)/ruff format .
	$(BIN)/ruff check --fix .

bench: $(VENV)/runtime.stamp
	@$(BIN)/python -m benchmarks $(BENCH_ARGS)

faults: $(VENV)/test.stamp
	@FAULTS=1 FAULTS_FIGURES=$${FAULTS_FIGURES:-.faults/figures.md} \
	  $(BIN)/python -m pytest -m 'slow or not slow' tests/faults tests/e2e tests/processes tests/demo tests/deploy tests/stories \
	  tests/adapters/test_registry_faults.py tests/test_docs.py \
	  tests/test_benchmarks.py tests/analysis tests/core tests/serving tests/control tests/agent tests/worker tests/gate $(PYTEST_ARGS)

fleet: $(VENV)/test.stamp
	@FAULTS_FIGURES=$${FAULTS_FIGURES:-.faults/fleet.md} \
	  $(BIN)/python -m pytest -m 'slow or not slow' tests/fleet $(PYTEST_ARGS)

# Bases and layers are kept in .image for the next time. What can not be built is a failure: nothing else is asked for.
image: $(VENV)/test.stamp
	@TESTS_MUST_RUN=1 TEST_IMAGE=$(CURDIR)/.image FAULTS_FIGURES=$${FAULTS_FIGURES:-.faults/image.md} \
	  $(BIN)/python -m pytest -n 0 -m slow tests/fleet/test_built_image.py $(PYTEST_ARGS)

# A build that was killed leaves its files mounted below .image.
clean:
	-@[ ! -d .image ] || buildah --root $(CURDIR)/.image/images --runroot $(CURDIR)/.image/run rm --all >/dev/null 2>&1
	rm -rf $(VENV) $(MATRIX_VENVS) $(NEWEST) $(MLSERVER) $(KSERVE) $(RAY) .demo .demo-environments .bench .faults .image .mypy_cache .ruff_cache .pytest_cache .hypothesis .import_linter_cache *.egg-info
	find router tests benchmarks -name __pycache__ -type d -prune -exec rm -rf {} +
