#!/bin/bash
# Write doc/reference.md from the comments of the extension as it is here.
source "$(dirname "$0")/lib.sh"

build
write_reference "$work/reference.md"
cat "$work/reference.md" >"$top/doc/reference.md"
say "doc/reference.md is written"
