# make            everything into .venv, with the newest Python from 3.11 to 3.14 that is here; make PYTHON=python3.12 names one
# make help       what else there is

.DEFAULT_GOAL := install
.PHONY: install demo check test lint types coverage verify studies study-pretraining gpu picture docs wheel lowest release-notes constraints clean help

# The newest that fits, starts (a version manager's name may not) and can make environments (Debian keeps that in a package of its own).
FITS := import ensurepip, sys, venv; sys.exit(not (3, 11) <= sys.version_info[:2] <= (3, 14))
PYTHON ?= $(shell for p in python3.14 python3.13 python3.12 python3.11 python3; do $$p -c '$(FITS)' 2>/dev/null && echo $$p && break; done)
BIN := .venv/bin
INSTALLED := .venv/installed

# Compiled imports are four times faster, and Ray and MLflow start processes that import much: an empty value means "write them".
export PYTHONDONTWRITEBYTECODE :=
# One thread each: the numbers of a job belong to its thread count, and tests run side by side.
export OMP_NUM_THREADS ?= 1
# Quiet and offline.
export NO_ALBUMENTATIONS_UPDATE := 1
export RAY_USAGE_STATS_ENABLED := 0
export MLFLOW_DISABLE_TELEMETRY := true

install: $(INSTALLED)  ## LOBE and everything it needs, into .venv
	@:

$(INSTALLED): pyproject.toml constraints.txt
	@python='$(PYTHON)'; $(BIN)/python -m pip --version >/dev/null 2>&1 || { \
		"$$python" -c '$(FITS)' 2>/dev/null || { echo "LOBE needs Python 3.11 to 3.14 with its venv module; found: $${python:-none}. \
	Install one (Debian and Ubuntu: apt install python3 python3-venv), or name it: make PYTHON=/path/to/python3.12" >&2; exit 1; }; \
		"$$python" -m venv --clear .venv; }
	@$(BIN)/python -m pip install --quiet --disable-pip-version-check -c constraints.txt uv
	$(BIN)/uv pip install --python $(BIN)/python --compile-bytecode -c constraints.txt -e '.[dev,demo,docs]'
	@touch $@
	@echo 'Installed. Next: make demo'

demo: install  ## the newcomer's journey: phantom data, real heads, a leaderboard
	$(BIN)/lobe demo

lint: install  ## ruff, and the rule that imports only go down
	$(BIN)/ruff check .
	$(BIN)/lint-imports

types: install  ## mypy over the package, without an error
	$(BIN)/python -m mypy

check: lint types  ## before each commit, under two minutes: linters, types, and the tests that need no torch
	$(BIN)/python -m tests.torch_free -q -n 2 --dist loadfile

# Three at a time, also on two cores: tests that wait, for Ray or a server, leave theirs to the others.
test: lint  ## what CI runs
	$(BIN)/python -m pytest -n 3 --dist loadfile --no-loadscope-reorder

coverage: install  ## the tests once more, and which lines none of them runs: pages in build/coverage, and with reasons docs/coverage.md
	$(BIN)/python -m pytest -n 2 --dist loadfile --no-loadscope-reorder --cov --cov-report=html --cov-report=json:build/coverage.json
	$(BIN)/python -m tests.coverage_page build/coverage.json

verify: install  ## the long checks, of which `make test` has the miniatures: all examples of property tests, then two side by side, then one alone
	@began=$$(date +%s); failed=0; set -x; \
	$(BIN)/python -m pytest -m 'hypothesis and not slow' --hypothesis-profile all -n 2 --dist loadfile || failed=1; \
	$(BIN)/python -m pytest -m 'slow and not study and not alone' -n 2 --dist loadfile || failed=1; \
	$(BIN)/python -m pytest -m 'slow and not study and alone' || failed=1; \
	$(BIN)/python -m tests.verification $$(($$(date +%s) - began)) $$failed || failed=1; \
	exit $$failed

