# tapstack: `make help` lists what can be made.

GO       ?= go
FUZZTIME ?= 30s
FUZZPKGS ?= ./...
PROFILES ?= profiles
SOAK     ?= 3m
BIN      := bin/tapstack

# The packages in which goroutines meet.
RACE := ./stack/... ./socket/... ./dhcp/... ./ether/... ./cmd/... ./internal/attach ./internal/lab \
	./internal/mono ./internal/pkt ./internal/service ./internal/wheel ./examples/internal/... ./telnet/... ./probe/... ./internal/exporter ./internal/probecap

# The other ends of some tests, as Debian packages.
PROGRAMS := linux-libc-dev inetutils-telnet busybox-static iproute2 nftables iputils-ping netcat-openbsd tcpdump dnsmasq-base radvd iperf3 curl \
	wrk nginx openssh-server openssh-client redis-server redis-tools socat openssl \
	memcached vsftpd dovecot-imapd dovecot-pop3d python3-aiosmtpd mariadb-server-core postgresql chrony mtr-tiny fping lksctp-tools \
	tmux vim nethack-console putty-tools tintin++ telnet-ssl inetutils-telnetd \
	kea-dhcp4-server kea-dhcp6-server isc-dhcp-server ndisc6 thc-ipv6 python3-scapy nmap hping3 arping arp-scan iputils-tracepath

STATICCHECK := $(GO) tool -modfile=tools/go.mod staticcheck

.DEFAULT_GOAL := help
.PHONY: help build demo test race lint fuzz cover soak bench wan profile bridge tap lab test-deps clean

help: ## list these targets
	@awk -F ':.*## ' '/^[a-z-]+:.*## / { printf "  %-10s %s\n", $$1, $$2 }' $(MAKEFILE_LIST)

build: ## build bin/tapstack
	$(GO) build -o bin/ ./cmd/...

demo: build ## see the stack work against the Linux kernel, in a private lab without root
	$(BIN) demo

# The limits are for tests that hang: all of them take less than five minutes.
test: ## run all tests, those with a TAP in private namespaces
	$(GO) test -timeout 10m ./...
	$(GO) -C workloads test -timeout 10m .

race: ## run the tests of packages with goroutines under the race detector
	$(GO) test -race -timeout 20m $(RACE)
	$(GO) -C workloads test -race -timeout 20m .

lint: ## check format, vet and staticcheck
	@out=$$(gofmt -l .) && test -z "$$out" || { echo "not formatted:"; echo "$$out"; exit 1; }
	$(GO) vet ./...
	$(STATICCHECK) ./...
	$(GO) -C workloads vet .
	cd workloads && $(GO) tool -modfile=../tools/go.mod staticcheck .

fuzz: ## run every fuzz target for FUZZTIME (30s)
	@packages=$$($(GO) list $(FUZZPKGS)) || exit; \
	for package in $$packages; do \
		list=$$($(GO) test -list '^Fuzz' $$package) || { echo "$$list"; exit 1; }; \
		for target in $$(echo "$$list" | grep '^Fuzz'); do \
			echo "--- $$package $$target"; \
			$(GO) test -run '^$$' -fuzz "^$$target\$$" -fuzztime $(FUZZTIME) $$package || exit; \
		done; \
	done

cover: ## run all tests and print how much they cover; details in cover.out
	$(GO) test -timeout 10m -coverprofile=cover.out ./...
	$(GO) tool cover -func=cover.out | tail -n 1

soak: ## hold 10,000 connections for SOAK (3m), make 100,000, flood, load, fuzz frames, fill tables: what it costs
	$(GO) test -timeout 60m -count=1 -v -run '^(TestSoak|TestExhaustion$$)' ./internal/interop -soak $(SOAK)

bench: ## measure, and compare with other stacks
	$(GO) -C bench run .

wan: ## compare with the kernel over paths that lose and delay
	$(GO) -C bench run . -wan 4s -rounds 3

profile: ## see where the time goes: profiles and flame graphs in PROFILES (profiles)
	$(GO) -C bench run . -profile $(abspath $(PROFILES))

bridge: ## make the bridge br0 on this host (as root)
	scripts/bridge.sh up

tap: ## make the TAP device tap7 on the bridge (as root)
	scripts/tap.sh up

lab: build ## open a shell in a private lab
	$(BIN) lab shell

test-deps: ## install the programs that some tests talk to (as root, Debian and Ubuntu)
	scripts/test-deps.sh $(PROGRAMS)

clean: ## remove what was built
	rm -rf bin cover.out profiles
