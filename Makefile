# make demo    runs the bundled example from nothing to results; TRAINER=trl: with TRL, in a folder of its own
# make test    sets up what the tests need and passes them

PYTHON ?= python3
BIN := .venv/bin
SETUP := .venv/.setup
TRAINER := torchtune
DEMO := examples/capitalization$(addprefix -,$(filter-out torchtune,$(TRAINER)))
# Tests of a file run in one process, since they share what one of them makes; files in the order of tests/conftest.py.
SPREAD := --dist loadfile --no-loadscope-reorder

# An environment with TRL as its only trainer.
MODERN := .venv-modern

.PHONY: demo setup test test-fast test-modern test-slurm test-gpu soak bench check format docs clean

demo: setup
	$(BIN)/python examples/capitalization/prepare.py $(TRAINER)
	$(BIN)/snakemake --profile profiles/local --config experiment_dir=$(DEMO)
	cat $(DEMO)/results/summary.md

setup: $(SETUP)

$(SETUP): pyproject.toml
	$(PYTHON) -c 'import sys; sys.exit("Python 3.11 or newer is needed" if sys.version_info < (3, 11) else 0)'
	$(PYTHON) -m venv .venv
	$(BIN)/pip install --disable-pip-version-check --quiet --editable ".[dev]"
	touch $(SETUP)

test: test-fast test-slurm

# Without SLURM: parts, plans, training and evaluation, the workflow on this machine.
test-fast: setup
	$(BIN)/pytest --numprocesses 2 $(SPREAD) --ignore tests/slurm

# The same in an environment of its own with TRL and transformers 5, without what needs torchtune; `TESTS=tests/train`
# runs some of it.
test-modern: $(MODERN)/.setup
	$(MODERN)/bin/pytest --numprocesses 2 $(SPREAD) -m "not torchtune" --ignore tests/slurm $(TESTS)

$(MODERN)/.setup: pyproject.toml tests/modern-versions.txt
	$(PYTHON) -m venv $(MODERN)
	$(MODERN)/bin/pip install --disable-pip-version-check --quiet --constraint tests/modern-versions.txt \
	    --editable ".[train-trl,example,export,test]"
	touch $(MODERN)/.setup

# On a real SLURM of two nodes, on this machine and beside any other; needs root and Debian's packages. These tests
# mostly wait.
test-slurm: setup
	tests/slurm/cluster up
	$(BIN)/pytest --numprocesses 6 --dist loadgroup --no-loadscope-reorder tests/slurm

# On a machine with an NVIDIA GPU and nothing else set up. vLLM gets an environment of its own if it can be installed;
# the end of the output says what was measured, and what could not be run.
test-gpu:
	@nvidia-smi -L || { echo "make test-gpu needs an NVIDIA GPU, and nvidia-smi finds none: nothing was tested"; exit 1; }
	@$(MAKE) setup
	@[ -x .venv-vllm/bin/vllm ] || { $(PYTHON) -m venv .venv-vllm && .venv-vllm/bin/pip install --disable-pip-version-check --quiet vllm; } \
		|| echo "vLLM cannot be installed: its tests are not run"
	RUN_EXPERIMENT_TEST_GPU=1 \
	RUN_EXPERIMENT_TEST_VLLM="$$([ -x .venv-vllm/bin/vllm ] && echo "source $$PWD/.venv-vllm/bin/activate")" \
	$(BIN)/pytest tests/gpu

# An experiment of job arrays and shared jobs to which everything happens, and whose main process is killed 20 times, in
# about 6 minutes, on a cluster of its own. `make soak SEED=N` draws again what happened with that seed; `FORM=alone` has
# a job for each target; `FORM=short` is a smaller one of about 2 minutes, which `test-slurm` has with one seed.
soak: setup
	RUN_EXPERIMENT_SOAK=$(or $(FORM),long) RUN_EXPERIMENT_SOAK_SEED=$(or $(SEED),random) $(BIN)/pytest --capture no tests/slurm/test_soak.py

# How fast it is, on that cluster and in planning; exit status 1 if a goal is missed.
bench: setup
	$(BIN)/python benchmarks/bench.py

check: setup
	$(BIN)/ruff check . tests/slurm/cluster
	$(BIN)/ruff format --check . tests/slurm/cluster
	$(BIN)/mypy
	$(BIN)/snakefmt --check Snakefile rules
	$(BIN)/python tests/lint.py

format: setup
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .
	$(BIN)/snakefmt Snakefile rules

docs: setup
	$(BIN)/python -m run_experiment.summary.docs
	$(BIN)/python -m run_experiment.trainers.docs

clean:
	rm -rf .venv .venv-modern .venv-vllm .pytest_cache .mypy_cache .ruff_cache
