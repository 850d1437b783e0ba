# Share of the rate limit that is used under a backlog.

seconds=${BENCH_PACING_SECONDS:-20}

out
out "## Pacing"
out
out "Users at 5 and events at 10 requests/s at the same time, $seconds s under a backlog; the emulator keeps no limit but" \
	"counts the most arrivals in any sliding second. The pacer adds 10 ms to each second, so 99 % is the most there can be."
out
out "| backlog | latency of the emulator | endpoint | requests | share of the limit | most in a second |"
out "|---|---|---|---|---|---|"
for backlog in captured backfill; do
	for latency in 0 300; do
		say "pacing: $backlog, $latency ms" >&2
		new_database "pacing_${backlog}_$latency"
		new_emulator --users-rate 0 --events-rate 0
		control POST config "{\"latencyMs\":$latency}" >/dev/null
		seed_users $((seconds * 10000 + 30000))
		connect emulator "$emulator"
		make_table t $((seconds * 10000 + 30000))
		make_sync users t user emulator
		make_sync events t event emulator
		if [ "$backlog" = captured ]; then
			for sync in users events; do enable $sync updates_only; disable $sync; done
			query "UPDATE t SET plan = 'x'"
		fi
		query "VACUUM ANALYZE t"
		query "CHECKPOINT"
		for sync in users events; do
			if [ "$backlog" = captured ]; then enable $sync updates_only; else enable $sync backfill; fi
		done
		sleep $((seconds + 6))
		for sync in users events; do disable $sync; done
		sleep 1
		for endpoint in users/bulkUpdate events/trackBulk; do
			rate=10
			[ $endpoint = events/trackBulk ] || rate=5
			# shellcheck disable=SC2046
			set -- $(ask pace /api/$endpoint $rate "$seconds")
			row '| %s | %d ms | %s | %d | %.1f %% | %d |' "$backlog" "$latency" "$endpoint" "$2" \
				"$(calc "100 * $1" %.3f)" "$3"
		done
	done
done
