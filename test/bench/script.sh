# The same work by the script that one would write instead: Node.js, Iterable's
# official client and node-postgres.  Needs npm and its registry.

lanes=${BENCH_SCRIPT_LANES:-4}
commits=${BENCH_COMMITS:-100}
runs=${BENCH_DRAIN_ROUNDS:-3}

if ! command -v npm >/dev/null; then
	DEBIAN_FRONTEND=noninteractive apt-get install -y -qq --no-install-recommends npm >/dev/null 2>&1 || true
fi
cp -r "$top/test/bench/script" "$work/script"
if ! (cd "$work/script" && npm ci --no-audit --no-fund --ignore-scripts >npm.log 2>&1); then
	out
	out "## Script"
	out
	out "Left out: npm could not install what it needs."
	return 0
fi

# script HOW: in the background, its CPU time, if it ends, to $work/script.cpu
script()
{
	(exec setpriv --reuid=postgres --regid=postgres --init-groups -- \
		node "$work/script/send.mjs" "$work" "$db" "$emulator" t "$lanes" "$1") >"$work/script.cpu" &
	script_pid=$!
}

# prepare NAME: a table and an emulator, and a sync that is not enabled
prepare()
{
	new_database "$1"
	new_emulator --users-rate 0
	connect emulator "$emulator" "users_rate => 1000"
	make_table t
	query "CREATE INDEX ON t (updated_at)"
	make_sync send t user emulator
}

all_accepted()
{
	local accepted
	accepted=$(ask rows /api/users)
	[ "$accepted" -eq "$million" ] || die "$accepted rows were accepted, not $million"
}

# pending: a million rows that the sync is to send, and that are still to be
pending()
{
	enable send updates_only
	disable send
	fill_table t 1 "$million"
	query "VACUUM ANALYZE t"
}

# drain SERIES
drain()
{
	local worker began cpu=0
	control POST reset >/dev/null
	query "CHECKPOINT"
	worker=$(worker_pid)
	[ -z "$worker" ] || cpu=$(cpu_ms "$worker")
	began=$(now)
	enable send updates_only
	wait_for send
	keep "$1" "$(calc "$(now) - $began" %.4f)"
	keep "$1_cpu" "$(calc "($(cpu_ms "$(worker_pid)") - $cpu) / 1000" %.3f)"
	all_accepted
}

forget
for round in $(seq "$runs"); do
	say "script: backlog, round $round" >&2
	prepare "script_$round"
	pending
	query "CHECKPOINT"
	began=$(now)
	script once
	wait "$script_pid" || die "the script failed"
	keep script "$(calc "$(now) - $began" %.4f)"
	keep script_cpu "$(cat "$work/script.cpu")"
	all_accepted
	drain sync

	prepare "script_untracked_$round"
	query "SELECT iterable_update_sync('send', track => false)" >/dev/null
	pending
	drain untracked
done

# arrived WHAT: latency of commits, in ms
arrived()
{
	ask keys /api/users plan | sed -n 's/ live/ /p' >"$work/arrived"
	sql >"$work/latencies" <<SQL
CREATE TEMP TABLE arrived (at double precision, i integer);
\copy arrived FROM '$work/arrived' WITH (DELIMITER ' ')
SELECT 1000 * (min(a.at) - extract(epoch FROM c.at)) FROM committed c JOIN arrived a USING (i) GROUP BY c.i, c.at;
SQL
	arrived_rows=$(wc -l <"$work/latencies")
	arrived_p50=$(percentile 50 <"$work/latencies")
	arrived_p95=$(percentile 95 <"$work/latencies")
}

commit_rows()
{
	sql -v n="$commits" <<'SQL'
DROP TABLE IF EXISTS committed;
CREATE TABLE committed (i integer PRIMARY KEY, at timestamptz);
DO $$
BEGIN
	FOR k IN 1 .. current_setting('bench.commits')::int LOOP
		UPDATE t SET plan = 'live' || k, updated_at = clock_timestamp() WHERE id = k;
		COMMIT;
		INSERT INTO committed VALUES (k, clock_timestamp());
		COMMIT;
		PERFORM pg_sleep(0.05);
	END LOOP;
END $$;
SQL
}

# Two writers at a time: one begins, the other commits first, with a later time.
commit_late()
{
	sql >/dev/null <<'SQL' &
BEGIN;
UPDATE t SET plan = 'late', updated_at = clock_timestamp() WHERE id = 1999;
SELECT pg_sleep(3);
COMMIT;
SQL
	sleep 1
	query "UPDATE t SET plan = 'early', updated_at = clock_timestamp() WHERE id = 2000"
	wait $!
	sleep 3
	late=lost
	[ -z "$(ask keys /api/users plan | grep ' late$')" ] || late=there
}

say "script: latency" >&2
export PGOPTIONS="-c bench.commits=$commits"
prepare script_latency
control POST config '{"recordBodies":true}' >/dev/null
fill_table t 1 2000
script poll
sleep 3
commit_rows
sleep 3
arrived
script_latency=("$arrived_rows" "$arrived_p50" "$arrived_p95")
commit_late
script_late=$late
kill "$script_pid"
wait "$script_pid" 2>/dev/null || true

control POST reset '{"recordBodies":true}' >/dev/null
enable send updates_only
commit_rows
wait_for send
arrived
commit_late
unset PGOPTIONS

out
out "## Script"
out
out "The same work by a script of Node.js $(node --version) with Iterable's official client and node-postgres (\`script/send.mjs\`), which" \
	"selects by updated_at, sends $lanes requests at a time and looks again each second; it keeps nothing of what it has sent. The sync" \
	"remembers every row, unless track is false. $million rows of users, emulator without limits, medians of $runs; latency of $commits commits."
out
out "| | rows a second | CPU of it, µs a row | commit to arrival, p50 ms | p95 ms | commits that arrived | a transaction that commits late |"
out "|---|---|---|---|---|---|---|"
row '| script | %.0f | %.1f | %.0f | %.0f | %d of %d | %s |' "$(calc "$million / $(median script)")" \
	"$(calc "$(median script_cpu) / $million * 1e6")" "${script_latency[1]}" "${script_latency[2]}" "${script_latency[0]}" \
	"$commits" "$script_late"
row '| sync | %.0f | %.1f | %.0f | %.0f | %d of %d | %s |' "$(calc "$million / $(median sync)")" \
	"$(calc "$(median sync_cpu) / $million * 1e6")" "$arrived_p50" "$arrived_p95" "$arrived_rows" "$commits" "$late"
row "| sync, track => false | %.0f | %.1f | | | | |" "$(calc "$million / $(median untracked)")" \
	"$(calc "$(median untracked_cpu) / $million * 1e6")"
out
out "The script's CPU is without the backend that reads for it. A transaction that commits after one that has a later updated_at is" \
	"never seen by such a script."
