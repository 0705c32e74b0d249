# The project's own commands. `make demo` is for newcomers, `make lint test` for everybody else.

CARGO ?= cargo
ARGS ?=
export PATH := $(PATH):$(HOME)/.cargo/bin

.PHONY: build deb renew test soak bench lint demo clean

build:
	$(CARGO) build --locked --release

# A Debian package, in target/.
deb: build
	dist/make-deb.sh

# The manual pages and completions in dist, after a change to the command lines.
renew:
	LIVEDATA_BLESS=1 $(CARGO) test --locked --test it dist::generated

# All tests: real ZooKeeper servers, real mounts. As root, for some look through other users' eyes.
test:
	tests/setup.sh
	$(CARGO) test --locked

# The processes are killed for ten minutes, and 200 times all at once; and for ten minutes an
# ensemble is struck by disasters.
soak:
	LIVEDATA_SOAK_SECONDS=600 LIVEDATA_SURVIVAL_KILLS=200 \
		$(CARGO) test --locked --test it -- --nocapture survival convergence

# Ours, Baseplate's and the floor side by side: a table, and target/bench/*.svg. ARGS=--quick for a
# glance, ARGS=burst for the parts with that in their name.
bench:
	tests/setup.sh --bench
	$(CARGO) bench --locked --bench side_by_side -- $(ARGS)

lint:
	$(CARGO) fmt --check
	$(CARGO) clippy --locked --all-targets -- -D warnings
	RUSTDOCFLAGS="-D warnings" $(CARGO) doc --locked --no-deps
	python3 tests/lint-dependencies.py
	for script in tests/*.sh .ci/run; do bash -n "$$script" || exit 1; done
	if command -v ruby >/dev/null; then ruby -c Vagrantfile; else echo "no ruby: Vagrantfile unread"; fi

# A private ZooKeeper, three files, one change. ARGS=--once ends by itself.
demo:
	@tests/demo.sh $(ARGS)

clean:
	$(CARGO) clean
