#!/bin/bash
# The tests on several versions of PostgreSQL, each from the Debian suite that
# ships it, in a root file system of its own; ends with one line, "N passed,
# N failed".
#
# usage: test/versions.sh [version ...]   versions: 15 17 18 (the default) 19
#
#   ITERABLE_SYNC_CACHE   where the root file systems are kept, 2 GB each
#                         (/var/cache/iterable_sync)
#   ITERABLE_SYNC_TIERS   what of test/check.sh is run
#                         (exports reference unit emulator regress isolation)
#
# A root is entered in name spaces of its own, and its /tmp is in memory: when
# the script ends, even by SIGKILL, the kernel takes away what was mounted,
# started and written there.  Only the cache stays.
cache=$(realpath -m "${ITERABLE_SYNC_CACHE:-/var/cache/iterable_sync}")
source "$(dirname "$0")/lib.sh"

tiers=${ITERABLE_SYNC_TIERS:-exports reference unit emulator regress isolation}
passed=0
failed=0
child=

at_exit()
{
	local status=$?

	trap - EXIT
	if [ -n "$child" ]; then
		kill -KILL "$child" 2>/dev/null || true
		wait "$child" 2>/dev/null || true
	fi
	rm -rf "$work"
	exit $status
}
trap at_exit EXIT

# Run a command in the background and wait: a signal is then acted on at once.
run()
{
	local status=0

	"$@" &
	child=$!
	wait "$child" || status=$?
	child=
	return $status
}

# own_names COMMAND ...: become a command whose processes and mounts end with
# it, and with this script
own_names()
{
	exec setpriv --pdeathsig KILL unshare --mount --pid --ipc --fork --kill-child --mount-proc "$@"
}

# inside ROOT VERSION SCRIPT: run the script in the root, with the sources as
# /tmp/source and the version's pg_config as PG_CONFIG
inside()
{
	# shellcheck disable=SC2016
	own_names bash -euc '
		root=$0 sources=$1 version=$2 script=$3
		mount -t proc proc "$root/proc"
		mount --rbind /dev "$root/dev"
		mount -t tmpfs -o mode=1777 tmpfs "$root/dev/shm"
		mount -t tmpfs -o mode=1777 tmpfs "$root/tmp"
		cp -a "$sources" "$root/tmp/source"
		exec chroot "$root" env -i HOME=/root LANG=C.UTF-8 \
			PATH=/usr/sbin:/usr/bin:/sbin:/bin \
			DEBIAN_FRONTEND=noninteractive \
			${http_proxy:+http_proxy=$http_proxy} \
			${https_proxy:+https_proxy=$https_proxy} \
			PG_CONFIG="/usr/lib/postgresql/$version/bin/pg_config" CI=1 \
			bash -euc "cd /tmp/source; $script"
	' "$1" "$work/source" "$2" "$3"
}

# The mirror that this machine uses, if it is a Debian.
mirror()
{
	local found
	found=$(cat /etc/apt/sources.list /etc/apt/sources.list.d/* 2>/dev/null |
		sed -nE 's!^(URIs:|deb( \[[^]]*\])?) *(https?://[^ ]*/debian/?)( .*)?$!\3!p' |
		head -1)
	echo "${found:-http://deb.debian.org/debian}"
}

# make_root ROOT SUITE EXTRA: a bare system that starts no services
make_root()
{
	local root=$1 suite=$2 extra=$3

	rm -rf "$root"
	# "sid" is the recipe of every Debian since; a debootstrap that is older
	# than the suite has no name for it.
	run own_names debootstrap --variant=minbase --include=ca-certificates \
		"$suite" "$root" "$(mirror)" /usr/share/debootstrap/scripts/sid \
		>"$work/make.log" 2>&1 || return 1
	if [ -n "$extra" ]; then
		# of this suite only PostgreSQL
		echo "deb $(mirror) $extra main" >"$root/etc/apt/sources.list.d/extra.list"
		printf 'Package: src:postgresql-*\nPin: release a=%s\nPin-Priority: 500\n' \
			"$extra" >"$root/etc/apt/preferences.d/extra"
	fi
	printf '#!/bin/sh\nexit 101\n' >"$root/usr/sbin/policy-rc.d"
	chmod 755 "$root/usr/sbin/policy-rc.d"
	mkdir -p "$root/etc/postgresql-common/createcluster.d"
	echo 'create_main_cluster = false' \
		>"$root/etc/postgresql-common/createcluster.d/none.conf"
}

