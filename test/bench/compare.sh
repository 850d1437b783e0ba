# Comparing a source with what Iterable has: how fast, how much memory, and
# what is sent because of it.

# for the table that is replaced under its name
query "ALTER SYSTEM SET iterable_sync.rescan_interval = '1s'"
query "SELECT pg_reload_conf()" >/dev/null

buffers() { query "SELECT blks_hit + blks_read FROM pg_stat_database WHERE datname = '$db'"; }

# Look at a process until it is gone: sets $scan_cpu (ms) and $scan_memory
# (greatest Pss_Anon, MiB).
watch_scan()
{
	local line fields now n=0
	scan_cpu=0
	scan_memory=0
	while read -r line 2>/dev/null <"/proc/$1/stat"; do
		read -ra fields <<<"${line##*) }"
		scan_cpu=$(((fields[11] + fields[12]) * 10))
		if [ $((n++ % 10)) -eq 0 ]; then
			now=$(rollup "$1" Pss_Anon 2>/dev/null) || true
			scan_memory=$(printf '%s\n' "$scan_memory" "${now:-0}" | sort -g | tail -1)
		fi
		sleep 0.02
	done
}

# compare NAME ROWS EXPECTED SQL: until Iterable has all as it is; EXPECTED
# rows must have been sent.  Keeps samples.
compare()
{
	local name=$1 rows=$2 expected=$3 began worker_cpu worker buffers sent pid
	say "compare: $name of $rows rows" >&2
	sent=$(ask rows /api/users)
	query "CHECKPOINT"
	buffers=$(buffers)
	worker=$(worker_pid)
	while [ -z "$worker" ]; do
		query "SELECT iterable_run('s')" >/dev/null 2>&1 || true
		sleep 0.1
		worker=$(worker_pid)
	done
	worker_cpu=$(cpu_ms "$worker")
	began=$(now)
	pid=$(sql -c "$4" -c "SELECT 'scan ' || scan_pid()" | sed -n 's/^scan //p')
	[ -n "$pid" ] || die "no scan has begun"
	if [ "$name" = profiled ]; then profile "$pid" 60 compare 2>/dev/null & fi
	watch_scan "$pid"
	wait_for s
	keep "${name}_time" "$(calc "$(now) - $began" %.3f)"
	wait
	sent=$(($(ask rows /api/users) - sent))
	[ "$sent" -eq "$expected" ] || die "$sent rows were sent, not $expected"
	keep "${name}_cpu" "$(calc "$scan_cpu / 1000" %.3f)"
	keep "${name}_memory" "$scan_memory"
	keep "${name}_buffers" "$(calc "($(buffers) - $buffers) / $rows" %.2f)"
	keep "${name}_worker" "$(calc "($(cpu_ms "$worker") - $worker_cpu) / 1000" %.3f)"
}

# start_compare ROWS: a table of which Iterable has all
start_compare()
{
	new_database "compare_$1"
	new_emulator --users-rate 0
	connect emulator "$emulator" "users_rate => 1000"
	sql <<'SQL'
-- waits for it
CREATE FUNCTION scan_pid() RETURNS integer LANGUAGE plpgsql AS $$
DECLARE
	result integer;
BEGIN
	FOR i IN 1 .. 60000 LOOP
		PERFORM pg_stat_clear_snapshot();
		SELECT pid INTO result FROM pg_stat_activity WHERE backend_type = 'iterable_sync scan';
		EXIT WHEN FOUND;
		PERFORM pg_sleep(0.001);
	END LOOP;
	RETURN result;
END
$$;
SQL
	make_table t "$1"
	query "VACUUM ANALYZE t"
	make_sync s t user emulator
	enable s backfill
	wait_for s
	query "VACUUM ANALYZE iterable.sync_delivery"
}

