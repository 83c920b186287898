# shellcheck shell=bash disable=SC2034
# SPDX-License-Identifier: GPL-2.0-only
#
# What the scripts have in common: where things are, errors in one line,
# progress, locks. Sourced first by each of them.

set -euo pipefail

# What the caller's environment holds must not reach the kernel's build, nor
# change what git writes.
unset ARCH CROSS_COMPILE LLVM KBUILD_OUTPUT KCONFIG_CONFIG KCFLAGS
unset MAKEFLAGS MAKEOVERRIDES MFLAGS GNUMAKEFLAGS MAKELEVEL
unset GIT_DIR GIT_WORK_TREE GIT_INDEX_FILE GIT_PREFIX
user_git_config=${GIT_CONFIG_GLOBAL:-}
export GIT_COMMITTER_NAME=vfio-tph GIT_COMMITTER_EMAIL=vfio-tph@localhost
export GIT_CONFIG_GLOBAL=/dev/null GIT_CONFIG_NOSYSTEM=1 GIT_TERMINAL_PROMPT=0
export LC_ALL=C TZ=UTC
umask 022

top=$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd -P)
export PATH="$PATH:/usr/sbin:/sbin:$top/scripts/bin"
cache=${XDG_CACHE_HOME:-${HOME:?is not set}/.cache}/vfio-tph
patches=$top/patches
KERNEL=${KERNEL:-}
# ccache without its own preprocessing, which takes a third of a cold build; see
# scripts/bin/cached
export CCACHE_DIR=$cache/ccache CCACHE_BASEDIR=$cache CCACHE_NOHASHDIR=1 CCACHE_DEPEND=1
export KBUILD_BUILD_USER=vfio-tph KBUILD_BUILD_HOST=localhost
export KBUILD_BUILD_TIMESTAMP='1970-01-01'
jobs=${JOBS:-$(nproc)}

die()
{
	printf '%s: %s\n' "${0##*/}" "$*" >&2
	exit 1
}

say()
{
	printf '%s\n' "$*" >&2
}

# The version that the series are made for, and the part of it that counts:
# any 7.3.y will do.
base_version=$(cat "$patches/BASE") || die "cannot read $patches/BASE"
base_series=${base_version%.*}

# need_space DIR GIGABYTES
need_space()
{
	local free

	mkdir -p "$1" || die "cannot create $1"
	[ -w "$1" ] || die "cannot write to $1"
	free=$(df -Pk "$1" | awk 'NR == 2 { print int($4 / 1048576) }')
	[ "$free" -ge "$2" ] ||
		die "no space: $1 has $free GB free, $2 GB are needed"
}

# lock NAME: one run at a time; the lock goes with the process and with the
# scripts that it starts.
lock()
{
	local fd

	case " ${VFIO_TPH_LOCKS:-} " in *" $1 "*) return ;; esac
	mkdir -p "$cache/lock" || die "cannot create $cache/lock"
	exec {fd}>"$cache/lock/$1"
	if ! flock -n "$fd"; then
		say "waiting for another run to finish ($1)"
		flock "$fd"
	fi
	export VFIO_TPH_LOCKS="${VFIO_TPH_LOCKS:-} $1"
}

# A fresh directory that goes when the script does
scratch()
{
	mkdir -p "$cache/tmp"
	scratch=$(mktemp -d "$cache/tmp/XXXXXX")
	trap 'rm -rf "$scratch"' EXIT
}

# tally FILE: the sums of its results, which lines begin with; fails if one has failed
tally()
{
	awk '/^ok / { p++ } /^not ok / { f++ } /^skip / { s++ }
		END { printf "%d passed, %d failed, %d skipped\n", p, f, s; exit f > 0 || !p }' "$1"
}

# What step says until its standard input ends. It is not killed: a child that gets a
# signal at its very start runs the trap of its parent, and removes what is the parent's.
step_beats()
{
	local rc

	while :; do
		rc=0
		read -r -t 15 || rc=$?
		[ $rc -gt 128 ] || return 0	# no timeout
		say "$1 ... $((SECONDS - $2)) s"
	done
}

