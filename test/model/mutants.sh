#!/bin/bash
# Does the model notice when a rule that order and completeness rest on is
# taken out?  Each patch in mutants/ takes out one.
#
# usage: test/model/mutants.sh [name ...]
#
# ITERABLE_SYNC_MODEL_SEED is the first seed (1), ITERABLE_SYNC_SOAK_TIME how
# long a mutant may live, in seconds (600).
source "$(dirname "$0")/../lib.sh"

export ITERABLE_SYNC_MODEL_SEED=${ITERABLE_SYNC_MODEL_SEED:-1}
export ITERABLE_SYNC_SOAK_TIME=${ITERABLE_SYNC_SOAK_TIME:-600}
names=${*:-$(cd "$top/test/model/mutants" && ls *.patch | sed 's/\.patch$//')}
alive=0

install_packages
for name in $names; do
	mutant=$work/$name
	mkdir "$mutant"
	(cd "$top" && tar cf - --exclude=.git .) | tar xf - -C "$mutant"
	patch -s -d "$mutant" -p1 <"$top/test/model/mutants/$name.patch" || die "$name.patch does not apply"

	# the model would find that this one does not apply any more
	rm "$mutant"/test/model/mutants/*.patch
	say "mutant $name: $(sed -n '1s/^# //p' "$top/test/model/mutants/$name.patch")"
	SECONDS=0
	"$mutant/test/check.sh" soak >"$work/$name.log" 2>&1 || true
	if grep -q "Failed test 'round" "$work/$name.log"; then
		say "   noticed after $SECONDS s, with $(grep '^soak: ' "$work/$name.log" | tail -1 | sed 's/soak: //')"
		grep -o "Failed test 'round.*" "$work/$name.log" | sed "s/Failed test '/      /; s/'$//" | sort -u
	else
		grep -q '^soak: ' "$work/$name.log" || cat "$work/$name.log"
		say "   NOT noticed"
		alive=$((alive + 1))
	fi
	rm -rf "$mutant"
done
[ $alive -eq 0 ] || die "$alive of the mutants live"
say 'every mutant was noticed'
