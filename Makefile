# Two commands to know: `make demo` and `make test`. Both set up what they need in .venv.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
READY := $(VENV)/.ready
NAME ?= startup
ENGINE ?= podman
KUBECTL ?= kubectl
NAMESPACE ?= modelops
TAG ?= dev
URL ?= http://127.0.0.1:8750
KINDS := api controller agent trainer serving
KEDA := https://github.com/kedacore/keda/releases/download/v2.17.2/keda-2.17.2.yaml
SECRETS := deploy/modes/kind/secrets

.PHONY: help setup frameworks demo test test-slow lint lock openapi docs migration bench clean
.PHONY: images kind-up kind-down deploy seed port-forward prod-deploy cluster-rights rights keda-install keda-apply compose-env
.DEFAULT_GOAL := help

help:  ## list the commands
	@grep -E '^[a-z-]+:.*##' $(MAKEFILE_LIST) | sed -E 's/:.*## /\t/' | expand -t 14

$(READY): requirements/dev.txt pyproject.toml
	$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11) and "Python 3.11 or newer is needed")'
	test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --require-hashes -r requirements/dev.txt
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --no-deps --no-build-isolation --editable .
	touch $(READY)

setup: $(READY)  ## make .venv from the lock

frameworks: $(READY)  ## add PyTorch and Spark to .venv, for their tests (0.5 GB, and 2.6 GB more where only builds for GPUs are offered)
	$(BIN)/python -m pip install --quiet --disable-pip-version-check -r requirements/frameworks.txt

demo: $(READY)  ## run the main job on real data, in a temporary home
	$(BIN)/mops demo

test: lint  ## all checks and tests
	$(BIN)/pytest -n 2 --dist worksteal -m "not slow"
	$(BIN)/pytest -n 3 --dist loadgroup -m slow

lint: $(READY)  ## format, lint and types
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/mypy

openapi: $(READY)  ## write openapi.json from the routes
	$(BIN)/python -m modelops.server.openapi openapi.json

docs: $(READY)  ## write the generated pages of docs/
	$(BIN)/python -m modelops.server.reference docs

migration: $(READY)  ## write a migration for the rows as they are: make migration MESSAGE="add x"
	$(BIN)/python -c 'import sys; from modelops.server.migrate import revise; print(revise(sys.argv[1]))' "$(MESSAGE)"
	$(BIN)/ruff format --quiet src/modelops/server/migrations

bench: $(READY)  ## measure: make bench NAME=startup
	$(BIN)/python benchmarks/run.py $(NAME)

images:  ## build the images, with podman or ENGINE=docker; into kind's node where it runs
	for kind in $(KINDS); do $(ENGINE) build -f deploy/images/Containerfile --target $$kind -t localhost/modelops-$$kind:$(TAG) . || exit 1; done
	if command -v kind >/dev/null && kind get clusters 2>/dev/null | grep -qx modelops; then \
		for kind in $(KINDS); do $(ENGINE) save localhost/modelops-$$kind:$(TAG) | kind load image-archive --name modelops /dev/stdin || exit 1; done; fi

kind-up:  ## make a cluster on this machine with kind
	kind get clusters 2>/dev/null | grep -qx modelops || kind create cluster --config deploy/modes/kind/cluster.yaml

kind-down:  ## remove it
	kind delete cluster --name modelops

$(SECRETS)/modelops.env:
	mkdir -p -m 700 $(SECRETS)
	umask 077; sh deploy/modes/kind/make-secrets $(SECRETS)

deploy: $(SECRETS)/modelops.env  ## put the platform into that cluster, with its own PostgreSQL and S3
	$(KUBECTL) -n modelops delete job modelops-bucket --ignore-not-found  # a job cannot be changed
	$(KUBECTL) apply -k deploy/modes/kind
	for one in deployment/modelops-api deployment/modelops-controller statefulset/modelops-agent; do \
		$(KUBECTL) -n modelops rollout status $$one --timeout=300s || exit 1; done

port-forward:  ## reach the API of the cluster at http://127.0.0.1:8750
	$(KUBECTL) -n $(NAMESPACE) port-forward service/modelops-api 8750:8750

seed: $(READY)  ## put a first dataset and a trained model into the cluster, through the port that is forwarded
	MODELOPS_TOKEN=$$(sed -n 's/^MODELOPS_ADMIN_KEY=//p' $(SECRETS)/modelops.env) $(BIN)/python deploy/seed.py $(URL)

prod-deploy:  ## put the platform into the cluster that kubectl speaks to: make prod-deploy NAMESPACE=mlops
	$(KUBECTL) -n $(NAMESPACE) get secret modelops-secrets >/dev/null
	$(KUBECTL) -n $(NAMESPACE) apply -k deploy/modes/prod
	$(KUBECTL) -n $(NAMESPACE) rollout status deployment/modelops-api --timeout=300s

cluster-rights:  ## let the platform run jobs and deployments in the cluster: make cluster-rights NAMESPACE=mlops
	$(KUBECTL) apply -f deploy/components/cluster/rights.yaml
	$(KUBECTL) create clusterrolebinding modelops-cluster-$(NAMESPACE) --clusterrole=modelops-cluster \
		--serviceaccount=$(NAMESPACE):modelops-cluster --dry-run=client -o yaml | $(KUBECTL) apply -f -
	$(KUBECTL) label --overwrite namespace $(NAMESPACE) modelops.dev/control-plane=true

rights: $(READY)  ## write those rights from what the code asks for
	$(BIN)/python -c 'import yaml; from modelops.adapters.kubernetes.access import cluster_role; print(yaml.safe_dump(cluster_role("modelops-cluster"), sort_keys=False), end="")' \
		> deploy/components/cluster/rights.yaml

keda-install:  ## install KEDA, which scales agents by the jobs that wait
	$(KUBECTL) apply --server-side -f $(KEDA)

keda-apply:  ## have it scale them: make keda-apply NAMESPACE=mlops
	$(KUBECTL) -n $(NAMESPACE) apply -f deploy/keda

compose-env:  ## write .env for docker-compose.yml, with fresh secrets
	test ! -e .env || { echo ".env is there already"; exit 1; }
	umask 077; sh deploy/compose-env > .env

lock: $(READY)  ## lock the dependencies anew, with hashes and no hosts
	$(BIN)/uv pip compile --quiet --universal --generate-hashes --no-emit-index-url --no-emit-find-links --python-version 3.11 \
		--extra server --extra sklearn --extra dev --custom-compile-command "make lock" --upgrade \
		pyproject.toml requirements/build.in -o requirements/dev.txt
	$(BIN)/uv pip compile --quiet --universal --generate-hashes --no-emit-index-url --no-emit-find-links --python-version 3.11 \
		--extra server --extra s3 --extra sklearn --extra kubernetes --custom-compile-command "make lock" \
		pyproject.toml -c requirements/dev.txt -o requirements/platform.txt

clean:  ## remove what the commands made
	rm -rf $(VENV) .bench .mypy_cache .ruff_cache .pytest_cache .hypothesis .import_linter_cache
