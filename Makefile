# Thin wrappers: each first sees to it that the Debian packages it needs are there, then calls CMake or a script of .ci/.
PREFIX ?= /usr/local
DESTDIR ?=
FUZZ_SECONDS ?= 300
STEPS ?=
BENCH_ARGS ?=
DEVICE ?= host

.DEFAULT_GOAL := help
.PHONY: help build demo check bench fuzz install uninstall clean format tidy

help:
	@echo 'make build      build everything under build/'
	@echo 'make demo       four processes decode a text with a tensor-parallel transformer through the daemon (DEVICE=cuda: on four GPUs)'
	@echo 'make check      build with gcc, clang and sanitizers, run all tests, fuzzers and linters (STEPS="gcc tidy": only these)'
	@echo 'make bench      latencies and bandwidths beside Open MPI (BENCH_ARGS=--json)'
	@echo 'make fuzz       the fuzzers, FUZZ_SECONDS=$(FUZZ_SECONDS) each'
	@echo 'make install    install under PREFIX=$(PREFIX), below DESTDIR if set; make uninstall takes it away again'
	@echo 'make format     format all C, C++ and CUDA files;  make tidy: clang-tidy;  make clean: remove build/'

build:
	@.ci/install-packages build
	@.ci/build build

demo:
	@.ci/install-packages build
	@.ci/build build trtcolld trtcollctl tp_decode
	@DEVICE='$(DEVICE)' client/examples/run-demo build

check:
	@.ci/install-packages build check
	@.ci/check $(STEPS)

bench:
	@.ci/install-packages build bench
	@.ci/build build
	@build/client/trtcoll-bench $(BENCH_ARGS)

fuzz:
	@.ci/install-packages build check
	@.ci/build build/fuzz -DCMAKE_C_COMPILER=clang -DCMAKE_CXX_COMPILER=clang++ -DTRTCOLL_FUZZ=ON -DTRTCOLL_FUZZ_SECONDS=$(FUZZ_SECONDS) fuzz

install:
	@.ci/install-packages build
	@.ci/build build -DCMAKE_INSTALL_PREFIX=$(PREFIX)
	@DESTDIR='$(DESTDIR)' cmake --install build
	@if [ -z '$(DESTDIR)' ] && [ "$$(id -u)" -eq 0 ]; then ldconfig; fi

uninstall:
	@test -f build/install_manifest.txt || { echo 'build/install_manifest.txt is missing: nothing was installed from here' >&2; exit 1; }
	@while read -r file || [ -n "$$file" ]; do rm -fv -- "$(DESTDIR)$$file"; done < build/install_manifest.txt
	@echo 'The configuration in etc/trtcoll stays.'

clean:
	rm -rf build

format:
	@.ci/install-packages check
	@git ls-files -co --exclude-standard -- '*.c' '*.h' '*.cc' '*.cu' '*.cuh' | xargs clang-format -i

tidy:
	@.ci/install-packages build check
	@.ci/check clang tidy
