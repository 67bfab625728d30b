# Every target works from a fresh clone with only git, make and Go, and does its own set-up.

DEMO    ?= ipv4
VERSION ?= $(shell scripts/version)

# The agent speaks HTTP/1.1 only, and has no net/http. That of the lab and the tests does without HTTP/2, for linters too.
TAGS     := -tags=nethttpomithttp2
LDFLAGS   = -s -w -buildid= -X main.version=$(VERSION)
GOBUILD   = CGO_ENABLED=0 go build $(TAGS) -trimpath -buildvcs=false -ldflags='$(LDFLAGS)'
# The device binary must stay below 9 MiB. Inlining makes it 9 % larger, and what takes long in it, hashing and TLS, is
# assembly; only the runtime and what unpacks images keep it. Names of generic functions that spell out long types are hashed,
# and loops over functions trust those not to go on after their end. Functions begin wherever the one before ends; assembly
# says itself what it wants to be aligned to, and nothing else showed a difference.
SHORT    := -d=maxshapelen=72
SMALL    := -gcflags='all=-l $(SHORT),rangefunccheck=0' -gcflags=runtime/...=$(SHORT) \
            -gcflags=github.com/xpu-sztp/ztp/pkg/slot/unpack/...=$(SHORT) -gcflags=github.com/mikelolasagasti/xz=$(SHORT)
bin/ztp-linux-amd64: LDFLAGS += -funcalign=1
bin/ztp-linux-arm64: LDFLAGS += -funcalign=4
HOSTARCH := $(shell go env GOARCH)
FUZZTIME ?= 10
TURNS    ?= 1
DIR      ?= fixtures
ARCH     ?= $(HOSTARCH)

# Debian keeps the servers that tests start in a folder that users do not have in their path.
export PATH := $(PATH):/usr/sbin:/sbin

.PHONY: help
help: ## list the targets
	@awk -F ':.*## ' '/^[a-z-]+:.*## / { printf "  make %-14s %s\n", $$1, $$2 }' $(MAKEFILE_LIST)

.PHONY: demo
demo: setup-demo bin/ztp bin/ztp-lab ## provision a simulated device on a lab network (DEMO=ipv4, ipv6 or tampered)
	@scripts/with-namespaces bin/ztp-lab demo --ztp bin/ztp --scenario $(DEMO)

# What mostly waits for servers starts first, beside what computes.
.PHONY: test
test: setup-test ## run all tests, end-to-end scenarios included, under the race detector
	scripts/with-namespaces go test $(TAGS) -race -timeout 20m ./test/e2e ./pkg/source ./...

.PHONY: nspawn-test
nspawn-test: setup-test ## run the tests of the units under a real systemd, as root; they are part of make test
	scripts/with-namespaces go test $(TAGS) -timeout 20m -count 1 ./test/nspawn

.PHONY: sweep
sweep: setup-test ## let everything go wrong at every single file operation of an onboarding; make test takes a sample
	ZTP_SWEEP=complete scripts/in-memory go test $(TAGS) -count=1 -timeout 60m -parallel 4 -run TestSweep ./pkg/onboard

.PHONY: vm-test
vm-test: setup-vm bin/ztp-linux-amd64 bin/manual ## have virtual machines provision themselves through UEFI, TPM and two slots
	scripts/with-namespaces go run $(TAGS) ./test/vm

.PHONY: vm-soak
vm-soak: setup-vm bin/ztp-linux-amd64 bin/manual ## cut their power at 21 random instants of an installation
	scripts/with-namespaces go run $(TAGS) ./test/vm -soak 7

.PHONY: build
build: bin/ztp-linux-amd64 bin/ztp-linux-arm64 bin/ztp bin/ztp-lab ## build the static binaries into bin/

.PHONY: install
install: bin/ztp-linux-$(ARCH) bin/manual ## put what belongs on a device below DESTDIR, for images (ARCH=arm64 for others)
	scripts/install bin/ztp-linux-$(ARCH) bin/manual '$(DESTDIR)'

.PHONY: dist
dist: bin/ztp-linux-amd64 bin/ztp-linux-arm64 bin/manual ## make packages (deb, rpm), bills of materials and checksums in dist/
	scripts/dist/make dist '$(VERSION)'

.PHONY: dist-test
dist-test: setup-dist dist ## install, upgrade, remove and purge the packages in clean systems
	scripts/as-root scripts/dist/test dist

.PHONY: reproducible
reproducible: ## build everything twice, packages too, and compare the bytes
	scripts/reproducible

.PHONY: lint
lint: setup-test ## gofmt, go vet, staticcheck, govulncheck
	scripts/lint $(TAGS)

.PHONY: conformance
conformance: setup-test ## run the tests that prove requirements and count what is proven
	@scripts/with-namespaces go run $(TAGS) ./test/conformance/report $(TAGS)

.PHONY: bench
bench: setup-test build ## measure sizes, times, memory and TPM signatures
	@scripts/with-namespaces go run $(TAGS) ./test/bench --bin bin

.PHONY: fuzz
fuzz: setup-test ## fuzz every decoder of network bytes for FUZZTIME seconds each
	TURNS=$(TURNS) scripts/fuzz $(FUZZTIME) $(TAGS)

.PHONY: fixtures
fixtures: setup-test ## write artifacts, right and wrong ones, into DIR for use by others (DIR=fixtures)
	scripts/fixtures/make $(DIR)

.PHONY: clean
clean: ## remove what was built
	rm -rf bin dist

.PHONY: setup-demo setup-test setup-vm setup-dist
setup-demo setup-test setup-vm setup-dist: setup-%:
	@scripts/setup $*

.PHONY: FORCE
FORCE:

bin/ztp-linux-%: FORCE
	GOOS=linux GOARCH=$* $(GOBUILD) $(SMALL) -o $@ ./cmd/ztp

bin/ztp: bin/ztp-linux-$(HOSTARCH)
	ln -sf $(<F) $@

# Manual pages and completions are made on this machine, whichever the binary is for.
bin/manual: FORCE
	rm -rf $@
	env -u GOOS -u GOARCH CGO_ENABLED=0 go run $(TAGS) ./cmd/internal/manual --version '$(VERSION)' --epoch "$$(scripts/version epoch)" $@

bin/ztp-lab: FORCE
	$(GOBUILD) -o $@ ./cmd/ztp-lab
