# iterable_sync: sync rows to Iterable from inside PostgreSQL

TASKS = demo check check-client check-mutants check-versions soak reference bench

ifneq ($(filter $(TASKS),$(MAKECMDGOALS)),)
# These targets install what they need (Debian packages), work on a
# private copy of PostgreSQL in a temporary directory, and clean up.  Run them
# as root or with sudo.

.PHONY: $(TASKS)

demo:
	@test/demo.sh

check:
	@test/check.sh

# Iterable's official client, from npm, against the emulator
check-client:
	@test/client.sh

# the checker of faults and deaths at random: for long, and with rules of the
# engine taken out, which it must notice
soak:
	@test/check.sh soak

check-mutants:
	@test/model/mutants.sh

# PostgreSQL 15, 17 and 18 in root file systems made by debootstrap
check-versions:
	@test/versions.sh

# doc/reference.md, from the comments in the catalog
reference:
	@test/reference.sh

bench:
	@test/bench/run.sh

else

EXTENSION = iterable_sync
EXTVERSION = $(shell sed -n "s/^default_version = '\(.*\)'/\1/p" iterable_sync.control)

MODULE_big = iterable_sync
OBJS = $(patsubst %.c,%.o,$(sort $(wildcard src/*.c)))
SQL_PARTS = $(sort $(wildcard sql/*.sql))
DATA_built = $(EXTENSION)--$(EXTVERSION).sql
EXTRA_CLEAN = $(DATA_built)

PG_CPPFLAGS = -DIS_VERSION='"$(EXTVERSION)"'
PG_CFLAGS = -Wall -Wextra -Wmissing-prototypes -Wno-unused-parameter
ifdef CI
PG_CFLAGS += -Werror
endif
SHLIB_LINK = -lcurl -lcjson -Wl,--version-script=src/exports.map

# Without PostgreSQL's development files only the targets above work, which
# install them.
PG_CONFIG ?= pg_config
PGXS := $(shell $(PG_CONFIG) --pgxs 2>/dev/null)
ifneq ($(PGXS),)
include $(PGXS)
else
all install:
	@echo "pg_config was not found: install postgresql-server-dev, or set PG_CONFIG" >&2; exit 1
endif

$(DATA_built): $(SQL_PARTS)
	cat $^ > $@

$(OBJS): $(wildcard src/*.h)

endif
