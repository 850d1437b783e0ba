# What the sections share: a cluster, emulators, samples and their medians,
# and the report.  Sourced by run.sh after lib.sh.

rounds=${BENCH_ROUNDS:-5}
million=${BENCH_ROWS:-1000000}
settings=(
	"shared_buffers = '1GB'"
	"max_wal_size = '16GB'"
	"checkpoint_timeout = '30min'"
	"jit = off"
)
export LC_ALL=C.UTF-8

# ----------------------------------------------------------------
# Cluster
# ----------------------------------------------------------------

start_cluster()
{
	as_postgres "$bin/initdb" -D "$work/data" -A trust --locale=C.UTF-8 -E UTF8 >/dev/null
	{
		printf '%s\n' "${settings[@]}"
		cat <<CONF
shared_preload_libraries = 'iterable_sync'
iterable_sync.allow_insecure_base_url = on
listen_addresses = ''
unix_socket_directories = '$work'
log_min_messages = warning
CONF
	} >>"$work/data/postgresql.conf"
	as_postgres "$bin/pg_ctl" -D "$work/data" -l "$work/server.log" -w start >/dev/null
}

# sql [psql's options]: run statements of standard input in the database $db.
db=postgres
sql()
{
	as_postgres "$bin/psql" -X -q -At -F ' ' -h "$work" -d "$db" \
		-v ON_ERROR_STOP=1 "$@"
}
query() { sql -c "$1"; }

# A new database for a section; the former one goes, with its worker.
new_database()
{
	local former=$db
	as_postgres "$bin/createdb" -h "$work" "$1"
	db=$1
	[ "$former" = postgres ] || as_postgres "$bin/dropdb" -h "$work" --force "$former"
	query "CREATE EXTENSION iterable_sync"
}

# The source of all sections: 12 columns, about 290 bytes as JSON.
# make_table NAME [ROWS]
make_table()
{
	sql -v t="$1" <<'SQL'
CREATE TABLE :"t" (
	id bigint PRIMARY KEY,
	email text NOT NULL,
	first_name text,
	last_name text,
	street text,
	created_at timestamptz,
	updated_at timestamptz,
	balance numeric(12,2),
	visits integer,
	active boolean,
	plan text,
	country text
);
SQL
	[ $# -lt 2 ] || fill_table "$1" 1 "$2"
}

# fill_table NAME FROM TO
fill_table()
{
	sql -v t="$1" -v a="$2" -v b="$3" <<'SQL'
INSERT INTO :"t"
SELECT i, 'customer' || i || '@example.com', 'First ' || i % 1000, 'Surname ' || i % 7919,
	i % 997 || ' Long Street', timestamptz '2024-01-01 00:00+00' + i * interval '7 seconds',
	timestamptz '2025-01-01 00:00+00' + i * interval '11 seconds', (i % 1000000) / 100.0,
	i % 1000, i % 3 = 0, (ARRAY['free', 'pro', 'team'])[1 + i % 3], (ARRAY['DE', 'NO', 'FR'])[1 + i % 3]
FROM generate_series(:a::bigint, :b::bigint) i;
SQL
}

# connect NAME URL [OPTION => VALUE, …]
connect()
{
	query "SELECT iterable_create_connection('$1', data_center => 'us', project_type => 'email',
		api_key => 'bench-key', base_url => '$2' ${3:+, $3})" >/dev/null
}

# make_sync NAME TABLE OBJECT CONNECTION: every column is mapped but visits.
make_sync()
{
	local column
	query "SELECT iterable_create_sync('$1', connection => '$4', source => '$2',
		object => '$3', unique_field => 'id', match_field => 'email')" >/dev/null
	[ "$3" = user ] ||
		query "SELECT iterable_add_mapping('$1', 'eventName', constant => 'Order placed')" >/dev/null
	for column in first_name last_name street created_at updated_at balance active plan country; do
		echo "SELECT iterable_add_mapping('$1', '${column/created_at/created}', column_name => '$column');"
	done | sql >/dev/null
}

enable() { query "SELECT iterable_enable_sync('$1', apply => '$2')" >/dev/null; }
disable() { query "SELECT iterable_disable_sync('$1')" >/dev/null; }

# Until all is dealt with; the sync must not have failures.
wait_for()
{
	local result
	result=$(query "SELECT done, failures, coalesce(reason, '') FROM iterable_wait('$1', '${2:-20 minutes}')")
	[ "$result" = "t 0 " ] || die "sync $1 did not finish: $result"
}

worker_pid()
{
	query "SELECT pid FROM pg_stat_activity
		WHERE backend_type = 'iterable_sync worker' AND datname = '$db'"
}

# ----------------------------------------------------------------
# Emulator
# ----------------------------------------------------------------

