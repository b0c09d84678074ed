# Everything runs in this folder's own environment. `make demo` and `make test` prepare it on first use.
VENV ?= .venv
PY := $(VENV)/bin/python
INTEROP := .venv-interop
export PATH := $(CURDIR)/$(VENV)/bin:$(PATH)
export RAY_USAGE_STATS_ENABLED := 0

.PHONY: demo test test-gpu test-all bench lint format recipes test-interop constraints clean

$(VENV)/ready: pyproject.toml constraints.txt
	test -x $(PY) || python3 -m venv $(VENV)
	# torch first: a plain resolve would take the build with CUDA.
	$(PY) -m pip install --quiet --disable-pip-version-check -c constraints.txt torch==2.13.0
	$(PY) -m pip install --quiet --disable-pip-version-check -c constraints.txt -e ".[dev]"
	touch $@

demo: $(VENV)/ready
	$(PY) -m dlsvc.demo

lint: $(VENV)/ready
	ruff format --check .
	ruff check .
	mypy

format: $(VENV)/ready
	ruff format .
	ruff check --fix .

# Two processes, each with a Ray of its own; tests/conftest.py says which tests stay together and which come first.
TWO := -n 2 --dist loadfile --no-loadscope-reorder

test: lint
	$(PY) -m pytest $(TWO) -m "not slow and not bench and not gpu"

# On a machine with a GPU and a torch that sees it.
test-gpu: $(VENV)/ready
	$(PY) -m pytest -m gpu tests/gpu

test-all: lint
	$(PY) -m pytest $(TWO) -m "not bench and not gpu"

bench: $(VENV)/ready
	$(PY) -m pytest -m bench -s

# Hours; stopped, it goes on where it was. Rewrites the recipes' heads and the README's table.
recipes: $(VENV)/ready
	$(PY) -m tests.recipes $(ONLY)

# In an environment of its own: what we compare with is large, and not all of it keeps to our pins.
test-interop:
	$(MAKE) VENV=$(INTEROP) $(INTEROP)/ready
	$(INTEROP)/bin/python -m pip install --quiet --disable-pip-version-check -c constraints.txt -c constraints-interop.txt -e ".[dev,interop]"
	# timm asks for torchvision, whose requirements would bring CUDA along; tests/interop/conftest.py lets it be imported.
	$(INTEROP)/bin/python -m pip install --quiet --disable-pip-version-check --no-deps -c constraints-interop.txt timm torchvision
	$(INTEROP)/bin/python -m pytest tests/interop tests/augment tests/data/test_audio_input.py

constraints: $(VENV)/ready
	(echo "# Exact versions of everything installed, so that a fresh environment is this one. Made with \`make constraints\`."; \
	  $(PY) -m pip freeze --exclude-editable | grep -v "^torch=="; echo "torch==2.13.0") | sort -f > constraints.txt

clean:
	rm -rf $(VENV) $(INTEROP) .pytest_cache .mypy_cache .ruff_cache demo-out
