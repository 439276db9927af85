# Each target does all of its own set-up; on a fresh machine, Python, make and
# the network are enough.
#
#     make demo [URLS=file]       200 slow calls, two workers, before your eyes
#     make test [ARGS="-k name"]  the tests, on the Python of .venv
#     make test-all               the tests on each supported Python that is found
#     make test-oldest            the tests with the oldest libraries that setup.py allows
#     make check                  format, lint, types, import rules
#     make chaos [SECONDS=20]     kill everything under load, balance the books
#     make bench                  every benchmark, each a ratio from one run

BIN := .venv/bin
# Two at a time: most tests wait for a process or a server, and use no processor.
TOGETHER := -n 2 --dist loadfile
VERSIONS := 3.11 3.12 3.13
BENCHMARKS := throughput waiting in_flight latency sealing tls_memory bombs hub

.PHONY: demo test test-all check chaos bench

demo: .venv/core.stamp
	@$(BIN)/python examples/demo.py $(if $(URLS),--urls "$(URLS)")

test: .venv/dev.stamp
	@.ci/servers
	$(BIN)/python -m pytest $(TOGETHER) $(ARGS)

test-all:
	@for version in $(VERSIONS); do \
		if .ci/python $$version >/dev/null; then \
			$(MAKE) --no-print-directory test-$$version || exit 1; \
		else \
			echo "Python $$version: not found, not tested"; \
		fi; \
	done

test-%: .venvs/%/dev.stamp
	@.ci/servers
	.venvs/$*/bin/python -m pytest $(TOGETHER) $(ARGS)

check: .venv/dev.stamp
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/mypy
	$(BIN)/lint-imports

chaos: .venv/dev.stamp
	@.ci/servers
	cd tests && ../$(BIN)/python -m chaos --seconds $(or $(SECONDS),20)

bench: .venv/dev.stamp
	@.ci/servers
	@for one in $(BENCHMARKS); do echo "== $$one"; $(BIN)/python benchmarks/$$one.py || exit 1; done

.venv/core.stamp: setup.py
	@.ci/environment .venv

.venv/dev.stamp: setup.py
	@.ci/environment .venv dev
	@touch .venv/core.stamp

.venvs/%/dev.stamp: setup.py
	@.ci/environment .venvs/$* dev $*

# What stands before the tools: what the package itself needs, and its extras.
.venvs/oldest/dev.stamp: setup.py
	@mkdir -p .venvs
	@sed -n '/"dev": /q; /python_requires/d; s/.*"\([a-z0-9]*\).*>=\([0-9.]*\).*/\1==\2/p' setup.py >.venvs/oldest.txt
	@PIP_CONSTRAINT=$(CURDIR)/.venvs/oldest.txt .ci/environment .venvs/oldest dev 3.11

.PRECIOUS: .venvs/%/dev.stamp
