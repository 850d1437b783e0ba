#!/bin/bash
# Iterable's official client, from npm, against the emulator.
source "$(dirname "$0")/lib.sh"

command -v npm >/dev/null ||
	DEBIAN_FRONTEND=noninteractive apt-get install -y -qq --no-install-recommends npm >/dev/null
build
"$tree/test/client/run.sh" "$tree/test/emulator/iterable_emulator"
