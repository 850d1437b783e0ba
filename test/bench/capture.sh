# What capture costs the transactions that write: bulk INSERT, bulk UPDATE and
# single-row UPDATE, against no trigger and against other ways to capture.
# Nothing is sent: the connection leads to a closed port.

updates=$((million * 3 / 10))

# ---- the variants: table t_NAME, log in log_NAME where it has one

new_database capture
connect nowhere http://127.0.0.1:9
make_table feed "$million"
query "VACUUM ANALYZE feed"

variants="none noop sync stmt_keys row_jsonb"
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

what()
{
	case $1 in
		none) echo "no trigger" ;;
		noop) echo "row trigger in C that does nothing" ;;
		sync) echo "**iterable_sync**" ;;
		stmt_keys) echo "statement trigger, keys of the transition table" ;;
		row_jsonb) echo "row trigger in plpgsql, row as jsonb" ;;
		pgq) echo "PgQ 3 logutriga" ;;
	esac
}

# Bytes of a variant's log.
log_size()
{
	case $1 in
		sync) query "SELECT sum(pg_total_relation_size(('iterable.change_' || i)::regclass)) FROM generate_series(0, 3) i" ;;
		stmt_keys | row_jsonb) query "SELECT pg_total_relation_size('log_$1')" ;;
		pgq) query "SELECT sum(pg_total_relation_size(inhrelid)) FROM pg_inherits
			WHERE inhparent = (SELECT queue_data_pfx::regclass FROM pgq.queue)" ;;
		*) echo 0 ;;
	esac
}

empty()
{
	query "TRUNCATE t_$1"
	case $1 in
		stmt_keys | row_jsonb) query "TRUNCATE log_$1" ;;
		pgq) query "TRUNCATE pgq.event_1" ;;
	esac
}

# timed SERIES VARIANT STATEMENT: keeps seconds, WAL and bytes of log
timed()
{
	local before values
	query "CHECKPOINT"
	before=$(log_size "$2")
	values=$(sql <<SQL
SELECT clock_timestamp() AS t, pg_current_wal_insert_lsn() AS l \gset
$3;
SELECT extract(epoch FROM clock_timestamp() - :'t'), pg_current_wal_insert_lsn() - :'l';
SQL
	)
	# shellcheck disable=SC2086
	set -- "$1_$2" "$2" $values
	keep "$1" "$3"
	keep "$1_wal" "$4"
	keep "$1_log" $(($(log_size "$2") - before))
}

# table SERIES ROWS VARIANT …
table()
{
	local series=$1 rows=$2 variant
	shift 2
	out "| variant | time, ratio | least–greatest | µs a row added | WAL added, MB | log, bytes a row |"
	out "|---|---|---|---|---|---|"
	for variant; do
		row '| %s | %.2f | %s | %.2f | %.0f | %.1f |' "$(what "$variant")" \
			"$(ratio "${series}_$variant" "${series}_none")" \
			"$(spread "${series}_$variant" "${series}_none")" \
			"$(calc "($(median "${series}_$variant") - $(median "${series}_none")) / $rows * 1e6")" \
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
out "INSERT … SELECT of $million rows (12 columns, $(query "SELECT round(avg(length(row_to_json(f)::text))) FROM feed f WHERE id % 100 = 0") bytes as JSON) in one transaction;" \
	"$rounds rounds, interleaved; without trigger $(calc "$(median insert_none)") s, $(calc "$(median insert_none_wal) / 1e6" %.0f) MB of WAL." \
	"${pgq_note}"
out
table insert "$million" $variants

say "capture: UPDATE of $updates rows"
for _ in $(seq "$rounds"); do
	for variant in $(shuf -e $variants); do
		empty "$variant"
		query "INSERT INTO t_$variant SELECT * FROM feed LIMIT $updates"
		case $variant in stmt_keys | row_jsonb) query "TRUNCATE log_$variant" ;; esac
		timed update "$variant" "UPDATE t_$variant SET plan = 'new'"
	done
done
out
out "UPDATE of $updates rows, a mapped column; without trigger $(calc "$(median update_none)") s."
out
table update "$updates" $variants

for _ in $(seq "$rounds"); do
	for variant in $(shuf -e none noop sync); do
		empty "$variant"
		query "INSERT INTO t_$variant SELECT * FROM feed LIMIT $updates"
		timed unmapped "$variant" "UPDATE t_$variant SET visits = visits + 1"
	done
done
out
out "UPDATE of $updates rows, a column that is not mapped."
out
table unmapped "$updates" none noop sync

# ---- single rows

say "capture: pgbench"
seconds=${BENCH_SECONDS:-8}
for variant in none noop sync; do
	cat >"$work/$variant.pgbench" <<SQL
\set id random(1, $updates)
\set r random(1, 1000000)
UPDATE t_$variant SET plan = :r WHERE id = :id;
SQL
	chmod 644 "$work/$variant.pgbench"
	query "VACUUM (FREEZE, ANALYZE) t_$variant"
done
for commit in on off; do
	for _ in $(seq "$rounds"); do
		for variant in $(shuf -e none noop sync); do
			query "CHECKPOINT"
			worker=$(worker_pid)
			[ -z "$worker" ] || cpu=$(cpu_ms "$worker")
			tps=$(as_postgres env PGOPTIONS="-c synchronous_commit=$commit" \
				"$bin/pgbench" -h "$work" -n -M prepared -c 4 -j 2 -T "$seconds" \
				-f "$work/$variant.pgbench" "$db" 2>/dev/null | sed -n 's/^tps = \([0-9.]*\).*/\1/p')
			keep "tps_${commit}_$variant" "$tps"
			if [ "$variant" = sync ] && [ -n "$worker" ] && [ "$worker" = "$(worker_pid)" ]; then
				keep "cpu_${commit}_sync" "$(calc "($(cpu_ms "$worker") - $cpu) / $seconds / 10" %.1f)"
			fi
		done
	done
done
out
out "Single-row UPDATE by primary key, pgbench -M prepared -c 4 -j 2, $seconds s, $rounds rounds."
out "Ratio: transactions a second without trigger over those with it."
out
out "| variant | synchronous_commit = on: tps | ratio | least–greatest | off: tps | ratio | least–greatest |"
out "|---|---|---|---|---|---|---|"
for variant in none noop sync; do
	row '| %s | %.0f | %.2f | %s | %.0f | %.2f | %s |' "$(what $variant)" \
		"$(median tps_on_$variant)" "$(ratio tps_on_none tps_on_$variant)" "$(spread tps_on_none tps_on_$variant)" \
		"$(median tps_off_$variant)" "$(ratio tps_off_none tps_off_$variant)" "$(spread tps_off_none tps_off_$variant)"
done
out
out "The worker, woken by these commits, used" \
	"$(median cpu_on_sync 2>/dev/null || echo ?) % (on) and $(median cpu_off_sync 2>/dev/null || echo ?) % (off) of a core meanwhile."
