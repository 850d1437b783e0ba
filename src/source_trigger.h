/*-------------------------------------------------------------------------
 *
 * source_trigger.h
 *	  What putting capture triggers and taking them off have in common.
 *
 * Copyright (c) 2026, the iterable_sync developers
 *-------------------------------------------------------------------------
 */
#ifndef IS_SOURCE_TRIGGER_H
#define IS_SOURCE_TRIGGER_H

#include "postgres.h"

#include "catalog/pg_trigger.h"

#include "source.h"

#define CAPTURE_FUNCTION "iterable_capture"

#define ROW_TYPE \
	(TRIGGER_TYPE_ROW | TRIGGER_TYPE_AFTER | TRIGGER_TYPE_INSERT | \
	 TRIGGER_TYPE_UPDATE | TRIGGER_TYPE_DELETE)
#define TRUNCATE_TYPE \
	(TRIGGER_TYPE_STATEMENT | TRIGGER_TYPE_AFTER | TRIGGER_TYPE_TRUNCATE)

/* Name of a trigger of a source; the type is one of the two above. */
extern char *is_source_trigger_name(int32 source_id, int16 type);

/* OID of the function of all our triggers; InvalidOid if it is missing. */
extern Oid	is_source_capture_function(void);

/* Keep other sessions from changing a source's triggers until we commit. */
extern void is_source_lock_triggers(int32 source_id);

/*
 * Run statements on a table as the current role.  A lock request that waits
 * makes all that come after it wait too, so it waits for two seconds at most.
 */
extern void is_source_run_ddl(const char *table, List *statements);

#endif							/* IS_SOURCE_TRIGGER_H */
