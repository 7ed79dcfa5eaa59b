# Two commands do all the set-up: `make demo` runs the main job, `make test` passes the tests.
# On Linux, a CPU build of torch spares several GB of CUDA:
#   make demo TORCH_INDEX=https://download.pytorch.org/whl/cpu
VENV ?= .venv
PYTHON ?= $(shell for p in python3 python3.13 python3.12 python3.11; do \
  $$p -c 'import sys; sys.exit(sys.version_info < (3, 11))' 2>/dev/null && echo $$p && break; done)
TORCH_INDEX ?=
BIN := $(VENV)/bin
FUZZER := 'atheris>=3,<4'
READY := $(VENV)/.ready

.PHONY: demo test local server ragas check audit notebooks docs bench reliability reliability-local fuzz clean

demo: $(READY)
	$(BIN)/artrag demo

test: $(READY)  # a process a core, each with one thread for its sums
	OMP_NUM_THREADS=1 $(BIN)/python -m pytest -q -n auto --maxprocesses 4 --dist worksteal

local: $(READY)  # the embedded models
	$(BIN)/python -m pytest -q -m local

server: $(READY)  # real servers on 127.0.0.1
	$(BIN)/python -m pytest -q -m server

ragas:  # ragas holds back other packages: it has an environment of its own
	$(PYTHON) -m venv build/ragas
	build/ragas/bin/python -m pip install -q --disable-pip-version-check -c constraints-ragas.txt '.[ragas,evaluate]' pytest pytest-asyncio hypothesis
	build/ragas/bin/python -m pytest -q tests/test_ragas.py

check: $(READY)  # what a change must pass besides the tests
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	rm -rf build/types && $(BIN)/python -m pip install -q --no-deps --no-build-isolation --target build/types .
	MYPYPATH=build/types $(BIN)/mypy -p artrag

audit: build/audit/bin/pip-audit  # known vulnerabilities of the pinned packages: 1 where there are some, 3 where nobody could be asked
	build/audit/bin/python .ci/audit.py

build/audit/bin/pip-audit:  # its requirements are none of ours
	$(PYTHON) -m venv build/audit
	build/audit/bin/python -m pip install -q --disable-pip-version-check pip-audit==2.10.1

notebooks: $(READY)
	$(BIN)/python notebooks/run.py

docs: $(READY)  # into build/site; a warning fails it
	rm -rf build/types && $(BIN)/python -m pip install -q --no-deps --no-build-isolation --target build/types .
	NO_MKDOCS_2_WARNING=1 $(BIN)/mkdocs build --strict --quiet

bench: $(READY)
	# The others need data of their own: see the head of each.
	for figure in import_time graph_overhead demo example_questions; do $(BIN)/python benchmarks/$$figure.py || exit 1; done

reliability: $(READY)  # under load, faults and time: a table
	$(BIN)/python -m pip install -q --disable-pip-version-check $(FUZZER)
	$(BIN)/python benchmarks/reliability/table.py

reliability-local: $(READY)  # the suites of the embedded model
	$(BIN)/python benchmarks/reliability/table.py --local

fuzz: $(READY)  # inputs on which the properties of the tests fail, searched for by coverage
	$(BIN)/python -m pip install -q --disable-pip-version-check $(FUZZER)
	$(BIN)/python benchmarks/reliability/fuzz.py

clean:
	rm -rf $(VENV) .artrag build artrag.egg-info

$(READY): pyproject.toml constraints.txt
	@test -n "$(PYTHON)" || { echo "artrag needs Python 3.11 or newer: make PYTHON=/path/to/python3.11"; exit 1; }
	$(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install -q --disable-pip-version-check $(if $(TORCH_INDEX),--index-url $(TORCH_INDEX)) torch==2.13.0
	$(BIN)/python -m pip install -q --disable-pip-version-check -c constraints.txt setuptools wheel
	$(BIN)/python -m pip install -q --disable-pip-version-check -c constraints.txt --no-build-isolation -e '.[dev]'
	@touch $(READY)
