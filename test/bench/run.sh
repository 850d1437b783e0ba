#!/bin/bash
# Measures; see README.md.
#
# usage: test/bench/run.sh [section ...]
# sections: capture drain compare latency memory pacing log script
source "$(dirname "$0")/../lib.sh"
source "$top/test/bench/common.sh"

all="capture drain compare latency memory pacing log script"
chosen=${*:-$all}
for section in $chosen; do
	[ -e "$top/test/bench/$section.sh" ] && [[ " $all " == *" $section "* ]] ||
		die "there is no section \"$section\", only: $all"
done

build
start_cluster
start_report
for section in $chosen; do
	say
	# shellcheck disable=SC1090
	source "$top/test/bench/$section.sh"
done
keep_report $chosen
