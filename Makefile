PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
DATA ?= ../shared/data
JOBS ?= 2
export HF_HUB_OFFLINE ?= 1

.PHONY: demo test conformance stress check fix docs wheel bench pins clean

demo: $(VENV)/run.stamp ## the whole story on the embedded model; the report is demo/report/index.html
	$(BIN)/moored demo --out demo

test: $(VENV)/dev.stamp ## the whole test suite, in $(JOBS) processes of one thread each
	OMP_NUM_THREADS=1 $(BIN)/pytest --numprocesses $(JOBS) --dist loadfile

conformance: $(VENV)/dev.stamp ## every model, adapter, checkpoint, template and row that moored was tried on, in $(JOBS) processes
	OMP_NUM_THREADS=1 $(BIN)/pytest tests/conformance --conformance --numprocesses $(JOBS) --dist loadfile

stress: $(VENV)/dev.stamp ## commands stopped at many points, and thousands of made inputs; the table in results/stress
	OMP_NUM_THREADS=1 $(BIN)/python -m benchmarks.validity.stress

check: $(VENV)/dev.stamp ## style, types and the direction of imports
	$(BIN)/ruff check
	$(BIN)/ruff format --check
	$(BIN)/pyright
	$(BIN)/lint-imports

fix: $(VENV)/dev.stamp ## repair style automatically
	$(BIN)/ruff check --fix
	$(BIN)/ruff format

docs: $(VENV)/docs.stamp ## the documentation, built strictly; it begins at build/site/index.html
	NO_MKDOCS_2_WARNING=1 $(BIN)/mkdocs build

wheel: $(VENV)/dev.stamp ## the wheel in dist/, tried in an environment of its own
	rm -rf dist
	$(BIN)/python -m build --outdir dist . > /dev/null
	.ci/try-wheel $(BIN)/python dist/*.whl

bench: $(VENV)/dev.stamp ## make the tables of results/ again, from the real data in $(DATA)
	$(BIN)/python -m benchmarks.validity.judge
	$(BIN)/python -m benchmarks.validity.embedded --data $(DATA) --out results/embedded
	$(BIN)/python -m benchmarks.docs.demo --run runs/demo --out results/demo
	$(BIN)/python -m benchmarks.trials.selection --data $(DATA) # hours; finished runs are kept
	$(BIN)/python -m benchmarks.trials.regularizers --data $(DATA) # likewise
	$(BIN)/python -m benchmarks.trials.recovery --data $(DATA) # likewise
	$(BIN)/python -m benchmarks.validity.landscape --data $(DATA)
	for name in selection regularizers recovery; do $(BIN)/python -m benchmarks.speed.$$name --run runs/$$name --json results/$$name/speed.json || exit 1; done
	$(BIN)/python -m benchmarks.docs.pages

pins: $(VENV)/dev.stamp ## pin again from the loose ranges of pyproject.toml
	$(BIN)/pip-compile $(PINS) --output-file requirements/run.txt pyproject.toml requirements/torch.in
	$(BIN)/pip-compile $(PINS) --extra dev --output-file requirements/dev.txt pyproject.toml requirements/torch.in
	$(BIN)/pip-compile $(PINS) --extra docs --constraint requirements/dev.txt --output-file requirements/docs.txt pyproject.toml requirements/torch.in
PINS := --quiet --strip-extras --allow-unsafe --no-header --no-annotate --no-emit-index-url --no-emit-find-links

$(VENV)/bin/python:
	$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11) and "moored needs Python 3.11 or newer; set PYTHON=")'
	$(PYTHON) -m venv $(VENV)

$(VENV)/run.stamp: requirements/run.txt pyproject.toml | $(VENV)/bin/python
	$(BIN)/python -m pip install --quiet -r requirements/run.txt
	$(BIN)/python -m pip install --quiet --no-deps -e .
	touch $@

$(VENV)/dev.stamp: requirements/dev.txt $(VENV)/run.stamp
	$(BIN)/python -m pip install --quiet -r requirements/dev.txt
	touch $@

$(VENV)/docs.stamp: requirements/docs.txt $(VENV)/run.stamp
	$(BIN)/python -m pip install --quiet -r requirements/docs.txt
	touch $@

clean: ## forget the environment, the demo and what was built
	rm -rf $(VENV) demo build dist