# step LABEL COMMAND...: runs the command with its output in a log, says every
# 15 seconds that it is still at it, and shows the end of the log when it fails.
step()
{
	local step_label=$1 step_log step_start=$SECONDS step_on step_beat step_rc=0

	shift
	mkdir -p "$cache/log"
	step_log=$(mktemp "$cache/log/XXXXXX")
	say "$step_label ..."
	exec {step_on}> >(step_beats "$step_label" "$step_start")
	step_beat=$!
	("$@") >"$step_log" 2>&1 </dev/null {step_on}>&- || step_rc=$?
	exec {step_on}>&-
	wait "$step_beat" || :
	if [ $step_rc -ne 0 ]; then
		tail -n 40 "$step_log" >&2
	else
		say "$step_label: done in $((SECONDS - step_start)) s"
	fi
	rm -f "$step_log"
	return $step_rc
}

# Sets base to the git repository of the base kernel (tag "base"), and tree to
# the place of this checkout's tree. For scripts/cuts the tree is one that ends
# early, for scripts/defects one with a defect, and whole is the one with all patches.
find_tree()
{
	base=$("$top/scripts/base")
	tree_key=$(printf '%s\n' "$top" "$base" | sha256sum | cut -c1-12)
	whole=$cache/tree/$tree_key/linux
	tree=${VFIO_TPH_CUT:-$whole}
}

# The directories of patches/ in order; the patches of one of them, with its name
directories() { sed -e 's/#.*//' -e '/^[[:space:]]*$/d' "$patches/series"; }
patches_of() { sed -e 's/#.*//' -e '/^[[:space:]]*$/d' -e "s,^,$1/," "$patches/$1/series"; }

# The commit of the tree with this subject, nothing if there is none
commit_of()
{
	git -C "$tree" log --format='%H %s' base..HEAD |
		awk -v subject="$1" '{ commit = $1; sub(/^[^ ]* /, "") }
			$0 == subject { print commit }'
}

# beside DIR COMMIT: the commit in a work tree of its own, clean. Only what is
# different is written, so that little of it has to be built again.
beside()
{
	# What was interrupted there, and left its locks, begins from nothing
	if ! git -C "$1" reset -q --hard 2>/dev/null; then
		git -C "$tree" worktree remove -f -f "$1" 2>/dev/null || rm -rf "$1"
		git -C "$tree" worktree prune &&
		git -C "$tree" worktree add -q -f -f --detach "$1" "$2" || return
	fi
	git -C "$1" checkout -q --detach "$2"
}

# without_files DIR: a work tree of the base kernel, new, whose files are in the index
# alone: git am writes those that it needs
without_files()
{
	git -C "$tree" worktree prune &&
	git -C "$tree" worktree add -q --no-checkout --detach "$1" base &&
	git -C "$1" read-tree base
}

