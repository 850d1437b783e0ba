# Memory of the worker while it drains slowly: must not grow with the backlog.

seconds=${BENCH_MEMORY_SECONDS:-20}

# greatest private memory of the worker, over some seconds
watch()
{
	local worker=$1 series=$2
	for _ in $(seq "$seconds"); do
		keep "${series}_anon" "$(rollup "$worker" Pss_Anon)"
		keep "${series}_rss" "$(rollup "$worker" Rss)"
		sleep 1
	done
}

out
out "## Memory"
out
out "The worker drains at 5 requests/s; greatest values over $seconds s, MiB. RSS counts the pages of shared_buffers that it has touched."
out
out "| pending when it began | left at the end | Pss_Anon | RSS | temporary files, MB |"
out "|---|---|---|---|---|"
forget
for pending in 1000 "$million" $((10 * million)); do
	say "memory: $pending pending" >&2
	new_database "memory_$pending"
	new_emulator --users-rate 0
	connect emulator "$emulator" "users_rate => 5"
	make_table t
	make_sync drain t user emulator
	enable drain updates_only
	disable drain
	fill_table t 1 "$pending"
	query "VACUUM ANALYZE t"
	enable drain updates_only
	sleep 2
	# 1000 would be gone at once: keep a little coming
	if [ "$pending" -eq 1000 ]; then
		for _ in $(seq $((seconds * 2))); do
			query "UPDATE t SET plan = plan || 'x'" || break
			sleep 0.5
		done &
	fi
	watch "$(worker_pid)" "m$pending"
	row '| %d | %d | %.1f | %.1f | %.0f |' "$pending" \
		"$(query "SELECT pending FROM iterable.sync_status")" \
		"$(most "m${pending}_anon")" "$(most "m${pending}_rss")" \
		"$(query "SELECT coalesce(sum(size), 0) / 1e6 FROM pg_ls_tmpdir()")"
	wait
done
