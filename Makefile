# The one place where commands are named; README and CI use these. State lives in .local only.
SHELL := /bin/bash -o pipefail
.DEFAULT_GOAL := help

REGISTRY  ?= localhost:5000
# Of the images, for example linux/amd64,linux/arm64. Empty for this machine's.
PLATFORMS ?=
LOCAL     := $(CURDIR)/.local
BIN       := $(LOCAL)/bin
KUBECTL   := $(BIN)/kubectl --kubeconfig=$(LOCAL)/kubeconfig
HELM      := $(BIN)/helm --kubeconfig=$(LOCAL)/kubeconfig
CHART     := charts/kubernetes-traffic-manager
CLUSTER   := $(BIN)/cluster
LINT      := $(BIN)/golangci-lint
FUZZTIME  ?= 60s

export PATH := $(BIN):$(PATH)

.PHONY: help check test slow bench soak images up demo down fuzz generate lint unit cluster

help: ## Print this list
	@awk -F ':.*## ' '/^[a-z]+:.*## / {printf "%-10s %s\n", $$1, $$2}' $(MAKEFILE_LIST)

# Unit tests also hold generated files (chart selectors, goldens) and the direction of imports to what is written.
check: ## Format, vet, lint, import direction, generated files up to date, unit tests (no root needed)
check: lint unit

# Two packages at a time, the longest first, of which each has ports of its own, and four tests, which wait more than they compute;
# users' stories by themselves, since some of them measure what the product does to a load.
test: check up ## Everything: check, then every test on real parts, the cluster included (needs root)
	@$(CLUSTER) zipkin
	@$(CLUSTER) pebble
	@packages=$$(go list ./tests/...) || exit 1; failed=0; set -x; \
	go test -p 2 -parallel 4 -count=1 -timeout 60m -v ./tests/xds $$(echo "$$packages" | grep -vE '/tests/(xds|e2e)$$') || failed=1; \
	go test -parallel 4 -count=1 -timeout 60m -v ./tests/e2e || failed=1; \
	exit $$failed

slow: up ## What takes too long for every change: node reboots, full nodes, user namespaces, two releases, outages, a token's end; BEFORE=commit to upgrade from
	@$(CLUSTER) zipkin
	go test -count=1 -timeout 90m -v ./tests/e2e -run '^(TestInstallation|TestOutages)$$' -slow $(if $(BEFORE),-before $(BEFORE))

bench: up ## Benchmarks: pod start, admission, redirect, control plane, label to last proxy, what Envoy costs
	go test -run '^$$' -bench . -benchmem ./...
	go test -p 1 -count=1 -timeout 60m -run '^$$' -bench . -skip '^BenchmarkSoak$$' ./tests/...

soak: up ## A storm of label edits: 100 a second for half a minute, five times; fails unless every client ends up right
	go test -count=1 -timeout 30m -run '^$$' -bench '^BenchmarkSoak$$' ./tests/bench

images: ## Build the product's images without Docker, for PLATFORMS, and push them to REGISTRY, by default the local cluster's
images: $(if $(filter localhost:%,$(REGISTRY)),cluster)
	@mkdir -p $(LOCAL)
	go run ./tools/image -registry $(REGISTRY) $(if $(PLATFORMS),-platform $(PLATFORMS)) -values $(LOCAL)/images.yaml

up: cluster images ## Start a local Kubernetes with cert-manager and the product
	$(HELM) upgrade --install traffic $(CHART) -n traffic-system --create-namespace --wait --timeout 5m \
	  -f tests/cluster/values.yaml -f $(LOCAL)/images.yaml

demo: up ## Watch the story of the product, command by command
	@$(CLUSTER) pebble
	go run ./tests/e2e/cmd/demo

down: ## Stop the local cluster and leave nothing behind but .local
	$(if $(wildcard $(CLUSTER)),$(CLUSTER) down)

fuzz: ## Run every fuzz target for FUZZTIME (60s), and let an API server judge 5,000 pods
	@for f in $$(git grep -lE '^func Fuzz' -- '*_test.go'); do \
	  for t in $$(sed -nE 's/^func (Fuzz[A-Za-z0-9_]*).*/\1/p' $$f); do \
	    (cd $$(dirname $$f) && go test -run '^$$' -fuzz "^$$t$$" -fuzztime $(FUZZTIME) -fuzzminimizetime 2s .) || exit 1; \
	  done; done
	go test -count=1 ./tests/admission -run '^TestAdmission$$/^validity$$' -rapid.checks=5000

generate: ## Rewrite goldens and generated files from what the code does: read the diff
	go test ./webhook/inject ./webhook/admit ./cni-plugin/redirect ./xds ./xds/label ./tests/chart -update

lint: $(LINT)
	go vet ./... ./tests/...
	$(LINT) run --allow-parallel-runners ./... ./tests/...

unit:
	go test -v ./...

$(LINT): tools/dev/go.mod
	GOWORK=off go build -C tools/dev -o $@ github.com/golangci/golangci-lint/v2/cmd/golangci-lint

cluster:
	@mkdir -p $(BIN)
	@go build -o $(CLUSTER) ./tests/cluster/cmd/cluster
	$(CLUSTER) up
