# What capture costs the transactions that write: bulk INSERT, bulk UPDATE and
# single-row UPDATE, against no trigger and against other ways to capture.
# Nothing is sent: the connection leads to a closed port.

updates=$((million * 3 / 10))

# ---- the variants: table t_NAME, log in log_NAME where it has one

new_database capture
connect nowhere http://127.0.0.1:9
make_table feed "$million"
query "VACUUM ANALYZE feed"

variants="none noop sync rows stmt_keys row_keys row_jsonb"
for variant in $variants; do make_table "t_$variant"; done

gcc -shared -fPIC -O2 -I"$("$PG_CONFIG" --includedir-server)" -o "$work/noop.so" "$top/test/bench/noop.c"
chmod 755 "$work/noop.so"
sql <<SQL
CREATE FUNCTION noop() RETURNS trigger LANGUAGE C AS '$work/noop.so', 'noop';
CREATE TRIGGER capture AFTER INSERT OR UPDATE OR DELETE ON t_noop
	FOR EACH ROW EXECUTE FUNCTION noop();

CREATE TABLE log_row_jsonb (seq bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY, op text, data jsonb);
CREATE FUNCTION row_jsonb() RETURNS trigger LANGUAGE plpgsql AS \$\$
BEGIN
	INSERT INTO log_row_jsonb (op, data) VALUES (TG_OP, to_jsonb(NEW));
	RETURN NULL;
END \$\$;
CREATE TRIGGER capture AFTER INSERT OR UPDATE ON t_row_jsonb
	FOR EACH ROW EXECUTE FUNCTION row_jsonb();

CREATE TABLE log_row_keys (seq bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY, op text, key bigint);
CREATE FUNCTION row_keys() RETURNS trigger LANGUAGE plpgsql AS \$\$
BEGIN
	INSERT INTO log_row_keys (op, key) VALUES (TG_OP, NEW.id);
	RETURN NULL;
END \$\$;
CREATE TRIGGER capture AFTER INSERT OR UPDATE ON t_row_keys
	FOR EACH ROW EXECUTE FUNCTION row_keys();

CREATE TABLE log_stmt_keys (seq bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY, op text, key bigint);
CREATE FUNCTION stmt_keys() RETURNS trigger LANGUAGE plpgsql AS \$\$
BEGIN
	INSERT INTO log_stmt_keys (op, key) SELECT TG_OP, n.id FROM new_rows n;
	RETURN NULL;
END \$\$;
CREATE TRIGGER capture_insert AFTER INSERT ON t_stmt_keys
	REFERENCING NEW TABLE AS new_rows FOR EACH STATEMENT EXECUTE FUNCTION stmt_keys();
CREATE TRIGGER capture_update AFTER UPDATE ON t_stmt_keys
	REFERENCING NEW TABLE AS new_rows FOR EACH STATEMENT EXECUTE FUNCTION stmt_keys();
SQL
make_sync sync t_sync user nowhere
enable sync updates_only
make_sync rows t_rows event nowhere
query "SELECT iterable_update_sync('rows', capture => 'row', versions => true)" >/dev/null
enable rows updates_only

# PgQ comes from Debian's package, unpacked into the private copy only.
major=$(echo "$version" | sed 's/[^0-9]*\([0-9]*\).*/\1/')
pgq_note=
if (cd "$work" && apt-get download -qq "postgresql-$major-pgq3") >/dev/null 2>&1 &&
	dpkg -x "$work"/postgresql-"$major"-pgq3_*.deb "$private" &&
	query "CREATE EXTENSION pgq; SELECT pgq.create_queue('bench')" >/dev/null; then
	variants="$variants pgq"
	make_table t_pgq
	query "CREATE TRIGGER capture AFTER INSERT OR UPDATE OR DELETE ON t_pgq
		FOR EACH ROW EXECUTE FUNCTION pgq.logutriga('bench')"
else
	pgq_note="PgQ is left out: package postgresql-$major-pgq3 cannot be had."
fi
variants=${BENCH_VARIANTS:-$variants}

what()
{
	case $1 in
		none) echo "no trigger" ;;
		noop) echo "row trigger in C that does nothing" ;;
		sync) echo "**iterable_sync**" ;;
		rows) echo "**iterable_sync**, capture => 'row'" ;;
		stmt_keys) echo "statement trigger, keys of the transition table" ;;
		row_keys) echo "row trigger in plpgsql, keys" ;;
		row_jsonb) echo "row trigger in plpgsql, row as jsonb" ;;
		pgq) echo "PgQ 3 logutriga" ;;
	esac
}

