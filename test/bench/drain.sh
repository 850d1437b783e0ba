# How fast a backlog is sent to an emulator without limits, and what the
# worker does meanwhile.

# drain OBJECT WHAT EXPECTED-ROWS: enable the sync and wait
drain()
{
	local object=$1 series=$2 rows=$3 prefix=/api/users began ended worker cpu emulator_cpu accepted
	[ "$object" = user ] || prefix=/api/events
	control POST reset >/dev/null
	[ "$object" = user ] || seed_users $((million * 6 / 5))
	query "CHECKPOINT"
	worker=$(worker_pid)
	while [ -z "$worker" ]; do
		query "SELECT iterable_run('drain')" >/dev/null 2>&1 || true
		sleep 0.1
		worker=$(worker_pid)
	done
	cpu=$(cpu_ms "$worker")
	emulator_cpu=$(cpu_ms "$emulator_pid")
	began=$(now)
	enable drain updates_only
	[ -z "${4:-}" ] || profile "$worker" 4 "$series" &
	wait_for drain
	ended=$(now)
	wait
	[ "$worker" = "$(worker_pid)" ] || die "the worker was replaced"
	accepted=$(ask rows "$prefix")
	[ "$accepted" -eq "$rows" ] || die "$accepted rows were accepted, not $rows"
	keep "$series" "$(calc "$ended - $began" %.4f)"
	keep "${series}_cpu" "$(calc "($(cpu_ms "$worker") - $cpu) / 1000" %.3f)"
	keep "${series}_emulator" "$(calc "($(cpu_ms "$emulator_pid") - $emulator_cpu) / 1000" %.3f)"
}

line()
{
	row '| %s | %.0f | %.0f | %.0f %% | %.1f | %.0f %% | %.1f |' "$1" \
		"$(calc "$3 / $(median "$2")")" \
		"$(calc "$3 / $(least "${2}_cpu")")" \
		"$(calc "100 * $(median "${2}_cpu") / $(median "$2")")" \
		"$(calc "$(median "${2}_cpu") / $3 * 1e6")" \
		"$(calc "100 * $(median "${2}_emulator") / $(median "$2")")" \
		"$(calc "$(median "${2}_emulator") / $3 * 1e6")"
}

single=$((million / 5))
drain_rounds=${BENCH_DRAIN_ROUNDS:-3}
forget
out
out "## Drain"
out
out "Backlogs sent to an emulator without limits, connection with a rate of 1000 a second; medians of $drain_rounds."
out
out "| backlog | rows a second | rows a second of worker's CPU, best | worker, of a core | worker, µs a row | emulator, of a core | emulator, µs a row |"
out "|---|---|---|---|---|---|---|"
for object in user event; do
	new_emulator --users-rate 0 --events-rate 0
	for round in $(seq "$drain_rounds"); do
		say "drain: $object, round $round" >&2
		new_database "drain_${object}_$round"
		connect emulator "$emulator" "users_rate => 1000, events_rate => 1000"
		make_table t
		make_sync drain t "$object" emulator
		enable drain updates_only
		disable drain
		fill_table t 1 "$million"
		query "VACUUM ANALYZE t"
		drain "$object" "${object}_bulk" "$million" "$([ "$round" -gt 1 ] || echo profile)"

		# again all of them, which Iterable has by now: other hashes, HOT updates
		disable drain
		query "UPDATE t SET plan = 'x'"
		query "VACUUM ANALYZE t"
		drain "$object" "${object}_again" "$million"

		disable drain
		cat >"$work/insert.pgbench" <<SQL
INSERT INTO t SELECT i, 'customer' || i || '@example.com', 'First', 'Surname', '12 Long Street', now(), now(),
	12.34, 1, true, 'free', 'DE' FROM nextval('ids') i;
SQL
		query "CREATE SEQUENCE ids CACHE 100 START $((million + 1))"
		as_postgres env PGOPTIONS="-c synchronous_commit=off" "$bin/pgbench" -h "$work" -n -M prepared \
			-c 4 -j 2 -t $((single / 4)) -f "$work/insert.pgbench" "$db" >/dev/null 2>&1
		query "VACUUM ANALYZE t"
		drain "$object" "${object}_single" "$single" "$([ "$round" -gt 1 ] || echo profile)"

		# and all of them once more, remembering nothing
		disable drain
		query "SELECT iterable_update_sync('drain', track => false)" >/dev/null
		query "UPDATE t SET plan = 'y'"
		query "VACUUM ANALYZE t"
		drain "$object" "${object}_untracked" $((million + single))
	done
	line "$object: $million keys of one transaction" "${object}_bulk" "$million"
	line "$object: the same rows changed, $million keys of one UPDATE" "${object}_again" "$million"
	line "$object: $single transactions of one row" "${object}_single" "$single"
	line "$object: all of them changed, track => false" "${object}_untracked" $((million + single))
done
out
out "The emulator is the bound where its CPU a row, over its two threads, or its share of the machine says so; the worker waits for" \
	"its own commits (one fsync a batch of 1000) and for the emulator in what is left to 100 %."
steps="is_run_start_window is_run_fill is_render_rows is_payload_write is_delivery_recall
	is_batch_build_request is_http_start is_http_wait is_api_read_answer is_run_record
	is_delivery_record CommitTransactionCommand is_txn_flush_wal is_query_run"
for name in user_bulk event_bulk user_single; do
	summary=$(profile_summary "$name" "$steps")
	[ -z "$summary" ] ||
		{ out; out "Where the worker's time goes, $name (perf, 4 s, shares with callees): $summary."; }
done