# without_pci_sim: the commit that all directories but those of pci-sim give
without_pci_sim()
{
	local dir mails=() where=$scratch/without

	for dir in $(directories); do
		[ "${dir#pci-sim}" != "$dir" ] ||
			mapfile -t -O ${#mails[@]} mails < <(patches_of "$dir")
	done
	without_files "$where" &&
	{ [ ${#mails[@]} -eq 0 ] ||
	  git -C "$where" am --quiet --committer-date-is-author-date "${mails[@]/#/$patches/}"; } &&
	git -C "$where" rev-parse HEAD
}

# Whether a tree has commits or changes that neither tree nor export left there
has_work()
{
	local tip

	tip=$(git -C "$1" config vfio-tph.tip) || return 1
	[ "$(git -C "$1" rev-parse HEAD)" != "$tip" ] ||
		[ -n "$(git -C "$1" status --porcelain | head -n 1)" ]
}

# kmake DIR ARGUMENT...: the kernel's make, with what every call needs. A script
# that builds with another compiler or for another machine sets toolchain, whose
# variables come behind and win.
toolchain=()
kmake()
{
	env -u KERNEL make -C "$1" --no-print-directory -j"$jobs" \
		CC="cached gcc" HOSTCC="cached gcc" LOCALVERSION= \
		"${toolchain[@]}" "${@:2}"
}

# kconfig TREE OUT strict|any|next FRAGMENT...: a configuration from tinyconfig and
# fragments. With "strict" it fails when a line of a fragment did not survive; of
# two lines about the same symbol the last one counts. "next" is for the next commit
# of many, and begins with what is there for the one before: tinyconfig takes as long
# as the rest.
kconfig()
{
	local build=$1/$2 stamp

	stamp=$(echo "${toolchain[@]}" | cat - "${@:4}" "${BASH_SOURCE[0]}" | sha256sum)
	stamp+=$(git -C "$1" ls-files -s -- '*Kconfig*' | sha256sum)
	[ "$stamp" != "$(cat "$build/.config.stamp" 2>/dev/null)" ] || return 0
	rm -f "$build/.config.stamp"
	mkdir -p "$build" &&
	{ [ "$3" = next ] && [ -s "$build/.config" ] || kmake "$1" O="$2" tinyconfig; } &&
	(cd "$build" && ../scripts/kconfig/merge_config.sh -m -Q .config "${@:4}") &&
	kmake "$1" O="$2" olddefconfig &&
	cat "${@:4}" | awk -v config="$build/.config" '
		function symbol(line)
		{
			match(line, /CONFIG_[A-Z0-9_]+/)
			return substr(line, RSTART, RLENGTH)
		}
		BEGIN { while ((getline line < config) > 0) got[symbol(line)] = line }
		/^(# )?CONFIG_/ { want[symbol($0)] = $0 }
		END {
			for (s in want) {
				if (got[s] == want[s] ||
				    got[s] == "" && want[s] ~ / is not set$/)
					continue
				print "did not survive: " want[s]
				bad = 1
			}
			exit bad
		}' || { [ "$3" != strict ] && [ -s "$build/.config" ]; } &&
	echo "$stamp" >"$build/.config.stamp"
}

# What kbuild builds in one go: the directory of a file, or the object of one
# whose directory has no Makefile
target()
{
	local file=$1

	if git -C "$tree" cat-file -e "HEAD:${file%/*}/Makefile" 2>/dev/null; then
		echo "${file%/*}/"
	elif [ "${file%.c}" != "$file" ]; then
		echo "${file%.c}.o"
	fi
}

# Is this a C file that another one includes, as tests of static functions are?
included()
{
	[ "${1%.c}" != "$1" ] &&
		git -C "$tree" grep -qF "#include \"${1##*/}\"" HEAD -- "${1%/*}"
}

# Sets files to what the series touch, sources to those that are compiled, touched
# to the targets of these, and dirs to the same with none inside another
find_touched()
{
	local file

	mapfile -t files < <(git -C "$tree" diff --name-only base HEAD)
	mapfile -t sources < <(printf '%s\n' "${files[@]}" |
		grep -E '^(arch|block|crypto|drivers|fs|init|io_uring|ipc|kernel|lib|mm|net|security|sound|virt)/.*/.*\.[chS]$' |
		while read -r file; do included "$file" || echo "$file"; done)
	mapfile -t touched < <(for file in "${sources[@]}"; do target "$file"; done | sort -u)
	mapfile -t dirs < <([ ${#touched[@]} -eq 0 ] || printf '%s\n' "${touched[@]}" |
		awk '!last || index($0, last) != 1 { print; last = $0 }')
}

# warnings LOG: those of a build as "FILE: TEXT". One in a header is said once for
# each file that includes it.
warnings()
{
	sed -nE -e 's,^(Warning: |\.\./)+,,' -e 's,^[^ ]*/(apply|linux)/,,' \
		-e 's,^([^ :]+\.[chS]):[0-9]+(:[0-9]+)?:? ((warning|error|fatal error): )?(.*),\1: \5,p' \
		"$1" | grep -v ': note: ' | sort |
	awk '!/^[^:]*\.h: / || $0 != last { print } { last = $0 }'
}

# vfio_selftests TREE OUT: the user-space tests, static, in OUT/selftests
vfio_selftests()
{
	mkdir -p "$1/$2/selftests" &&
	kmake "$1" O="$2" headers_install INSTALL_HDR_PATH="$1/$2/headers" &&
	kmake "$1/tools/testing/selftests/vfio" OUTPUT="$1/$2/selftests" \
		KHDR_INCLUDES="-isystem $1/$2/headers/include" \
		EXTRA_CFLAGS=-static LDFLAGS="-static" &&
	{ [ ! -d "$1/tools/vfio" ] ||
	  kmake "$1/tools/vfio" O="$1/$2/selftests" LDFLAGS="-static"; }
}
