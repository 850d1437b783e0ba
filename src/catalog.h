/*-------------------------------------------------------------------------
 *
 * catalog.h
 *	  Sync, mapping and source rows as C structs, and writing them.
 *
 * Every function needs a transaction and SPI-connects by itself.  Results are
 * palloc'ed in the caller's CurrentMemoryContext.  Tables are read and
 * written as the extension's owner; no SQL text here holds anything of a
 * user's but parameters.
 *
 * Copyright (c) 2026, the iterable_sync developers
 *-------------------------------------------------------------------------
 */
#ifndef IS_CATALOG_H
#define IS_CATALOG_H

#include "postgres.h"

#include "nodes/pg_list.h"
#include "utils/uuid.h"

#include "iterable_api.h"
#include "query.h"

typedef enum IsObject
{
	IS_OBJECT_USER,
	IS_OBJECT_EVENT
} IsObject;

typedef enum IsMode
{
	IS_MODE_INSERT,
	IS_MODE_UPDATE,
	IS_MODE_UPSERT
} IsMode;

/* Which changes of a row are sent, and as what. */
typedef enum IsCapture
{
	IS_CAPTURE_KEY,				/* the row as it is when it is sent */
	IS_CAPTURE_ROW,				/* every version that was committed */
	IS_CAPTURE_VERSIONS			/* the same, each as an event of its own */
} IsCapture;

/* What fills a destination: exactly one of the three is set. */
typedef struct IsMapping
{
	char	   *destination;
	char	   *column_name;
	char	   *constant;
	char	   *expression;
	bool		clear_null;		/* null policy "clear"; else "omit" */
	char	   *time_zone;		/* of timestamps without one; NULL: UTC */
} IsMapping;

/* A captured relation, followed by name, and its key columns. */
typedef struct IsSource
{
	int32		source_id;
	char	   *schema_name;
	char	   *table_name;
	List	   *key_columns;	/* of char *, in key order */
} IsSource;

typedef struct IsSync
{
	int32		sync_id;
	pg_uuid_t	uuid;
	char	   *name;
	Oid			owner;
	char	   *connection;
	IsSource	source;
	IsObject	object;
	IsMode		mode;
	char	   *schedule;
	char	   *time_zone;		/* of the schedule */
	char	   *match_field;	/* or NULL */
	char	   *filter;			/* deparsed condition, or NULL */
	bool		prefer_user_id;
	bool		merge_nested_objects;
	IsNewFields new_fields;
	bool		dry_run;
	IsCapture	capture;
	bool		track;			/* remember what was accepted */
	bool		enabled;
	int32		version;
	bool		has_state;		/* was ever enabled here */
	List	   *mappings;		/* of IsMapping *, by destination */
} IsSync;

/* Words of the SQL surface; parse raises 22023 with a hint of valid ones. */
extern const char *is_catalog_object_name(IsObject object);
extern IsObject is_catalog_parse_object(const char *text);
extern const char *is_catalog_mode_name(IsMode mode);
extern IsMode is_catalog_parse_mode(const char *text);
extern const char *is_catalog_capture_name(IsCapture capture);
extern IsCapture is_catalog_parse_capture(const char *text);	/* never _VERSIONS */
extern const char *is_catalog_new_fields_name(IsNewFields new_fields);
extern IsNewFields is_catalog_parse_new_fields(const char *text);

/*
 * Load a sync with its mappings.  By name: error 42704 if there is none, or
 * none that the current role may see (it must be a member of the owner; the
 * same error, so that names do not leak).  By id: NULL if there is none, no
 * check of rights (for the worker).
 */
extern IsSync *is_catalog_get_sync(const char *name);
extern IsSync *is_catalog_get_sync_by_id(int32 sync_id);

/*
 * Numbers (List of int) that a query on the extension's tables returns in its
 * first column.
 */
extern List *is_catalog_read_ids(IsQuery *query, Datum *values);

/* Owner of the extension's tables, and the schema of its functions. */
extern Oid	is_catalog_owner(void);
extern Oid	is_catalog_function_schema(void);

/* Called from _PG_init. */
extern void is_catalog_register(void);

/*
 * OID of a relation in the schema iterable; "name" is a constant.  If it is
 * missing, is_catalog_relation() raises 42P01, the other returns InvalidOid.
 */
extern Oid	is_catalog_relation(const char *name);
extern Oid	is_catalog_find_relation(const char *name);

/* Is the extension installed in this database (and its tables there)? */
extern bool is_catalog_installed(void);

/*
 * Switch to the extension's owner for a read or write of its own tables and
 * back.  No user's code may run in between.
 */
typedef struct IsUserContext
{
	Oid			userid;
	int			sec_context;
} IsUserContext;
extern void is_catalog_become_owner(IsUserContext *save);
extern void is_catalog_become(IsUserContext *save, Oid role);	/* with SECURITY_RESTRICTED_OPERATION */
extern void is_catalog_restore_user(const IsUserContext *save);

#endif							/* IS_CATALOG_H */
