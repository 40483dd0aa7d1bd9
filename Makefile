# Dino Wallet: `make run` serves it, `make test` tests it. Both honour PORT, DATABASE_URL and WALLET_DATA_DIR.

PYTHON ?= python3
BIN := .venv/bin
# Tests start a hundred programs and rewrite their own modules: what Python compiled is kept, whatever the environment says.
PYTEST := env -u PYTHONDONTWRITEBYTECODE $(BIN)/python -m pytest
# In an empty environment Python would not even know where it is itself.
PATH ?= /usr/local/bin:/usr/bin:/bin
export PATH

.PHONY: run test test-all check lock clean setup setup-dev setup-bench python bench bench-growth bench-pages bench-servers drill

# exec, because a signal for make's child must reach the service and not a shell in between.
run: setup
	@exec $(BIN)/python serve.py

# At most five minutes on two cores.
test: check
	$(PYTEST) -n 2 --dist loadfile -rs -m "not slow and not wide"

# What needs more: every case of something, minutes, another server or another program. What is not installed is left out and said, but not in CI.
test-all: setup-bench
	$(PYTEST) -n 2 --dist loadfile -rs -m "wide and not slow"
	$(PYTEST) -n 2 --dist loadfile -rs -m "slow and not long" tests/api tests/console
# What starts, kills and measures programs has the machine for itself.
	$(PYTEST) -rs -m "slow and not long" --ignore=tests/api --ignore=tests/console
# On the oldest PostgreSQL: the service and its verification; every page, every command, and a walk through the console's forms.
	$(BIN)/python scripts/with_postgres15.py $(PYTEST) -n 2 --dist loadfile -m "not slow and not wide" tests/kernel tests/test_*.py
	$(BIN)/python scripts/with_postgres15.py $(PYTEST) -n 2 --dist loadfile -m "not slow" tests/test_verify_*.py tests/test_reports.py \
		tests/kernel/test_several_processes.py tests/api/test_model_mixed.py tests/console/test_page_statements.py \
		tests/console/test_random_walk.py

# The service beside pgbench, a quarter of an hour; `make bench BENCH="--quick"` tries it out, BENCH="--help" tells more.
bench: setup-bench
	@$(BIN)/python -m bench $(BENCH)

# Other ways to serve the application, beside ours; some minutes.
bench-servers: setup-bench
	@$(BIN)/python -m bench.servers $(BENCH)

# The same work on 10^4, 10^6 and 10^7 entries, an hour; BENCH="--up-to 1e6" is the shorter one.
bench-growth: setup-bench
	@$(BIN)/python -m bench.growth $(BENCH)

# Every page of the console and every list of the API with much of everything, a quarter of an hour.
bench-pages: setup-bench
	@$(BIN)/python -m bench.pages $(BENCH)

# Kills under load, twenty of each kind, a quarter of an hour; then a minute of storms on the console's sign-in, and for
# another quarter of an hour what test-all looks for in less: long runs of the models and of Schemathesis.
# DRILL="--kills 1" tries the kills out, DRILL="--help" tells more.
drill: setup-dev
	@$(BIN)/python -m drill $(DRILL)
ifeq ($(strip $(DRILL)),)
	@$(BIN)/python -m drill.sign_ins
	@$(PYTEST) -rs -m long
endif

check: setup-dev
	$(BIN)/python -m ruff check .
	$(BIN)/python -m ruff format --check .
	$(BIN)/python -m mypy
	$(BIN)/lint-imports

setup: python
	@"$(PYTHON)" scripts/setup_venv.py requirements.txt

setup-dev: python
	@"$(PYTHON)" scripts/setup_venv.py requirements.txt requirements-dev.txt

setup-bench: python
	@"$(PYTHON)" scripts/setup_venv.py requirements.txt requirements-dev.txt requirements-bench.txt

python:
	@command -v "$(PYTHON)" >/dev/null 2>&1 || { echo "Dino Wallet cannot be set up: there is no $(PYTHON). Install Python 3.11 or later (on Debian or Ubuntu: apt install python3 python3-venv)." >&2; exit 1; }
	@"$(PYTHON)" -c 'import sys; sys.exit(sys.version_info < (3, 11))' || { echo "Dino Wallet cannot be set up: $(PYTHON) is older than Python 3.11. Install a later one and name it, as in: make run PYTHON=python3.12" >&2; exit 1; }

# Pins every package for every platform by its hashes; for whoever changes a requirements*.in.
lock: .cache/uv/bin/uv
	$< $(PIN) requirements.in -o requirements.txt
	$< $(PIN) requirements-dev.in -o requirements-dev.txt
	$< $(PIN) requirements-bench.in -o requirements-bench.txt

PIN = pip compile --quiet --universal --python-version 3.11 --generate-hashes --no-emit-index-url --no-annotate \
	--custom-compile-command "make lock"

.cache/uv/bin/uv: | python
	"$(PYTHON)" -m venv .cache/uv
	.cache/uv/bin/python -m pip install --quiet --disable-pip-version-check uv

# What can be made again; never the data.
clean:
	rm -rf .venv .cache .pytest_cache .mypy_cache .ruff_cache .hypothesis .import_linter_cache
	find . -name __pycache__ -type d -prune -exec rm -rf {} +
