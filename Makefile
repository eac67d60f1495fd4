# Python for the virtual environment, 3.11 to 3.13.
PYTHON ?= python3
BIN := .venv/bin
# Packages that `gauntlet figures`, `tables` and `report` import when they read a results file.
LIGHT := duckdb jinja2 matplotlib numpy pillow pyarrow pydantic ruamel.yaml safetensors scipy typer
# Compiled modules are kept, so that importing torch is twice as fast.
unexport PYTHONDONTWRITEBYTECODE

.PHONY: run test check bench bench-data gpu lock setup light clean

run: setup ## the default experiment, to figures and report
	$(BIN)/snakemake --profile local
	@echo "figures: results/digits/figures   page: results/digits/report.html"

setup: .venv/installed ## a virtual environment from the hash-pinned lock

# uv itself comes from the lock too, by pip; uv then installs everything, many times faster. As pip does, it compiles what it
# installs; otherwise the first run would.
.venv/installed: envs/requirements.lock pyproject.toml
	$(PYTHON) -m venv .venv
	awk '/^[^ #]/ {selected = /^uv==/} selected' envs/requirements.lock > .venv/uv.lock
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --require-hashes -r .venv/uv.lock
	$(BIN)/uv pip sync --quiet --python $(BIN)/python --require-hashes --compile-bytecode envs/requirements.lock
	$(BIN)/uv pip install --quiet --python $(BIN)/python --no-build-isolation --no-deps -e .
	touch $@

light: .light/installed ## an environment without torch for results alone: .light/bin/gauntlet figures, tables, report FILE

# The versions are those of the lock.
.light/installed: envs/requirements.lock pyproject.toml
	$(PYTHON) -m venv .light
	sed -n 's/ *\\$$//; /^[a-z0-9._-]*==/p' envs/requirements.lock > .light/versions.txt
	.light/bin/python -m pip install --quiet --disable-pip-version-check --constraint .light/versions.txt $(LIGHT)
	.light/bin/python -m pip install --quiet --disable-pip-version-check --no-deps .
	touch $@

# The fast tests run in two processes of one thread each; the slow ones start processes of their own.
test: setup ## the fast tests; `make test ARGS=-m\ slow` for the others
	$(if $(ARGS),,OMP_NUM_THREADS=1) $(BIN)/python -m pytest $(or $(ARGS),-n 2 --dist worksteal -m "not slow")

check: setup ## style, types, import contracts, workflow
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/lint-imports
	$(BIN)/snakefmt --check workflow rules
	$(BIN)/snakemake --lint

# page.py needs a browser and cluster.py a SLURM; gpu.py has a target of its own.
bench: bench-data setup ## side-by-side speed measurements on the data in DATA=FOLDER and CIFAR10=FOLDER
	$(BIN)/python benchmarks/attacks.py --root "$(DATA)"
	$(BIN)/python benchmarks/training.py --root "$(DATA)" $(if $(CIFAR10),--cifar10 "$(CIFAR10)")
	$(if $(CIFAR10),$(BIN)/python benchmarks/resnets.py --cifar10 "$(CIFAR10)")
	$(BIN)/python benchmarks/smoothing.py --precisions
	$(BIN)/python benchmarks/data.py
	$(BIN)/python benchmarks/dry_run.py
	$(BIN)/python benchmarks/local.py
	$(BIN)/python benchmarks/summary.py --rows 1000000

bench-data:
	@$(if $(shell test -d "$(DATA)" && echo yes),:,$(error set DATA to the folder of MNIST and Fashion-MNIST as torchvision stores them: make bench DATA=FOLDER))

gpu: setup ## tests and measurements on a GPU, about ten minutes; writes docs/gpu.md
	$(BIN)/python -m pytest tests/gpu
	$(BIN)/python benchmarks/gpu.py

lock: ## renew envs/requirements.lock from pyproject.toml
	$(BIN)/uv pip compile --upgrade --universal --python-version 3.11 --generate-hashes --no-emit-index-url --extra dev \
	  --custom-compile-command "make lock" pyproject.toml -o envs/requirements.lock

clean: ## remove the results of runs and the virtual environments
	rm -rf .venv .light data results logs .snakemake