# new_emulator [options]: in the place of the former one; sets $emulator, its
# URL, and $emulator_pid.
new_emulator()
{
	[ -z "${emulator_pid:-}" ] || kill "$emulator_pid" 2>/dev/null || true
	start_emulator --api-key bench-key "$@"
	emulator_pid=$(cat "$work/emulator.pid")
	disown
}

# control METHOD PATH [JSON]
control() { ask control "$@"; }
ask() { perl "$top/test/bench/emulator.pl" "$1" "$emulator" "${@:2}"; }

# An e-mail project takes events of users only that it knows.
seed_users() { control POST seed "{\"pgbench\":{\"from\":1,\"to\":$1,\"emailFormat\":\"customer%d@example.com\"}}" >/dev/null; }

# ----------------------------------------------------------------
# Samples
# ----------------------------------------------------------------

now() { date +%s.%N; }
calc() { awk "BEGIN { printf \"${2:-%.2f}\", $1 }"; }

# keep SERIES VALUE: a sample of this round.  The n-th of one series belongs
# to the n-th of another.
keep() { echo "$2" >>"$work/samples.$1"; }
samples() { cat "$work/samples.$1"; }
forget() { rm -f "$work"/samples.*; }

# percentile P: of the numbers of standard input
percentile()
{
	sort -g | awk -v p="$1" '{ a[NR] = $1 } END {
		if (NR == 0) exit 1
		x = 1 + (NR - 1) * p / 100; i = int(x)
		printf "%.6g\n", i < NR ? a[i] + (x - i) * (a[i + 1] - a[i]) : a[NR] }'
}
median() { samples "$1" | percentile 50; }

least() { samples "$1" | sort -g | head -1; }
most() { samples "$1" | sort -g | tail -1; }

# ratio SERIES BASELINE: median of the rounds' ratios
ratio()
{
	paste -d ' ' "$work/samples.$1" "$work/samples.$2" |
		awk '{ print $1 / $2 }' | percentile 50
}

# spread SERIES BASELINE: least and greatest of the rounds' ratios
spread()
{
	paste -d ' ' "$work/samples.$1" "$work/samples.$2" |
		awk '{ r = $1 / $2; if (NR == 1 || r < a) a = r; if (NR == 1 || r > b) b = r }
			END { printf "%.2f–%.2f", a, b }'
}

# ----------------------------------------------------------------
# Processes
# ----------------------------------------------------------------

# CPU time of a process so far, all its threads, in ms.
cpu_ms()
{
	sed 's/.*) //' "/proc/$1/stat" | awk '{ print ($12 + $13) * 10 }'
}

# rollup PID FIELD: of smaps_rollup, in MiB
rollup() { awk -v f="$2:" '$1 == f { print $2 / 1024 }' "/proc/$1/smaps_rollup"; }

# profile PID SECONDS NAME: what a process spends its time on, if perf is there
profile()
{
	command -v perf >/dev/null || return 0
	perf record -q -e cpu-clock -F 499 --call-graph dwarf,16384 -p "$1" \
		-o "$work/perf.$3" -- sleep "$2" >/dev/null 2>&1 || return 0
}

# profile_summary NAME STEPS: shares of these functions, callees included
profile_summary()
{
	[ -s "$work/perf.$1" ] || return 0
	perf report -q -i "$work/perf.$1" --children --sort symbol --stdio -g none 2>/dev/null |
		awk -v steps="$2" 'BEGIN { n = split(steps, s); for (i = 1; i <= n; i++) wanted[s[i]] = 1 }
			$4 in wanted && !seen[$4]++ { printf "%s %s; ", $4, $1 }' | sed 's/; $//'
}

# ----------------------------------------------------------------
# Report
# ----------------------------------------------------------------

out() { printf '%s\n' "$*" | tee -a "$work/report"; }
# row FORMAT VALUE …: a line of a table
row()
{
	local format=$1
	shift
	# shellcheck disable=SC2059
	out "$(printf "$format" "$@")"
}

start_report()
{
	out "# Measurements of $(date -u +%Y-%m-%d)"
	out
	out "$version; $(nproc) cores of $(sed -n 's/^model name.*: //p' /proc/cpuinfo | head -1)," \
		"$(awk '/MemTotal/ { printf "%.0f GiB", $2 / 1048576 }' /proc/meminfo); Linux $(uname -r)." \
		"$(git -C "$top" rev-parse --short HEAD 2>/dev/null | sed 's/^/Commit /; s/$/ (and what is not committed)./')"
	out "Settings: $(printf '%s, ' "${settings[@]}")fsync on, all else default; locale C.UTF-8." \
		"Server, emulator and clients share the machine: trust ratios."
}

keep_report()
{
	local file
	file=$top/test/bench/results/$(date -u +%Y-%m-%d)
	[ "$*" = "$all" ] || file=$file-$(echo "$*" | tr ' ' '-')
	mkdir -p "$top/test/bench/results"
	cp "$work/report" "$file.md"
	say
	say "kept in ${file#"$top"/}.md"
}
