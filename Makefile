# SPDX-License-Identifier: GPL-2.0-only
#
# Each target is a script of its own in scripts/. What the scripts make lies in
# ${XDG_CACHE_HOME:-~/.cache}/vfio-tph, not here.

# A kernel of your own instead of Debian's package, only read
export KERNEL
export RUN KIND

.PHONY: help deps tree export roundtrip series-check matrix guest-build guest \
	demo bench cuts kunit defects check clean send
.NOTPARALLEL:

help: ## list the targets
	@awk -F ':.*## ' '/^[a-z-]+:.*## / { printf "  %-14s %s\n", $$1, $$2 }' Makefile
	@echo
	@echo '  KERNEL=PATH    use this 7.3.y (directory, git tree or tarball) for any of them'
	@echo '  FORCE=1        of tree: drop work that was not exported'
	@echo '  RUN=COMMAND    of guest: run this, or "shell"; write $$$$ for $$, or RUN=... make guest'
	@echo '  KIND=KIND      of guest and guest-build: plain, debug or kcsan'
	@echo '  APPEND=WORDS   of guest: more for the command line of its kernel'
	@echo '  SKIP=PARTS     of check: leave out some of self, plain and debug'
	@echo '  CUTS=NAMES     of cuts: some of base, NS, IV, EXT, DS, LITERAL and full'
	@echo '  DEFECTS=NAMES  of defects: some of the files of scripts/defects.d'
	@echo '  DIR=DIRECTORY  of send: the series to send'
	@echo '  JOBS=N         compile N files at a time'

deps: ## install the Debian packages that are missing (as root)
	@scripts/deps

tree: deps ## the base kernel with the series on top, in git; prints where
	@scripts/tree

export: ## write the commits of the tree back to patches/ and the added files
	@scripts/export

roundtrip: tree ## check that exporting what patches/ gives changes nothing
	@scripts/export --check

series-check: tree ## build, checkpatch and sparse, patch by patch (not in check)
	@scripts/series-check

matrix: deps ## build for other configurations, compilers and machines (not in check)
	@scripts/tree --keep >/dev/null
	@scripts/matrix

guest-build: deps ## kernel, selftests and initramfs of the test guest, KIND=debug for that one
	@scripts/tree --keep >/dev/null
	@scripts/guest/build $${KIND:-plain}

guest: guest-build ## boot the guest: RUN="shell", RUN="COMMAND", or all tests
	@scripts/guest/run $${KIND:-plain} 7200 $${RUN:+"$$RUN"}

demo: guest-build ## show a DMA write that carries the tag a program asked for
	@scripts/guest/run plain 120 /tests/vfio_pci_tph_demo

bench: guest-build ## what a batch of Steering Tags costs, against the base's loop
	@scripts/bench

cuts: deps ## build and test the series cut after each level, or after CUTS="NS IV"
	@scripts/tree --keep >/dev/null
	@scripts/cuts $(CUTS)

kunit: deps ## the KUnit tests alone, those of mlx5 among them (not in check)
	@scripts/tree --keep >/dev/null
	@scripts/kunit

defects: deps ## put defects back, which the tests have to see (not in check)
	@scripts/tree --keep >/dev/null
	@scripts/defects $(DEFECTS)

check: deps ## run the tests, in the plain and the debug guest; ends in a summary
	@scripts/check

clean: ## remove what this checkout has in the cache
	@scripts/clean

send: ## DIR=pci-tph: sign off and mail one directory (a dry run, or SEND=1)
	@scripts/send $(DIR)
