# Every target installs what it needs: `make table1` in a fresh clone is enough.
PYTHON ?= python3
SCALE ?= tiny
SEED ?= 0
PROTOCOL ?= paired
KILLS ?= 50
PORT ?= 5000
STUDY := $(SCALE)$(if $(filter released,$(PROTOCOL)),_released)
RUNS := runs/$(STUDY)
OUT := out/$(STUDY)
BIN := .venv/bin
# A misspelt word is refused before anything is installed, also where RUNS is given and the scale would not be looked at.
known = $(or $(filter $($(1)),$(2)),$(error there is no $(1)=$($(1)): wanted one of $(2)))
KNOWN := $(call known,SCALE,$(basename $(notdir $(wildcard bench/conf/scale/*.yaml))))
KNOWN += $(call known,PROTOCOL,$(basename $(notdir $(wildcard bench/conf/protocol/*.yaml))))
TABLES := $(BIN)/python -m paper_tables --runs $(RUNS) --out $(OUT)

export OMP_NUM_THREADS := 1
export MLFLOW_DISABLE_TELEMETRY := true

.PHONY: setup table1 ablation extra figures report study results test test-browser test-slurm faults lint ui perf

setup: .venv/.fresh

# torch first: with it in place no package asks for another build of it.
.venv/.fresh: requirements.lock pyproject.toml
	@echo "installing into .venv (a few minutes)"
	$(PYTHON) -m venv .venv
	$(BIN)/python -m pip install --quiet $$(grep '^torch==' requirements.lock)
	$(BIN)/python -m pip install --quiet -r requirements.lock
	$(BIN)/python -m pip install --quiet --no-deps -e .
	touch $@

table1: setup  ## train, judge and print the 13 rows; FORCE=1 repeats finished ones
	$(BIN)/python -m bench.suite table1 scale=$(SCALE) protocol=$(PROTOCOL) seed=$(SEED) runs=$(RUNS)
	$(TABLES)

ablation: setup  ## the four rows of Table 2 that Figure 7 needs beside Table 1
	$(BIN)/python -m bench.suite ablation scale=$(SCALE) protocol=$(PROTOCOL) seed=$(SEED) runs=$(RUNS)
	$(TABLES)

extra: setup  ## rows beside Table 1: FlowGRPO with its KL, GRPO-Guard's two other readings
	$(BIN)/python -m bench.suite extra scale=$(SCALE) protocol=$(PROTOCOL) seed=$(SEED) runs=$(RUNS)
	$(TABLES)

figures: setup  ## redraw table and figures from stored runs
	$(TABLES)

# Of RUNS where that is given, else of one's own runs where there are any, else of the committed study, whose page has a
# folder of its own: neither overwrites the other.
COMMITTED := results/tiny/cells
REPORTED = $(if $(filter file,$(origin RUNS)),$(or $(wildcard $(RUNS)),$(COMMITTED)),$(RUNS))
OF_COMMITTED = $(filter $(abspath $(COMMITTED)),$(abspath $(REPORTED)))
report: OUT = $(if $(OF_COMMITTED),out/study,out/$(STUDY))
report: setup  ## a page of it all, OUT/report/index.html, to be opened in a browser; RUNS=FOLDER OUT=FOLDER choose others
	@$(if $(OF_COMMITTED),echo "this is of the committed study$(if $(filter file,$(origin RUNS)),: no runs of your own in $(RUNS))")
	$(BIN)/python -m paper_tables report --runs $(REPORTED) --out $(OUT)

STUDIED := $(BIN)/python -m bench.study $(if $(SEEDS),--seeds $(SEEDS)) $(if $(ROWS),--rows $(ROWS)) $(if $(HOURS),--hours $(HOURS))
study: setup  ## the committed study: what has no cell in results/tiny is trained; SEEDS=0,1,2 ROWS=A,B HOURS=3 SETTINGS=rate_third
	$(STUDIED) $(if $(SETTINGS),--settings $(SETTINGS))
	$(MAKE) results

results: setup  ## tables, figures, statistics and claims of the committed study, from its cells
	set -e; for what in tables statistics claims; do $(BIN)/python -m paper_tables $$what --runs results/tiny/cells --out results/tiny; done

# Three on two cores: tests wait for processes that they start.
test: setup
	$(BIN)/python -m pytest -q -n 3 --dist loadfile --no-loadscope-reorder -m "not slurm and not browser" tests

test-browser: setup  ## the report and MLflow in a real Chromium: Debian's chromium, or CHROMIUM=FILE, or they are skipped
	$(BIN)/python -m pytest -q -n 2 --dist loadfile -m browser -rs tests/test_report_page.py tests/test_ledger_browser.py

test-slurm: setup  ## on a real Slurm that the tests start: Debian's slurmctld, slurmd and slurm-client, or they are skipped
	$(BIN)/python -m pytest -q -n 2 --dist loadfile -m slurm -rs tests/test_slurm.py tests/test_slurm_jobs.py

faults: setup  ## small runs through KILLS=50 SIGKILLs, compared byte for byte with undisturbed ones; SEED of the moments
	PYTHONPATH=tests $(BIN)/python -W ignore:resource_tracker -m fault_run --kills $(KILLS) --seed $(SEED)

lint: setup
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/lint-imports
	@if command -v shellcheck > /dev/null; then shellcheck -x slurm/*.sh .ci/run; else echo "no shellcheck: scripts are not checked"; fi

ui: setup  ## MLflow's pages at http://127.0.0.1:5000, and links to the charts where proxy and gold part; PORT= moves them
	-$(BIN)/python -m bench.ledger reconcile $(RUNS) --out $(OUT)
	$(BIN)/python -m bench.ledger links $(RUNS) --page http://127.0.0.1:$(PORT)
	MLFLOW_SERVER_ENABLE_JOB_EXECUTION=false $(BIN)/mlflow ui --workers 1 --port $(PORT) --backend-store-uri sqlite:///$(RUNS)/mlflow.db

# glibc then keeps freed memory; otherwise each large batch begins with page faults, which are timed too.
perf: export MALLOC_TRIM_THRESHOLD_ := 8000000000
perf: export MALLOC_MMAP_THRESHOLD_ := 4000000000
perf: setup  ## speed of the runner; FLOW_GRPO_DIR=FOLDER compares it with the official code
	$(BIN)/python -m bench.perf
