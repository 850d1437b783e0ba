# From commit to Iterable: single-row commits, 20 ms apart.

commits=${BENCH_COMMITS:-500}

# commit_rows: each row gets a number in its plan; the time right after its
# commit is kept.
commit_rows()
{
	sql -v n="$commits" <<'SQL'
CREATE TABLE committed (i integer PRIMARY KEY, at timestamptz);
CREATE PROCEDURE commit_rows(n integer) LANGUAGE plpgsql AS $$
DECLARE
	after timestamptz;
BEGIN
	FOR k IN 1 .. n LOOP
		UPDATE live SET plan = 'live' || k WHERE id = k;
		COMMIT;
		after := clock_timestamp();
		INSERT INTO committed VALUES (k, after);
		COMMIT;
		PERFORM pg_sleep(0.02);
	END LOOP;
END $$;
CALL commit_rows(:n);
SQL
}

# report WHAT SYNC PREFIX
report()
{
	ask keys "$3" plan | sed -n 's/ live/ /p' >"$work/arrived"
	sql >"$work/latencies" <<SQL
CREATE TEMP TABLE arrived (at double precision, i integer);
\copy arrived FROM '$work/arrived' WITH (DELIMITER ' ')
SELECT c.i, 1000 * (a.at - extract(epoch FROM c.at)), 1000 * extract(epoch FROM d.at - c.at)
FROM committed c
JOIN (SELECT i, min(at) AS at FROM arrived GROUP BY i) a USING (i)
JOIN iterable.delivery d ON d.sync = '$2' AND d.key = c.i::text;
SQL
	[ "$(wc -l <"$work/latencies")" -eq "$commits" ] || die "not every commit has arrived"
	row '| %s | %.1f | %.1f | %.1f | %.1f | %.1f | %.1f |' "$1" \
		"$(cut -d' ' -f2 "$work/latencies" | percentile 50)" \
		"$(cut -d' ' -f2 "$work/latencies" | percentile 95)" \
		"$(cut -d' ' -f2 "$work/latencies" | percentile 99)" \
		"$(cut -d' ' -f3 "$work/latencies" | percentile 50)" \
		"$(cut -d' ' -f3 "$work/latencies" | percentile 95)" \
		"$(cut -d' ' -f3 "$work/latencies" | percentile 99)"
}

out
out "## Latency"
out
out "$commits single-row commits, 20 ms apart; ms from the return of COMMIT until the request has arrived, and until" \
	"iterable.delivery says accepted (at = now() of the recording transaction, its commit takes an fsync more)."
out
out "| | arrived: p50 | p95 | p99 | accepted: p50 | p95 | p99 |"
out "|---|---|---|---|---|---|---|"

latency()
{
	local prefix=/api/users
	[ "$2" = user ] || prefix=/api/events
	say "latency: $1" >&2
	new_database "latency_$3"
	new_emulator --users-rate 0 --events-rate 0
	control POST config '{"recordBodies":true}' >/dev/null
	seed_users 2000
	connect emulator "$emulator" "users_rate => ${4:-1000}, events_rate => 1000"
	make_table live 2000
	make_sync live live "$2" emulator
	if [ "$3" = own ]; then
		fill_table live 100001 400000
		query "VACUUM ANALYZE live"
		enable live backfill
		sleep 5
	else
		enable live updates_only
		query "UPDATE live SET plan = 'warm' WHERE id = 2000"
		wait_for live
	fi
	if [ "$3" = other ]; then
		make_table bulk 300000
		query "VACUUM ANALYZE bulk"
		connect slow "$emulator" "users_rate => 5"
		make_sync bulk bulk user slow
		enable bulk backfill
		sleep 3
	fi
	commit_rows
	if [ "$3" = own ]; then
		# the last of the rows, not the whole backfill
		for _ in $(seq 60); do
			[ "$(query "SELECT count(*) FROM iterable.delivery d JOIN committed c ON d.key = c.i::text AND d.at > c.at")" -lt "$commits" ] || break
			sleep 1
		done
	else
		wait_for live
	fi
	report "$1" live "$prefix"
}

latency "users, nothing else to do" user idle
latency "events, nothing else to do" event idle_events
latency "events, while another sync backfills users at 5 requests/s" event other
latency "users, 5 requests/s, nothing else to do" user slow 5
latency "users, 5 requests/s, while the same sync backfills" user own 5
