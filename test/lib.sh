# Shared by check.sh, reference.sh, demo.sh and the benchmarks: what must be installed, a
# private copy of PostgreSQL that the extension is installed into, and a
# directory that goes when the script ends.
#
# The system's own PostgreSQL is only read: a server that runs on this machine
# never notices.

set -euo pipefail

say() { printf '%s\n' "$*"; }
die() { printf 'error: %s\n' "$*" >&2; exit 1; }

[ "$(id -u)" -eq 0 ] || die "run this as root or with sudo"
top=$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd)

update_packages()
{
	apt-get update -qq >"$work/apt.log" 2>&1 ||
		{ cat "$work/apt.log" >&2; die "the list of packages could not be read"; }
}

# What is missing of Debian's packages is installed, of $more_packages as well.
more_packages=()
install_packages()
{
	local packages=(gcc make pkg-config libcurl4-openssl-dev libcjson-dev
		libmicrohttpd-dev libcmocka-dev libipc-run-perl patch perl "${more_packages[@]}")
	local missing=()
	local package

	if [ -z "${PG_CONFIG:-}" ]; then
		local version
		version=$(apt-cache depends postgresql 2>/dev/null |
			sed -n 's/.*Depends: postgresql-\([0-9]\+\)$/\1/p' | head -1)
		if [ -z "$version" ]; then
			update_packages
			version=$(apt-cache depends postgresql |
				sed -n 's/.*Depends: postgresql-\([0-9]\+\)$/\1/p' | head -1)
		fi
		packages+=("postgresql-$version" "postgresql-server-dev-$version")
		PG_CONFIG=/usr/lib/postgresql/$version/bin/pg_config
	fi

	for package in "${packages[@]}"; do
		dpkg-query -W -f='${Status}' "$package" 2>/dev/null |
			grep -q 'install ok installed' || missing+=("$package")
	done
	if [ ${#missing[@]} -gt 0 ]; then
		say "installing: ${missing[*]}"
		update_packages
		# no cluster of the system's own is made or started for this
		mkdir -p /etc/postgresql-common/createcluster.d
		local conf=/etc/postgresql-common/createcluster.d/iterable_sync.conf
		[ -e /etc/postgresql-common/createcluster.conf ] ||
			printf 'create_main_cluster = false\n' >"$conf"
		DEBIAN_FRONTEND=noninteractive apt-get install -y -qq \
			--no-install-recommends "${missing[@]}" >/dev/null 2>"$work/apt.log" ||
			{ cat "$work/apt.log" >&2; die "packages could not be installed"; }
		rm -f "$conf"
	fi
}

cleanup()
{
	local status=$?
	local pid_file

	trap - EXIT
	for pid_file in "$work"/*.pid; do
		[ -e "$pid_file" ] && kill "$(cat "$pid_file")" 2>/dev/null || true
	done
	for pid_file in $(find "$work" -name postmaster.pid 2>/dev/null); do
		as_postgres "$bin/pg_ctl" -D "$(dirname "$pid_file")" -m immediate stop \
			>/dev/null 2>&1 || true
	done
	rm -rf "$work"
	exit $status
}

work=$(mktemp -d /tmp/iterable_sync.XXXXXX)
chmod 755 "$work"
cd "$work"
bin=/nonexistent
trap cleanup EXIT
trap 'exit 130' INT TERM

# Copy the tree, build it with all warnings, install it into the private copy.
# Afterwards: $tree, $bin (server programs), $pgxs (pg_regress and friends).
build()
{
	local libdir sharedir

	install_packages
	tree=$work/tree
	mkdir "$tree"
	if git -C "$top" rev-parse >/dev/null 2>&1; then
		(cd "$top" && git ls-files -z --cached --others --exclude-standard |
			{ xargs -0 -r ls -d 2>/dev/null || true; } | tar cf - -T -) | tar xf - -C "$tree"
	else
		(cd "$top" && tar cf - .) | tar xf - -C "$tree"
	fi

	# what somebody built here before is not ours
	find "$tree" \( -name '*.o' -o -name '*.so' -o -name '*.bc' \) -delete

	libdir=$(dirname "$("$PG_CONFIG" --bindir)")
	sharedir=$("$PG_CONFIG" --sharedir)
	private=$work/postgresql
	mkdir -p "$private$(dirname "$libdir")" "$private$(dirname "$sharedir")"
	cp -a "$libdir" "$private$(dirname "$libdir")/"
	cp -a "$sharedir" "$private$(dirname "$sharedir")/"
	bin=$private$("$PG_CONFIG" --bindir)
	pgxs=$(dirname "$(dirname "$(dirname "$("$PG_CONFIG" --pgxs)")")")

	make -s -C "$tree" -j2 with_llvm=no PG_CONFIG="$PG_CONFIG"
	make -s -C "$tree" with_llvm=no PG_CONFIG="$PG_CONFIG" DESTDIR="$private" install >/dev/null
	make -s -C "$tree/test/emulator" iterable_emulator
	chown -R postgres "$work"
	version=$("$PG_CONFIG" --version)
}

# PostgreSQL refuses to run as root.
as_postgres()
{
	setpriv --reuid=postgres --regid=postgres --init-groups -- \
		env PATH="$bin:$PATH" HOME="$work" PG_CONFIG="$PG_CONFIG" "$@"
}

# write_reference FILE: what doc/reference.sql says of the extension as built
write_reference()
{
	local data=$work/reference
	local psql=(as_postgres "$bin/psql" -X -v ON_ERROR_STOP=1 -h "$work" -d postgres)

	as_postgres "$bin/initdb" -D "$data" -A trust -E UTF8 --locale=C --no-sync >/dev/null &&
		{ cat "$tree/test/regress.conf"
			printf "listen_addresses = ''\nunix_socket_directories = '%s'\n" "$work"; } \
			>>"$data/postgresql.conf" &&
		as_postgres "$bin/pg_ctl" -D "$data" -l "$data/server.log" -w start >/dev/null &&
		"${psql[@]}" -q -c 'CREATE EXTENSION iterable_sync' &&
		"${psql[@]}" -At -f "$tree/doc/reference.sql" >"$1" &&
		as_postgres "$bin/pg_ctl" -D "$data" -m immediate stop >/dev/null
}

# Start an emulator in the background; sets $emulator to its URL.
start_emulator()
{
	rm -f "$work/port"
	(exec setpriv --reuid=postgres --regid=postgres --init-groups -- \
		"$tree/test/emulator/iterable_emulator" --port 0 --port-file "$work/port" \
		--stay-with-parent "$@") >/dev/null &
	echo $! >"$work/emulator.pid"
	for _ in $(seq 200); do
		[ -s "$work/port" ] && break
		sleep 0.05
	done
	emulator=http://127.0.0.1:$(cat "$work/port")
}