# Bytes of a variant's log.
log_size()
{
	case $1 in
		sync | rows) query "SELECT sum(pg_total_relation_size(('iterable.change_' || i)::regclass)) FROM generate_series(0, 3) i" ;;
		stmt_keys | row_keys | row_jsonb) query "SELECT pg_total_relation_size('log_$1')" ;;
		pgq) query "SELECT sum(pg_total_relation_size(inhrelid)) FROM pg_inherits
			WHERE inhparent = (SELECT queue_data_pfx::regclass FROM pgq.queue)" ;;
		*) echo 0 ;;
	esac
}

empty()
{
	query "TRUNCATE t_$1"
	case $1 in
		stmt_keys | row_keys | row_jsonb) query "TRUNCATE log_$1" ;;
		pgq) query "TRUNCATE pgq.event_1" ;;
	esac
}

# timed SERIES VARIANT STATEMENT: keeps seconds, CPU time of the session, WAL
# and bytes of log
timed()
{
	local before values
	query "CHECKPOINT"
	before=$(log_size "$2")
	values=$(sql <<SQL
SELECT pg_backend_pid() AS pid \gset
\setenv SESSION :pid
\set cpu \`awk '{ print (\$14 + \$15) / 100 }' /proc/\$SESSION/stat\`
SELECT clock_timestamp() AS t, pg_current_wal_insert_lsn() AS l \gset
$3;
SELECT clock_timestamp() AS u, pg_current_wal_insert_lsn() AS m \gset
\set after \`awk '{ print (\$14 + \$15) / 100 }' /proc/\$SESSION/stat\`
SELECT extract(epoch FROM :'u' - timestamptz :'t'), pg_lsn :'m' - pg_lsn :'l', :after - :cpu;
SQL
	)
	# shellcheck disable=SC2086
	set -- "$1_$2" "$2" $values
	keep "$1" "$3"
	keep "$1_wal" "$4"
	keep "$1_cpu" "$5"
	keep "$1_log" $(($(log_size "$2") - before))
}

# table SERIES ROWS VARIANT …
table()
{
	local series=$1 rows=$2 variant
	shift 2
	out "| variant | time | least–greatest | CPU | CPU, least | µs CPU a row | WAL, MB | log, bytes a row |"
	out "|---|---|---|---|---|---|---|---|"
	for variant; do
		row '| %s | %.2f | %s | %.2f | %.2f | %.2f | %.0f | %.1f |' "$(what "$variant")" \
			"$(ratio "${series}_$variant" "${series}_none")" \
			"$(spread "${series}_$variant" "${series}_none")" \
			"$(ratio "${series}_${variant}_cpu" "${series}_none_cpu")" \
			"$(calc "$(least "${series}_${variant}_cpu") / $(least "${series}_none_cpu")")" \
			"$(calc "($(least "${series}_${variant}_cpu") - $(least "${series}_none_cpu")) / $rows * 1e6")" \
			"$(calc "($(median "${series}_${variant}_wal") - $(median "${series}_none_wal")) / 1e6")" \
			"$(calc "$(median "${series}_${variant}_log") / $rows")"
	done
}

# ---- bulk

say "capture: INSERT of $million rows, $rounds rounds"
forget
for _ in $(seq "$rounds"); do
	for variant in $(shuf -e $variants); do
		empty "$variant"
		timed insert "$variant" "INSERT INTO t_$variant SELECT * FROM feed"
	done
done
out
out "## Capture"
out
out "Ratios to no trigger. Time and CPU: medians of the rounds' ratios (CPU of the session); CPU, least: the least of all rounds" \
	"over the least without trigger, which others on the machine disturb least. µs (of the least CPU), WAL and log are what is added."
out
out "INSERT … SELECT of $million rows (12 columns, $(query "SELECT round(avg(length(row_to_json(f)::text))) FROM feed f WHERE id % 100 = 0") bytes as JSON) in one transaction;" \
	"$rounds rounds, interleaved; without trigger $(calc "$(median insert_none)") s ($(calc "$(median insert_none_cpu)") s of CPU), $(calc "$(median insert_none_wal) / 1e6" %.0f) MB of WAL." \
	"${pgq_note}"
out
table insert "$million" $variants

say "capture: COPY of $million rows"
query "COPY feed TO '$work/feed.copy'"
for _ in $(seq "$rounds"); do
	for variant in $(shuf -e $variants); do
		empty "$variant"
		timed copy "$variant" "COPY t_$variant FROM '$work/feed.copy'"
	done
done
rm -f "$work/feed.copy"
out
out "COPY of the same rows from a file; without trigger $(calc "$(median copy_none)") s ($(calc "$(median copy_none_cpu)") s of CPU)."
out
table copy "$million" $variants

say "capture: UPDATE of $updates rows"
for _ in $(seq "$rounds"); do
	for variant in $(shuf -e $variants); do
		empty "$variant"
		query "INSERT INTO t_$variant SELECT * FROM feed LIMIT $updates"
		case $variant in stmt_keys | row_keys | row_jsonb) query "TRUNCATE log_$variant" ;; esac
		timed update "$variant" "UPDATE t_$variant SET plan = 'new'"
	done
done
out
out "UPDATE of $updates rows, a mapped column; without trigger $(calc "$(median update_none)") s ($(calc "$(median update_none_cpu)") s of CPU)."
out
table update "$updates" $variants

for _ in $(seq "$rounds"); do
	for variant in $(shuf -e $variants); do
		empty "$variant"
		query "INSERT INTO t_$variant SELECT * FROM feed LIMIT $updates"
		case $variant in stmt_keys | row_keys | row_jsonb) query "TRUNCATE log_$variant" ;; esac
		timed unmapped "$variant" "UPDATE t_$variant SET visits = visits + 1"
	done
done
out
out "UPDATE of $updates rows, a column that is not mapped; without trigger $(calc "$(median unmapped_none)") s ($(calc "$(median unmapped_none_cpu)") s of CPU)."
out
table unmapped "$updates" $variants

# ---- single rows

say "capture: pgbench"
seconds=${BENCH_SECONDS:-8}
for variant in $variants; do
	cat >"$work/$variant.pgbench" <<SQL
\set id random(1, $updates)
\set r random(1, 1000000)
UPDATE t_$variant SET plan = :r WHERE id = :id;
SQL
	chmod 644 "$work/$variant.pgbench"
	query "VACUUM (FREEZE, ANALYZE) t_$variant"
done
# CPU time in ms of the server's processes that have ended
ended_cpu() { awk '{ print ($16 + $17) * 10 }' "/proc/$(head -1 "$work/data/postmaster.pid")/stat"; }
for commit in on off; do
	for _ in $(seq "$rounds"); do
		for variant in $(shuf -e $variants); do
			query "CHECKPOINT"
			worker=$(worker_pid)
			cpu=$([ -z "$worker" ] || cpu_ms "$worker")
			ended=$(ended_cpu)
			as_postgres env PGOPTIONS="-c synchronous_commit=$commit" \
				"$bin/pgbench" -h "$work" -n -M prepared -c 4 -j 2 -T "$seconds" \
				-f "$work/$variant.pgbench" "$db" >"$work/pgbench.out" 2>&1
			tps=$(sed -n 's/^tps = \([0-9.]*\).*/\1/p' "$work/pgbench.out")
			sleep 0.2
			keep "tps_${commit}_$variant" "$tps"
			keep "ucpu_${commit}_$variant" "$(calc "($(ended_cpu) - $ended) * 1000 / $seconds / $tps")"
			if [ "$variant" = sync ] && [ -n "$worker" ] && [ "$worker" = "$(worker_pid)" ]; then
				keep "worker_${commit}" "$(calc "($(cpu_ms "$worker") - $cpu) / $seconds / 10" %.1f)"
			fi
		done
	done
done
out
fsync=$(as_postgres "$bin/pg_test_fsync" -s 1 -f "$work/data/fsync.test" 2>/dev/null | awk '/fdatasync.*usecs/ { print $(NF - 1); exit }')
out "Single-row UPDATE by primary key, pgbench -M prepared -c 4 -j 2, $seconds s, $rounds rounds. An fdatasync takes $fsync µs on this machine."
out "Share: transactions a second with it over those without trigger. CPU: of the sessions, µs a transaction."
out
out "| variant | synchronous_commit = on: tps | share | least–greatest | CPU | off: tps | share | least–greatest | CPU |"
out "|---|---|---|---|---|---|---|---|---|"
for variant in $variants; do
	row '| %s | %.0f | %.2f | %s | %.0f | %.0f | %.2f | %s | %.0f |' "$(what $variant)" \
		"$(median tps_on_$variant)" "$(ratio tps_on_$variant tps_on_none)" "$(spread tps_on_$variant tps_on_none)" "$(median ucpu_on_$variant)" \
		"$(median tps_off_$variant)" "$(ratio tps_off_$variant tps_off_none)" "$(spread tps_off_$variant tps_off_none)" "$(median ucpu_off_$variant)"
done
out
out "The worker, woken by these commits but unable to send, used" \
	"$(median worker_on || echo ?) % (on) and $(median worker_off || echo ?) % (off) of a core meanwhile."