# prepare ROOT SUITE EXTRA VERSION: make the root if there is none, and once a
# day look for newer packages.
prepare()
{
	local root=$1 suite=$2 extra=$3 version=$4

	if [ ! -e "$root" ]; then
		say "   making a root file system of Debian $suite"
		make_root "$root.new" "$suite" "$extra" || return 1
		mv "$root.new" "$root"
	fi
	cp -L /etc/resolv.conf /etc/hosts "$root/etc/"
	apt-config dump | grep -iE '^Acquire::(Check-Valid-Until|https?::Proxy) ' \
		>"$root/etc/apt/apt.conf.d/90host" || true

	if [ -n "$(find "$root.stamp" -mmin -1440 2>/dev/null)" ]; then
		return 0
	fi
	if run inside "$root" "$version" "
		dpkg --configure -a # an earlier run may have been interrupted
		apt-get update -qq
		apt-get dist-upgrade -y -qq --no-install-recommends
		apt-get install -y -qq --no-install-recommends \
			postgresql-$version postgresql-server-dev-$version
		source test/lib.sh
		install_packages
		apt-get clean" >"$work/make.log" 2>&1; then
		touch "$root.stamp"
	elif [ -e "$root.stamp" ]; then
		say "   no newer packages could be had; using those of $(date -r "$root.stamp" +%F)"
	else
		return 1
	fi
}

# shellcheck disable=SC2016
clang='
	global=$(dirname "$("$PG_CONFIG" --pgxs)")/../Makefile.global
	clang=$(sed -n "s/^CLANG *= *//p" "$global")
	if ! command -v "$clang"; then
		echo "no clang"
		exit
	fi
	# gcc wrote the headers and flags of the server
	find . -name "*.o" -delete
	make -s -k -j2 with_llvm=no CC="$clang" PG_CONFIG="$PG_CONFIG" \
		COPT="-Wno-ignored-attributes -Wno-unknown-warning-option -Wno-ignored-optimization-argument"'

check_version()
{
	local version=$1 suite=$2 extra=$3
	local root=$cache/${extra:-$suite}
	local compilers=gcc ok=0 bad=0
	local lock totals

	say "PostgreSQL $version, Debian ${extra:-$suite}"
	exec {lock}>"$root.lock"
	flock "$lock"
	if ! prepare "$root" "$suite" "$extra" "$version"; then
		cat "$work/make.log"
		say "   the root file system could not be made"
		failed=$((failed + 1))
		return
	fi
	flock -s "$lock"

	if ! run inside "$root" "$version" "$clang" >"$work/clang.log" 2>&1; then
		cat "$work/clang.log"
		say "   does not compile with clang"
		bad=1
	elif ! grep -q '^no clang' "$work/clang.log"; then
		compilers="gcc and clang"
		ok=1
	fi

	run inside "$root" "$version" "test/check.sh $tiers" >"$work/check.log" 2>&1 || true
	exec {lock}>&-
	totals=$(tail -1 "$work/check.log" |
		sed -nE 's/^([0-9]+) passed, ([0-9]+) failed$/\1 \2/p')
	if [ -n "$totals" ]; then
		ok=$((ok + ${totals% *}))
		bad=$((bad + ${totals#* }))
	else
		say "   test/check.sh did not come to an end"
		bad=$((bad + 1))
	fi
	[ "$bad" -eq 0 ] || cat "$work/check.log"
	say "   $(sed -n 's/, private copy.*/, /p' "$work/check.log")$compilers:" \
		"$ok passed, $bad failed"
	passed=$((passed + ok))
	failed=$((failed + bad))
}

suites=()
[ $# -gt 0 ] || set -- 15 17 18
for version in "$@"; do
	case $version in
		15) suites+=("15 bookworm") ;;
		17) suites+=("17 trixie") ;;
		18) suites+=("18 forky") ;;
		19) suites+=("19 sid experimental") ;;
		*) die "no Debian suite is known to ship PostgreSQL $version" ;;
	esac
done

if ! command -v debootstrap >/dev/null; then
	say "installing: debootstrap"
	apt-get update -qq
	DEBIAN_FRONTEND=noninteractive apt-get install -y -qq --no-install-recommends \
		debootstrap debian-archive-keyring >/dev/null
fi
(own_names true) || die "name spaces cannot be made here: unshare(1) needs a privileged container"

mkdir -p "$cache" "$work/source"
if git -C "$top" rev-parse >/dev/null 2>&1; then
	(cd "$top" && git ls-files -z --cached --others --exclude-standard |
		xargs -0 -r ls -d 2>/dev/null | tar cf - -T -) | tar xf - -C "$work/source"
else
	(cd "$top" && tar cf - .) | tar xf - -C "$work/source"
fi

for suite in "${suites[@]}"; do
	read -r version name extra <<<"$suite"
	check_version "$version" "$name" "$extra"
done
say "$passed passed, $failed failed"
[ "$failed" -eq 0 ]
