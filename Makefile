# Two commands matter: `make demo` runs the main job, `make test` passes the tests. Both install what they need.
PYTHON ?= python3
# On a machine without an NVIDIA card choose the CPU build of torch if your package index offers one.
TORCH  ?= torch==2.13.0
BIN    := .venv/bin
export HF_HUB_OFFLINE ?= 1

.PHONY: browser demo editor embedder mini paper-table test test-core test-comfyui lint clean

demo: .venv/.installed
	$(BIN)/fantasyid demo --out out

editor: .venv-comfyui/.installed
	.venv-comfyui/bin/python tools/comfyui_server.py --port 8188

# Train the mini from nothing (docs/training.md); every part goes on where it stopped.
RUN ?= run
CLIPS ?= 8192
VAE_STEPS ?= 3600
TEXT_STEPS ?= 2000
IDENTITY_STEPS ?= 30000
mini: .venv/.installed
	$(BIN)/fantasyid train data --out $(RUN)/data --clips $(CLIPS) --seed 1
	$(BIN)/fantasyid train vae --data $(RUN)/data --out $(RUN)/vae --steps $(VAE_STEPS) --batch 8 \
		--learning-rate 0.001 --optimiser muon --schedule cosine --warmup 30 --ema 0.995
	$(BIN)/fantasyid train latents --data $(RUN)/data --vae $(RUN)/vae --close-up --out $(RUN)/latents
	$(BIN)/fantasyid train video --data $(RUN)/latents --vae $(RUN)/vae --stage text --out $(RUN)/text \
		--steps $(TEXT_STEPS) --optimiser muon --ema 0.995 --compile
	$(BIN)/fantasyid train video --data $(RUN)/latents --start $(RUN)/text/mini.safetensors --out $(RUN)/identity \
		--steps $(IDENTITY_STEPS) --noises 4 --pictures 0.5 --reference-dropout 0.2 --learning-rate 0.004 \
		--optimiser muon --schedule cosine --ema 0.998 --compile

# The network that reads drawn heads for the metrics (docs/metrics.md), from the clips of `make mini`.
EMBEDDER_STEPS ?= 3000
embedder: .venv/.installed
	$(BIN)/fantasyid train embedder --data $(RUN)/data --vae fantasyid_core/assets/mini.safetensors \
		--out $(RUN)/embedder --steps $(EMBEDDER_STEPS) --optimiser muon --schedule cosine --ema 0.995

# The paper's ablations in small, from what `make mini` left in RUN (hours on a CPU; goes on where it stopped).
TABLE_STEPS ?= 600
paper-table: .venv/.installed
	$(BIN)/fantasyid train data --out $(RUN)/held-out --clips 192 --seed 2
	$(BIN)/fantasyid train latents --data $(RUN)/held-out --vae $(RUN)/vae --close-up --out $(RUN)/held-out-latents
	$(BIN)/python -m benchmarks.paper_table --latents $(RUN)/latents --text $(RUN)/text/mini.safetensors \
		--held-out $(RUN)/held-out --held-out-latents $(RUN)/held-out-latents --out $(RUN)/table --steps $(TABLE_STEPS) --compile

test: lint test-core test-comfyui

test-core: .venv/.installed
	$(BIN)/python -m pytest tests/core tests/parity

test-comfyui: .venv-comfyui/.installed
	.venv-comfyui/bin/python -m pytest tests/comfyui

# The nodes in a real browser, two frontends, both renderers; needs Node.js and Chromium (an hour; look at out/browser).
browser: .venv-comfyui/.installed
	npm install --no-save --silent playwright-core
	.venv-comfyui/bin/python tools/browser_check.py

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
