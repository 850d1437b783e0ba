#!/bin/sh
# Runs check.mjs against an emulator of its own.  What npm installs goes to a
# temporary directory, which is removed at the end.
#
# usage: run.sh EMULATOR_BINARY

set -eu

emulator=${1:?usage: run.sh EMULATOR_BINARY}
here=$(cd "$(dirname "$0")" && pwd)
work=$(mktemp -d)
pid=

clean_up()
{
	if [ -n "$pid" ]; then
		kill "$pid" 2>/dev/null || true
		wait "$pid" 2>/dev/null || true
	fi
	rm -rf "$work"
}
trap clean_up EXIT
trap 'exit 1' INT TERM

cp "$here/package.json" "$here/package-lock.json" "$here/check.mjs" "$work"
(cd "$work" && npm ci --no-audit --no-fund --ignore-scripts >npm.log 2>&1) || {
	cat "$work/npm.log" >&2
	exit 1
}

"$emulator" --port 0 --port-file "$work/port" >"$work/emulator.log" 2>&1 &
pid=$!
tries=0
while [ ! -s "$work/port" ]; do
	tries=$((tries + 1))
	if [ "$tries" -gt 100 ] || ! kill -0 "$pid" 2>/dev/null; then
		cat "$work/emulator.log" >&2
		exit 1
	fi
	sleep 0.05
done
node "$work/check.mjs" "http://127.0.0.1:$(cat "$work/port")"
