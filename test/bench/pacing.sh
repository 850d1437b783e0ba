# Share of the rate limit that is used under a backlog.

seconds=${BENCH_PACING_SECONDS:-20}

out
out "## Pacing"
out
out "Users at 5 and events at 10 requests/s at the same time, $seconds s under a backlog; the emulator keeps the same limits and" \
	"counts the most arrivals in any sliding second."
out
out "| latency of the emulator | endpoint | requests | share of the limit | most in a second | refused (429) |"
out "|---|---|---|---|---|---|"
for latency in 0 300; do
	say "pacing: $latency ms" >&2
	new_database "pacing_$latency"
	new_emulator
	control POST config "{\"latencyMs\":$latency}" >/dev/null
	seed_users $((seconds * 10000 + 30000))
	connect emulator "$emulator"
	make_table t $((seconds * 10000 + 30000))
	query "VACUUM ANALYZE t"
	make_sync users t user emulator
	make_sync events t event emulator
	enable users backfill
	enable events backfill
	sleep $((seconds + 6))
	disable users
	disable events
	sleep 1
	for endpoint in users/bulkUpdate events/trackBulk; do
		rate=10
		[ $endpoint = events/trackBulk ] || rate=5
		# shellcheck disable=SC2046
		set -- $(ask pace /api/$endpoint $rate "$seconds")
		row '| %d ms | %s | %d | %.1f %% | %d | %d |' "$latency" "$endpoint" "$2" \
			"$(calc "100 * $1" %.3f)" "$3" \
			"$(ask arrivals /api/$endpoint | awk '$3 == 429' | wc -l)"
	done
done
