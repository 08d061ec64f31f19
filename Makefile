# Two commands do everything: `make demo` and `make test`. The first use makes .venv.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
APT_TEST := dcmtk dicom3tools openssl default-jdk-headless pixelmed-apps orthanc orthanc-dicomweb \
  chromium fonts-dejavu-core nodejs npm postgresql systemd
# So many test files run beside each other, the slow folders first.
JOBS ?= 2
KEEP ?=
IMAGES ?=

.PHONY: demo test lint help clean
help:
	@echo "make demo           start the node and a small PACS, send four studies, show what happens"
	@echo "make demo KEEP=1    the same, and leave it running"
	@echo "make demo IMAGES=DIR   send your own DICOM files instead"
	@echo "make test           install what the tests need and run all of them"
	@echo "make test JOBS=4    the same, with four test files beside each other"

demo: $(VENV)/.installed
	@$(BIN)/dicom-node demo $(if $(KEEP),--keep) $(if $(IMAGES),--images $(IMAGES))

test: $(VENV)/.installed-dev peers lint
	@$(BIN)/python -m pytest -n $(JOBS) --dist loadfile --no-loadscope-reorder $(PYTEST_ARGS)

lint: $(VENV)/.installed-dev
	@$(BIN)/ruff check . && $(BIN)/ruff format --check . && $(BIN)/mypy && $(BIN)/lint-imports

# The real programs that the integration tests talk to: DCMTK, dicom3tools, Orthanc, OHIF in Chromium.
.PHONY: peers
peers:
	@PYTHON=$(PYTHON) deploy/install-test-peers.sh $(APT_TEST)
	@deploy/install-viewer-peers.sh

$(VENV)/bin/python:
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || \
	  { echo "dicom-node needs Python 3.11 or newer; set PYTHON=/path/to/python3"; exit 2; }
	@echo "making $(VENV) ..."
	@$(PYTHON) -m venv $(VENV)

$(VENV)/.installed: pyproject.toml $(VENV)/bin/python
	@echo "installing dicom-node and what it needs into $(VENV) (once; PyTorch is the large part) ..."
	@$(BIN)/python -m pip install --quiet --editable .
	@touch $@

$(VENV)/.installed-dev: pyproject.toml $(VENV)/bin/python
	@echo "installing dicom-node with its test and training tools into $(VENV) ..."
	@$(BIN)/python -m pip install --quiet --editable '.[train,dev]'
	@touch $@ $(VENV)/.installed

clean:
	rm -rf $(VENV) demo-output build *.egg-info
