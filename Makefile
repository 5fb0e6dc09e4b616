# Two commands matter: `make demo` runs the main job, `make test` passes the tests. Both install what they need.
PYTHON ?= python3
# On a machine without an NVIDIA card choose the CPU build of torch if your package index offers one.
TORCH  ?= torch==2.13.0
BIN    := .venv/bin
export HF_HUB_OFFLINE ?= 1

.PHONY: demo editor test test-core test-comfyui lint clean

demo: .venv/.installed
	$(BIN)/fantasyid demo --out out

editor: .venv-comfyui/.installed
	.venv-comfyui/bin/python tools/comfyui_server.py --port 8188

test: lint test-core test-comfyui

test-core: .venv/.installed
	$(BIN)/python -m pytest tests/core tests/parity

test-comfyui: .venv-comfyui/.installed
	.venv-comfyui/bin/python -m pytest tests/comfyui

lint: .venv/.installed
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy

.venv/.installed: pyproject.toml
	$(PYTHON) -m venv .venv
	$(BIN)/python -m pip install --quiet --upgrade pip
	$(BIN)/python -m pip install --quiet "$(TORCH)"
	$(BIN)/python -m pip install --quiet --editable ".[dev]"
	touch $@

.venv-comfyui/.installed: tools/comfyui_env.py requirements.txt
	$(PYTHON) tools/comfyui_env.py
	touch $@

clean:
	rm -rf .venv .venv-comfyui out build dist *.egg-info
