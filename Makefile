# Thin on purpose: this makes the environment once, and the `fairlift` command does the work.
#   make book                 the demo, executed and published to _build/html
#   make test                 everything: unit tests, doctests, notebooks, the book in a browser
#   make run STUDY=my-study   the same for your own study
# Name an interpreter with PYTHON=/path/to/python3.12, and go without uv with UV= .

UV := $(shell command -v uv 2>/dev/null)
BIN := .venv/bin
READY := .venv/.ready

.PHONY: book test run bench clean

book: $(READY)
	@$(BIN)/fairlift book

test: $(READY)
	@$(BIN)/python -m pytest

run: $(READY)
	@test -n "$(STUDY)" || { echo "Which study? make run STUDY=path/to/study" >&2; exit 2; }
	@$(BIN)/fairlift run "$(STUDY)"

bench: $(READY)
	@set -e; for name in moments simulate notebooks decisions; do echo "$$name"; $(BIN)/python "benchmarks/$$name.py"; done; $(BIN)/python -m benchmarks.calibration

clean:
	rm -rf _build data/demo/out data/demo/tables build .pytest_cache .ruff_cache .hypothesis
	@echo "Kept .venv; remove it with: rm -rf .venv"

$(READY): requirements.txt pyproject.toml
	@set -e; found=; \
	for try in $(or $(PYTHON),python3.13 python3.12 python3.11 python3 python); do \
	  if "$$try" -c 'import sys; sys.exit(sys.version_info < (3, 11))' >/dev/null 2>&1; then found=$$try; break; fi; \
	done; \
	if [ -z "$$found" ]; then \
	  echo "Fairlift needs Python 3.11 or newer, and $(or $(PYTHON),the PATH) has none." >&2; \
	  echo "Install one, or name it: make book PYTHON=/path/to/python3.12" >&2; exit 1; \
	fi; \
	echo "Setting up .venv with $$("$$found" --version) from requirements.txt (once)"; \
	if [ -n "$(UV)" ]; then \
	  test -x $(BIN)/python || "$(UV)" venv --quiet --python "$$found" .venv; \
	  install="$(UV) pip install --quiet --compile-bytecode --python $(BIN)/python"; \
	else \
	  $(BIN)/python -m pip --version >/dev/null 2>&1 || "$$found" -m venv .venv; \
	  install="$(BIN)/python -m pip install --quiet --disable-pip-version-check"; \
	fi; \
	$$install -r requirements.txt; \
	$$install --no-deps --no-build-isolation -e .; \
	touch $(READY)
