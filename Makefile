# make demo   one network, exported to FP16 and run on a real picture
# make test   what every change must pass
# make lint   style and types only
# make report the three shipped networks in every precision at two sizes, as one HTML page (17 minutes on two cores)
# make weights  train the shipped weights again (hours; needs Debian's wallpaper packages)
# make clean  remove what the targets above wrote

PYTHON ?= python3
# A process per core, each file of tests in one of them: fixtures trace networks once per file.
PYTEST_ARGS ?= -q -rs --durations=20 -n auto --dist loadfile --no-loadscope-reorder

BIN := .venv/bin
STAMP := .venv/.installed
DEMO := build/demo
BUNDLE := $(DEMO)/exda-tiny-fp16-256x256.edgeir

.DELETE_ON_ERROR:
.PHONY: demo test lint report weights clean install

demo: $(BUNDLE)/manifest.json
	$(BIN)/edgeir run $(BUNDLE) "$$($(BIN)/python -m edgeir.imaging.measuring astronaut)" -o $(DEMO)/restored.png
	@echo
	@echo "Look at:"
	@echo "  $(DEMO)/restored.png        the picture, restored"
	@echo "  $(BUNDLE)/report.html       what FP16 cost, and where"
	@echo "  $(BUNDLE)/manifest.json     every file with its hash"

$(BUNDLE)/manifest.json: | $(STAMP)
	mkdir -p $(DEMO)
	$(BIN)/edgeir export --model exda-tiny --fp16 --out $(DEMO)

test: lint
	OMP_NUM_THREADS=1 $(BIN)/python -m pytest $(PYTEST_ARGS)

lint: $(STAMP)
	$(BIN)/ruff check .
	$(BIN)/python tools/links.py
	$(BIN)/mypy -p edgeir

# It goes on where it was stopped. Calibration wants clean pictures: those of Debian's wallpaper packages.
report: build/data/photographs
	$(BIN)/edgeir sweep tiny --calibration build/data/photographs/held-out --jobs 2 --out build/tiny.sweep
	@echo
	@echo "Look at build/tiny.sweep/report.html"

# One process per core is faster than one process with a thread per core. A run that was stopped goes on.
TRAINED := exda-tiny cea-tiny kgt-tiny
HARDWARE ?= $(shell getconf _NPROCESSORS_ONLN) CPU cores

weights: $(TRAINED:%=build/runs/%.published)
	$(BIN)/python -m benchmarks.restoration --out benchmarks/results/restoration-cpu.json
	$(BIN)/python tools/model_cards.py

build/data/photographs: | $(STAMP)
	$(BIN)/python -m edgeir.train.photographs $@

# $(call train,RECIPE,RUN)
train = OMP_NUM_THREADS=1 $(BIN)/torchrun --nproc-per-node 2 --no-python $(BIN)/edgeir train $(1) \
		--data build/data --out build/runs/$(2) $$(test ! -f build/runs/$(2)/state.pt || echo --resume)
publish = $(BIN)/python -m edgeir.train.publish --hardware "$(HARDWARE)"

build/runs/%.published: | build/data/photographs
	$(call train,synthetic-$*,$*)
	$(publish) build/runs/$* --to edgeir/models/weights
	touch $@

# $(call part,NUMBER,RECIPE,WEIGHTS,NUMBER BEFORE): train, record, and leave the last weights where the next part looks.
define part
	$(call train,$(2),exda-tiny-$(1))
	$(publish) build/runs/exda-tiny-$(1) --keep latest $(if $(4),--before build/runs/exda-tiny-$(4)/exda-tiny.json) \
		--to build/runs/exda-tiny-$(1)
	cp build/runs/exda-tiny-$(1)/latest.safetensors build/data/$(3)
endef

# exda-tiny is trained in six parts: each begins with the last weights of the one before, the sixth with the mean of the
# third's and the fifth's; and shipped is the mean of the fifth's and the sixth's.
build/runs/exda-tiny.published: | build/data/photographs
	$(call part,1,synthetic-exda-tiny,exda-tiny.safetensors,)
	$(call part,2,synthetic-exda-tiny-detail,exda-tiny-2.safetensors,1)
	$(call part,3,synthetic-exda-tiny-weak,exda-tiny-3.safetensors,2)
	$(call part,4,synthetic-exda-tiny-haze,exda-tiny-4.safetensors,3)
	$(call part,5,synthetic-exda-tiny-colour,exda-tiny-5.safetensors,4)
	$(call train,synthetic-exda-tiny-mean,exda-tiny-6)
	$(publish) build/runs/exda-tiny-6 --keep latest --before build/runs/exda-tiny-5/exda-tiny.json \
		--average-with build/runs/exda-tiny-5/exda-tiny.safetensors --to edgeir/models/weights
	touch $@

install: $(STAMP)

# The second time this is quick: it runs again only when the dependencies changed.
$(STAMP): pyproject.toml constraints.txt
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 10))' \
		|| { echo "edgeir needs Python 3.10 or newer: make PYTHON=/path/to/python3 $(MAKECMDGOALS)"; exit 3; }
	test -x $(BIN)/python || $(PYTHON) -m venv .venv
	$(BIN)/python -m pip install --quiet --disable-pip-version-check -c constraints.txt -e '.[export,train,rtx,dev]'
	touch $@

clean:
	rm -rf build .links .mypy_cache .pytest_cache .ruff_cache .venv