studies: install  ## measured anew for their pages: is a better backbone seen, do text tasks see what pairs taught, what does each switch do, do p-values hold
	$(BIN)/python -m pytest -m study

study-pretraining: install  ## five methods and ConVIRT on generated pairs, three seeds each, on two cores, onto docs/pretraining-study/study.md
	test -d lobe-study/data/mimic-cxr || $(BIN)/lobe data sample lobe-study/data --dataset mimic-cxr --patients 500
	test -d lobe-study/data/rsna || $(BIN)/lobe data sample lobe-study/data --dataset rsna --patients 240
	test -d lobe-study/data/ms-cxr || $(BIN)/lobe data sample lobe-study/data --dataset ms-cxr --patients 120
	$(BIN)/lobe study phantom --data lobe-study/data --out lobe-study --workers 2
	mkdir -p docs/pretraining-study
	rm -f docs/pretraining-study/*
	cp lobe-study/study/study.md lobe-study/study/study.csv lobe-study/study/*.svg docs/pretraining-study/

gpu: install  ## at most ten minutes on this machine's GPU, onto docs/gpu.md; without one a miniature on the CPU
	$(BIN)/python -m tests.perf.gpu_check --out lobe-gpu --page docs/gpu.md

picture: install  ## docs/leaderboard.png, from what it holds or, with DEMO=lobe-demo, from a demo's folder; needs Chromium
	$(BIN)/python -m tests.picture $(DEMO)

docs: install  ## the documentation site, into build/site: open build/site/index.html; a warning ends it
	NO_MKDOCS_2_WARNING=1 $(BIN)/python -m mkdocs build --strict
	@echo 'Built: open build/site/index.html'

wheel: install  ## the distribution, into dist/
	$(BIN)/uv build --python $(BIN)/python --wheel --out-dir dist

# Without constraints.txt: what pip may choose, and nobody had installed. The tests are those of `make check`, which need no torch at all.
lowest: install  ## the oldest versions pyproject.toml allows of what it names, in build/lowest, and the tests that need no torch
	mkdir -p build
	$(BIN)/uv pip compile pyproject.toml --extra all --extra dev --extra demo --extra docs --resolution lowest-direct --python-version 3.11 \
		--quiet --no-header --no-annotate --output-file build/lowest.txt
	$(BIN)/uv venv --quiet --clear --python 3.11 build/lowest
	$(BIN)/uv pip install --quiet --python build/lowest/bin/python -r build/lowest.txt
	$(BIN)/uv pip install --quiet --python build/lowest/bin/python --no-deps -e .
	build/lowest/bin/lobe list tasks --json > build/lowest-tasks.json
	build/lowest/bin/python -m tests.torch_free -q -n 2 --dist loadfile

release-notes: install  ## notes of this version from CHANGELOG.md, into build/release-notes.md; TAG=v0.1.0 must be of the same version
	@mkdir -p build
	$(BIN)/python -m tests.release_notes $(TAG) > build/release-notes.md

constraints: install  ## newest versions pyproject.toml allows, into constraints.txt
	{ grep '^#' constraints.txt; $(BIN)/uv pip compile pyproject.toml --extra dev --extra demo --extra docs --universal --python-version 3.11 \
		--quiet --no-header --no-annotate | sed -E 's/ ; \(*(sys_platform|platform_|implementation_).*//'; } > constraints.new
	mv constraints.new constraints.txt

clean:  ## what tools left behind; keeps .venv, results and caches of data
	rm -rf build dist *.egg-info .pytest_cache .coverage* .mypy_cache .ruff_cache .hypothesis .import_linter_cache
	find benchmark tests -name __pycache__ -type d -prune -exec rm -rf {} +

help:
	@awk -F ':.*## +' '/^[a-z-]+:.*## / { printf "make %-18s %s\n", $$1, $$2 }' Makefile