# Ten times as many rows, of which Iterable has all: a payload of a user does
# not tell the key, so those of the same values have the same hash.
grow()
{
	sql <<SQL
BEGIN;
ALTER TABLE t DISABLE TRIGGER USER;
INSERT INTO t SELECT id + k * $1, email, first_name, last_name, street, created_at, updated_at, balance,
	visits, active, plan, country FROM t, generate_series(1, 9) k ORDER BY 1;
INSERT INTO iterable.sync_delivery SELECT sync_id, key::bigint + k * $1, identifier, payload_hash, state, at
	FROM iterable.sync_delivery, generate_series(1, 9) k ORDER BY 2;
SELECT pg_catalog.format('ALTER TABLE t ENABLE ALWAYS TRIGGER %I', tgname) FROM pg_trigger
	WHERE tgrelid = 't'::regclass AND NOT tgisinternal \gexec
COMMIT;
VACUUM ANALYZE t;
VACUUM ANALYZE iterable.sync_delivery;
SQL
}

line()
{
	row '| %s | %d | %d | %.1f | %.0f | %.1f | %.0f | %.1f | %.1f | %.1f | %.0f |' "$2" "$3" "$4" \
		"$(median "$1_time")" "$(calc "$3 / $(median "$1_time")")" \
		"$(median "$1_cpu")" "$(calc "$3 / $(median "$1_cpu")")" \
		"$(median "$1_worker")" "$(most "$1_memory")" "$(median "$1_buffers")" "$(calc "$4 / 5000")"
}

out
out "## Compare"
out
out "A table of which Iterable has all rows (11 mapped columns, primary key bigint) is compared: its rows are read and" \
	"hashed, then it is looked for deliveries whose rows are gone. Time until all is sent and recorded, to an emulator" \
	"without limits; CPU of the process that compares, and of the one that sends. rescan_interval is 1 s. The last column" \
	"is what the requests would take at Iterable's limit of 5 a second."
out
out "| | rows | sent | time, s | rows/s | CPU, s | rows/s of CPU | CPU of the sender, s | memory, MiB | buffers a row | s at the limit |"
out "|---|---|---|---|---|---|---|---|---|---|---|"

start_compare 10000
forget
compare unchanged 10000 0 "SELECT iterable_backfill('s')"
line unchanged "unchanged" 10000 0

start_compare "$million"
forget
for _ in 1 2 3; do
	compare unchanged "$million" 0 "SELECT iterable_backfill('s')"
done
line unchanged "unchanged" "$million" 0
compare profiled "$million" 0 "SELECT iterable_backfill('s')"

compare mapping "$million" $((million / 100)) \
	"SELECT iterable_add_mapping('s', 'vip', expression => 'CASE WHEN id % 100 = 7 THEN true END', apply => 'backfill')"
line mapping "a mapping that changes 1 % of the rows" "$million" $((million / 100))

sql <<SQL
CREATE TABLE t_new (LIKE t INCLUDING ALL);
INSERT INTO t_new SELECT id, email, first_name, last_name, street, created_at, updated_at, balance, visits, active,
	CASE WHEN id % 100 = 3 THEN 'new' ELSE plan END, country FROM t ORDER BY id;
VACUUM ANALYZE t_new;
SQL
compare swap "$million" $((million / 100)) "BEGIN; DROP TABLE t; ALTER TABLE t_new RENAME TO t; COMMIT"
line swap "the table is replaced, 1 % of the rows differ" "$million" $((million / 100))

compare force "$million" "$million" "SELECT iterable_backfill('s', force => true)"
line force "all is sent again (force => true)" "$million" "$million"

grow "$million"
forget
compare unchanged $((million * 10)) 0 "SELECT iterable_backfill('s')"
line unchanged "unchanged" $((million * 10)) 0

query "ALTER SYSTEM RESET iterable_sync.rescan_interval"
query "SELECT pg_reload_conf()" >/dev/null
summary=$(profile_summary compare "is_render_walk_rows is_payload_write is_delivery_recall is_delivery_walk_keys
	is_render_find pg_cryptohash_init pg_cryptohash_final CommitTransactionCommand _bt_first standard_planner")
[ -z "$summary" ] ||
	{ out; out "Where the time goes, unchanged (perf, shares with callees): $summary."; }
