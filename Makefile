# make demo: a whole study on synthetic faces.  make test: everything that must hold.  Needs Python >= 3.11 and nothing else.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
INSTALLED := $(VENV)/.installed
TESTS ?= tests
# Where it is set, every process of the tests compiles the package anew.
unexport PYTHONDONTWRITEBYTECODE

.PHONY: demo test faults e2e lint docs install clean fuzz bench-train bench-balance bench-courses bench-serve bench-report bench-copies bench-data bench-search bench-scale \
  bench-coverage bench-factors bench-checkpoints bench-opponents

install: $(INSTALLED)

# One stamp for "the environment exists and holds what pyproject.toml asks for".
$(INSTALLED): pyproject.toml
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11) and "facex_tune needs Python 3.11 or newer: make PYTHON=python3.12 $(MAKECMDGOALS)")'
	test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --editable '.[test]'
	touch $@

# Ends with the leaderboard and where the report is.
demo: $(INSTALLED)
	$(BIN)/facex-tune run search_spaces/quick.yaml --run demo

lint: $(INSTALLED)
	$(BIN)/ruff check facex_tune tests
	$(BIN)/mypy

# The pages of docs/ as HTML, in build/docs/index.html. A warning is an error.
docs: $(INSTALLED)
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --editable '.[docs]'
	$(BIN)/python -m sphinx -W --keep-going docs build/docs

test: lint
	$(BIN)/python -m pytest -n 3 --dist loadfile $(TESTS)

# Drivers and workers killed, faults in the trials, damaged files: the full forms of what `make test` runs short, and those that it
# leaves out for their length. More than half an hour.
faults: $(INSTALLED)
	FACEX_FAULTS=full $(BIN)/python -m pytest -s tests/faults tests/runs/test_s3_store.py tests/search/test_search.py tests/search/test_resume.py \
	  tests/search/test_retrain.py tests/search/test_ray_session.py tests/search/test_thread_choice.py tests/pipeline/test_face_shapes.py

# A cluster of three hosts made of namespaces: searched on, hosts cut off and killed, its head killed. As root, with Debian's
# openssh-server, rsync and iproute2; a quarter of an hour.
e2e: $(INSTALLED)
	FACEX_E2E=full $(BIN)/python -m pytest tests/e2e

# What every model costs: parameters, MACs, images per second forward and in training, fp32 and bf16.
bench-train: $(INSTALLED)
	$(BIN)/python tests/benchmarks/throughput.py

# What saving each epoch costs where epochs are short beside their checkpoints.
bench-checkpoints: $(INSTALLED)
	$(BIN)/python tests/benchmarks/checkpoints.py

# How often 95 % intervals hold, over 1,000 simulated test sets of each kind (some minutes).
bench-coverage: $(INSTALLED)
	$(BIN)/python tests/benchmarks/coverage.py

# A factor study of trained networks on synthetic faces with a planted truth (some minutes).
bench-factors: $(INSTALLED)
	$(BIN)/python tests/benchmarks/planted_factors.py

# Ten minutes of damaged CSVs and zips. The suite runs some hundred of them.
fuzz: $(INSTALLED)
	$(BIN)/python tests/data/fuzz.py --seconds 600

# Planted copies of real faces, and sheets of what is flagged as a copy: DATA has fer2013_rows.npz, OUT is a folder elsewhere.
bench-copies: $(INSTALLED)
	$(BIN)/python tests/benchmarks/copies.py $(DATA) $(OUT)

# Time and memory of preparing, opening and auditing FER2013 and CK+: DATA has fer2013.zip, fer2013_rows.npz and ckplus.zip.
bench-data: $(INSTALLED)
	$(BIN)/python tests/benchmarks/preparing.py $(DATA)

# What each balancing strategy gains where classes are planted at 1:50; some ten minutes of one core.
bench-balance: $(INSTALLED)
	$(BIN)/python tests/benchmarks/imbalance.py

# What two recipes come to on FER2013 after ten minutes of one core each, five seeds: an hour and forty minutes of one core.
bench-courses: $(INSTALLED)
	$(BIN)/python tests/benchmarks/courses.py $(DATA) $(OUT)

# The search itself against Ray Tune's stock searcher and against random, on a simulated clock: table and plot.
bench-search: $(INSTALLED)
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --editable '.[bench]'
	$(BIN)/python tests/benchmarks/search.py --variants --jobs 2

# The search against others on recorded curves, SMAC3, Syne Tune, NePS and HEBO among them: gigabytes of environments, six core hours at most.
OPPONENTS := ours random random-asha stock hyperband smac syne-bore syne-cqr neps hebo hebo-asha
bench-opponents: $(INSTALLED)
	$(BIN)/python -m pip install --quiet --disable-pip-version-check uv
	$(BIN)/python tests/benchmarks/simulated_search.py --arms $(OPPONENTS) --core-hours 6 --make-environments

# The service with 200 runs, 50 watchers, slow clients and a storage that hangs. Beside another checkout, in turn:
# python tests/benchmarks/serve_load.py --code before=DIR --code after=.
bench-serve: $(INSTALLED)
	$(BIN)/python tests/benchmarks/serve_load.py

# What a report of 60 trials and three protocols costs. Beside another checkout, in turn:
# python tests/benchmarks/report_time.py --code before=DIR --code after=.
bench-report: $(INSTALLED)
	$(BIN)/python tests/benchmarks/report_time.py

# Suggestions, replay and Ray Tune's overhead at a thousand trials and more, without training.
bench-scale: $(INSTALLED)
	$(BIN)/python tests/benchmarks/scale.py --tune

# Your own data and runs stay; only the demo's run goes.
clean:
	rm -rf $(VENV) runs/demo build dist *.egg-info .mypy_cache .ruff_cache .pytest_cache .hypothesis
	find facex_tune tests -name __pycache__ -type d -prune -exec rm -rf {} +
