# How fast a backlog is read from the change log, and what a sync that keeps
# the log costs the others and the disk.

backlog=$((5 * million))

# A module of its own, of the extension's objects, that shows nothing of them.
echo '{ global: read_windows; Pg_magic_func; pg_finfo_read_windows; local: *; };' >"$work/window.map"
gcc -shared -fPIC -O2 -I"$("$PG_CONFIG" --includedir-server)" -I"$tree/src" -o "$work/window.so" \
	"$top/test/bench/window.c" "$tree"/src/*.o -lcurl -lcjson \
	-Wl,--allow-multiple-definition -Wl,--version-script="$work/window.map"
chmod 755 "$work/window.so"

# A sync in mode update only notes an event that it meets for the first time: no
# server is needed.
noting_sync()
{
	query "SELECT iterable_create_sync('$1', connection => 'nowhere', source => '$1', object => 'event',
		unique_field => 'id', match_field => 'email', mode => 'update')" >/dev/null
	query "SELECT iterable_add_mapping('$1', 'eventName', constant => 'e')" >/dev/null
	query "SELECT iterable_add_mapping('$1', 'id', column_name => 'id')" >/dev/null
	enable "$1" updates_only
}

# A database with a backlog of a disabled sync, and one that runs.
log_database()
{
	new_database "$1"
	connect nowhere http://127.0.0.1:1
	sql <<SQL
CREATE TABLE kept (id bigint PRIMARY KEY, email text DEFAULT 'ann@example.com');
CREATE TABLE running (LIKE kept INCLUDING ALL);
CREATE SEQUENCE ids;
CREATE PROCEDURE read_windows(sync_id integer) LANGUAGE C AS '$work/window.so';
CREATE PROCEDURE insert_singly(n bigint) LANGUAGE plpgsql AS \$\$
BEGIN
	FOR i IN 1..n LOOP
		INSERT INTO kept VALUES (i);
		COMMIT;
	END LOOP;
END \$\$;
SQL
	noting_sync kept 2>/dev/null
	noting_sync running 2>/dev/null
	disable kept
}

log_mb() { query "SELECT round(sum(pg_total_relation_size('iterable.change_' || i)) / 1048576) FROM generate_series(0, 3) i"; }

read_backlog()
{
	local keys seconds
	read -r keys seconds < <(query "SELECT sync_id FROM iterable.sync WHERE name = 'kept'" |
		xargs -I{} bash -c 'echo "CALL read_windows({})"' | sql 2>&1 | sed 's/.*NOTICE: *//')
	[ "$keys" -eq "$backlog" ] || die "$keys keys were read, not $backlog"
	keep "$1" "$(calc "$seconds" %.4f)"
}

# begin_snapshot: of another session, until end_snapshot
begin_snapshot()
{
	mkfifo "$work/snapshot"
	sql <"$work/snapshot" >/dev/null &
	exec 7>"$work/snapshot"
	echo 'BEGIN ISOLATION LEVEL REPEATABLE READ; SELECT count(*) FROM kept;' >&7
	sleep 0.5
}
end_snapshot()
{
	exec 7>&-
	rm "$work/snapshot"
}

# CPU time of the worker in ms for 1,000 commits of a row of "running", 10 s
commits()
{
	local worker cpu
	echo "INSERT INTO running VALUES (nextval('ids'))" >"$work/commit.pgbench"
	query "INSERT INTO running VALUES (nextval('ids'))"
	wait_for running
	worker=$(worker_pid)
	cpu=$(cpu_ms "$worker")
	as_postgres "$bin/pgbench" -h "$work" -n -R 100 -T 10 -f "$work/commit.pgbench" "$db" >/dev/null 2>&1
	wait_for running
	keep "$1" $(($(cpu_ms "$worker") - cpu))
}

forget
out
out "## Log"
out
out "Reading a backlog of $backlog keys, chunks of 1000 as a run does; medians of $rounds. With an old snapshot, another session" \
	"has been in a REPEATABLE READ transaction since before the keys."
out
out "| backlog | log, MB | keys a second of CPU | with an old snapshot |"
out "|---|---|---|---|"
for kind in bulk single; do
	for snapshot in no old; do
		say "log: $kind, $snapshot snapshot" >&2
		log_database "log_${kind}_$snapshot"
		[ "$kind$snapshot" = singleno ] && commits without
		[ $snapshot = no ] || begin_snapshot
		if [ $kind = bulk ]; then
			query "INSERT INTO kept SELECT generate_series(1, $backlog)"
		else
			sql <<<"SET synchronous_commit = off; CALL insert_singly($backlog)"
		fi
		size=$(log_mb)
		for _ in $(seq "$rounds"); do read_backlog "${kind}_$snapshot"; done
		[ $snapshot = no ] || end_snapshot
	done
	row '| %s | %d | %.0f | %.0f |' "$([ $kind = bulk ] && echo "one transaction" || echo "$backlog transactions")" "$size" \
		"$(calc "$backlog / $(median "${kind}_no")")" "$(calc "$backlog / $(median "${kind}_old")")"
done
commits beside
out
out "A sync that runs, 1000 commits in 10 s: its worker takes $(median without) ms of CPU, and $(median beside) ms beside the" \
	"disabled sync, which keeps the $size MB of the last line."

query "ALTER SYSTEM SET iterable_sync.rescan_interval = '1s'"
query "ALTER SYSTEM SET iterable_sync.max_change_log_size = '$((size / 2))MB'"
began=$(now)
query "SELECT pg_reload_conf()" >/dev/null
until [ "$(log_mb)" -lt $((size / 2)) ]; do
	[ "$(calc "$(now) - $began" %.0f)" -lt 120 ] || die "the log does not shrink: $(log_mb) MB"
	query "INSERT INTO running VALUES (nextval('ids'))"
	sleep 0.2
done
out
out "With \`iterable_sync.max_change_log_size\` at $((size / 2)) MB the disabled sync loses its place; $(calc "$(now) - $began" %.1f) s after" \
	"the setting was changed the log has $(log_mb) MB."
query "ALTER SYSTEM RESET iterable_sync.max_change_log_size"
query "ALTER SYSTEM RESET iterable_sync.rescan_interval"
query "SELECT pg_reload_conf()" >/dev/null
