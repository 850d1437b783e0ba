#!/bin/bash
# Every tier of tests; ends with one line, "N passed, N failed".
#
# usage: test/check.sh [tier ...]   tiers: regress isolation tap unit emulator exports reference;
#                                   model soak
source "$(dirname "$0")/lib.sh"

passed=0
failed=0
add() { passed=$((passed + $1)); failed=$((failed + $2)); }

# pg_regress and the isolation tester print a line a test, in the form of
# PostgreSQL 15 ("test x ... ok") or of TAP.
count_regress()
{
	local log=$1 ok bad
	ok=$(grep -cE '(^ok [0-9]+|^ *(test )?[a-z0-9_]+ +\.\.\. ok)' "$log" || true)
	bad=$(grep -cE '(^not ok [0-9]+|\.\.\. FAILED)' "$log" || true)
	# it may also have died on the way
	if [ "$bad" -eq 0 ] && { [ "$ok" -eq 0 ] || [ "$2" -ne 0 ]; }; then bad=1; fi
	add "$ok" "$bad"
	if [ "$bad" -gt 0 ]; then
		cat "$log"
		cat "$tree"/regression.diffs "$tree"/regression.diffs 2>/dev/null | head -400 || true
	fi
	say "   $ok passed, $bad failed"
}

names() { (cd "$tree" && ls "$1"/*."$2" 2>/dev/null | xargs -r -n1 basename | sed "s/\.$2$//"); }

tier_regress()
{
	local status=0

	say "pg_regress: the SQL surface"
	(cd "$tree" && as_postgres "$pgxs/src/test/regress/pg_regress" \
		--inputdir=test --outputdir=. --bindir="$bin" --encoding=UTF8 \
		--temp-instance="$work/regress" --temp-config=test/regress.conf \
		--dbname=contrib_regression $(names test/sql sql)) >"$work/regress.log" 2>&1 || status=$?
	count_regress "$work/regress.log" $status
}

tier_isolation()
{
	local status=0

	say "isolation: what other sessions can do in between"
	(cd "$tree" && as_postgres "$pgxs/src/test/isolation/pg_isolation_regress" \
		--inputdir=test --outputdir=. --bindir="$bin" \
		--temp-instance="$work/isolation" --temp-config=test/regress.conf \
		--dbname=isolation_regression $(names test/specs spec)) >"$work/isolation.log" 2>&1 || status=$?
	count_regress "$work/isolation.log" $status
}

# One line of totals from TAP::Harness; the harness counts every assertion.
run_tap()
{
	local jobs=${ITERABLE_SYNC_JOBS:-4}

	# what a test that dies leaves in its TMPDIR goes with the rest
	as_postgres mkdir -p "$work/tap/log" "$work/tmp"
	(cd "$tree" && as_postgres env PERL5LIB="$pgxs/src/test/perl:$tree/test/t" \
		PG_REGRESS="$pgxs/src/test/regress/pg_regress" \
		TMPDIR="$work/tmp" TESTDATADIR="$work/tap" TESTLOGDIR="$work/tap/log" TESTDIR="$work/tap" \
		ITERABLE_EMULATOR="$tree/test/emulator/iterable_emulator" \
		ITERABLE_SYNC_TREE="$tree" \
		perl test/harness.pl "$jobs" "$@") >"$work/tap.log" 2>&1 || true
	local line
	line=$(grep -E '^TOTAL [0-9]+ [0-9]+$' "$work/tap.log" | tail -1 || true)
	if [ -z "$line" ]; then
		cat "$work/tap.log"
		add 0 1
		return
	fi
	# shellcheck disable=SC2086
	set -- $line
	add "$2" "$3"
	[ "$3" -eq 0 ] || cat "$work/tap.log"
	say "   $2 passed, $3 failed"
}

tier_tap()
{
	say "TAP: worker, launcher and server against the emulator"
	# the last ones are the longest, and must not run alone at the end
	# shellcheck disable=SC2046
	run_tap ${ITERABLE_SYNC_TAP:-test/model/model.pl $(cd "$tree" && ls -r test/t/*.pl)}
}

tier_model()
{
	say "model: faults and deaths at random"
	run_tap test/model/model.pl
}

# The model with one seed after the other, until one fails or time is up.
tier_soak()
{
	local seed=${ITERABLE_SYNC_MODEL_SEED:-$(date +%s)}
	local end=$((SECONDS + ${ITERABLE_SYNC_SOAK_TIME:-1800}))

	export ITERABLE_SYNC_MODEL_TIME=${ITERABLE_SYNC_MODEL_TIME:-120}
	while [ "$failed" -eq 0 ] && [ $SECONDS -lt $end ]; do
		say "soak: seed $seed"
		export ITERABLE_SYNC_MODEL_SEED=$seed
		run_tap test/model/model.pl
		find "$work/tap" -name regress_log_model -exec grep -ohE '[0-9]+ (transactions changed rows|rounds;).*' {} + | sed 's/^/   /'
		seed=$((seed + 1))
	done
}

# cmocka prints "[  PASSED  ] N test(s)." and the same for FAILED, a program.
tier_unit()
{
	say "unit: the pure C"
	as_postgres make -s -C "$tree/test/unit" PG_CONFIG="$PG_CONFIG" check >"$work/unit.log" 2>&1 ||
		echo "make failed" >>"$work/unit.log"
	local ok bad
	ok=$(sed -n 's/.*\[  PASSED  \] \([0-9]\+\) test.*/\1/p' "$work/unit.log" | awk '{s+=$1} END {print s+0}')
	bad=$(sed -n 's/.*\[  FAILED  \] \([0-9]\+\) test.*/\1/p' "$work/unit.log" | awk '{s+=$1} END {print s+0}')
	if [ "$ok" -eq 0 ] || { grep -q 'make failed' "$work/unit.log" && [ "$bad" -eq 0 ]; }; then
		bad=$((bad + 1))
	fi
	add "$ok" "$bad"
	[ "$bad" -eq 0 ] || cat "$work/unit.log"
	say "   $ok passed, $bad failed"
}

tier_emulator()
{
	say "emulator: request and answer pairs"
	as_postgres make -s -C "$tree/test/emulator" check >"$work/emulator.log" 2>&1 ||
		echo "make failed" >>"$work/emulator.log"
	local ok bad
	# cmocka prints a line a test, prove a total a run and what failed of a file
	ok=$(awk '/^ok [0-9]/ {n++} match($0, /Tests=[0-9]+/) {n += substr($0, RSTART + 6, RLENGTH - 6)}
		match($0, /Failed [0-9]+\//) {n -= substr($0, RSTART + 7, RLENGTH - 8)} END {print n + 0}' "$work/emulator.log")
	bad=$(awk '/^not ok/ {n++} match($0, /Failed [0-9]+\//) {n += substr($0, RSTART + 7, RLENGTH - 8)}
		END {print n + 0}' "$work/emulator.log")
	if [ "$ok" -eq 0 ] || { grep -q 'make failed' "$work/emulator.log" && [ "$bad" -eq 0 ]; }; then
		bad=$((bad + 1))
	fi
	add "$ok" "$bad"
	[ "$bad" -eq 0 ] || cat "$work/emulator.log"
	say "   $ok passed, $bad failed"
}

# Nothing but what exports.map means to let out may be visible.
tier_exports()
{
	say "exports: names that the library shows"
	local others
	others=$(nm -D --defined-only "$tree/iterable_sync.so" | awk '{print $3}' |
		grep -vE '^(is_|iterable_|_PG_init$|Pg_magic_func$|pg_finfo_)' || true)
	if [ -n "$others" ]; then
		say "unexpected: $others"
		add 0 1
		say "   0 passed, 1 failed"
	else
		add 1 0
		say "   1 passed, 0 failed"
	fi
}

# Each section of doc/reference.md says what the catalog says, which says all.
tier_reference()
{
	local written=$tree/doc/reference.md made=$work/reference.md
	local section ok=0 bad=0

	say "reference: doc/reference.md and the comments in the catalog"
	if ! write_reference "$made" >"$work/reference.log" 2>&1; then
		cat "$work/reference.log" "$work/reference/server.log" || true
		bad=1
	else
		while read -r section; do
			section "$section" "$written" >"$work/written"
			section "$section" "$made" >"$work/made"
			if diff -u --label doc/reference.md "$work/written" --label catalog "$work/made" &&
				! grep -B 20 -F '**not described**' "$work/made"; then
				ok=$((ok + 1))
			else
				say "   $section: differs or is not described; \"make reference\" writes it"
				bad=$((bad + 1))
			fi
		done < <(sed -n 's/^## //p' "$written" "$made" | sort -u)
		[ "$ok" -gt 0 ] || [ "$bad" -gt 0 ] || bad=1
	fi
	add "$ok" "$bad"
	say "   $ok passed, $bad failed"
}

# section NAME FILE: a section of a Markdown file; what is above the first goes
# with every one
section() { awk -v name="$1" '/^## / {on = substr($0, 4) != name} !on' "$2"; }

more_packages=(openssl nghttp2-proxy)
build
say "$version, private copy; sources of $top"
for tier in ${*:-exports reference unit emulator regress isolation tap}; do
	"tier_$tier"
done
say "$passed passed, $failed failed"
[ "$passed" -gt 0 ] && [ "$failed" -eq 0 ]
