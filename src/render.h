/*-------------------------------------------------------------------------
 *
 * render.h
 *	  From keys to payloads: reads rows as they are now, as the owner of the
 *	  source, and writes the JSON that Iterable gets.
 *
 * Copyright (c) 2026, the iterable_sync developers
 *-------------------------------------------------------------------------
 */
#ifndef IS_RENDER_H
#define IS_RENDER_H

#include "postgres.h"

#include "nodes/pg_list.h"

#include "catalog.h"
#include "iterable_api.h"
#include "row_version.h"
#include "source.h"

/* A row as it would be sent, or why it can't be.  All in one context. */
typedef struct IsRow
{
	const char *key;
	char	   *email;			/* top-level identifiers as sent, in UTF-8; NULL:
								 * none */
	char	   *user_id;
	char	   *data_email;		/* dataFields.email and .userId, if mapped
								 * there as text */
	char	   *data_user_id;
	char	   *event_name;
	char	   *payload;		/* one JSON object, UTF-8, no NUL inside; with a
								 * problem NULL or what could not be sent */
	int			payload_len;
	int64		hash;			/* first 8 bytes of the payload's SHA-256 */
	const char *problem;		/* class, e.g. "bad_email"; NULL: fit to be
								 * sent */
	char	   *problem_detail; /* sentence without data of the row, may
								 * name the destination */
	bool		found;			/* false: the row has vanished, or */
	bool		left;			/* is there, but the filter is not true for it */
	bool		unread;			/* nothing is known of it now: a pass over its
								 * source must find it again */

	IsCapture	capture;		/* of its sync */
	const IsVersion *version;	/* it is this version of the row; NULL: the row
								 * as it is now */
	bool		retried;		/* which has failed before */
} IsRow;

typedef struct IsRenderer IsRenderer;

/*
 * Make a renderer for a sync as it is in *sync, which must outlive it:
 * resolves the source, checks rights and mappings, analyzes the query as the
 * owner of the source.  Lives in CurrentMemoryContext.  Errors are those of
 * is_source_resolve(); 22023 no identifier, no event name, or destinations or
 * constants that do not fit; 42703/42804/0A000 for mappings that do not fit
 * the source any more or have a type that cannot be rendered.
 */
extern IsRenderer *is_render_create(const IsSync *sync,
									IsProjectType project_type);
extern void is_render_destroy(IsRenderer *renderer);

/*
 * Was the source captured when the renderer was made?  Rows of one that is not
 * are dear to read by key: runs do not.
 */
extern bool is_render_is_captured(const IsRenderer *renderer);

/* From now on its rows come without their payloads: hashes are all we want. */
extern void is_render_only_hashes(IsRenderer *renderer);

/*
 * Can a value of this type be sent as this destination?  Error 0A000 if it
 * can't be sent at all, 42804 if not as this identifier.  For use when a
 * mapping is added; is_render_create() checks it again, and the rest.
 */
extern void is_render_check_type(Oid type, const char *destination);

/* Which endpoint the payloads of this sync go to. */
extern IsEndpoint is_render_endpoint(const IsSync *sync);

/* A sync of users in mode update: only who exists at Iterable is sent. */
extern bool is_render_updates_users(const IsSync *sync);

/*
 * Render the rows of these keys, as they are in a fresh snapshot, in the
 * order of the keys (which are distinct).  rows is caller's, n long; strings
 * are allocated in CurrentMemoryContext.  Runs as the owner of the source,
 * re-checked now; with lock_timeout 200 ms and statement_timeout; a row whose
 * expression fails gets a problem, its neighbours do not.  Needs a
 * transaction; the caller ends it before anything is sent.
 */
extern void is_render_rows(IsRenderer *renderer, const char **keys, int n,
						   IsRow *rows);

/*
 * The same for versions of rows (rows[i].key and .version are set, keys need
 * not be distinct): as they were, not as they are.  A version that lacks a
 * column that the sync reads has NULL there, if it was stored before the column
 * was mapped; it has a problem if the filter reads the column, or if it is not
 * what it was then.  Errors are those of a sync that does not fit its source.
 */
extern void is_render_versions(IsRenderer *renderer, IsRow *rows, int n);

/*
 * Which of these keys (distinct) have a row for which the filter is true:
 * found[i] tells it of keys[i].  As above.
 */
extern void is_render_find(IsRenderer *renderer, const char **keys, int n,
						   bool *found);

/* Is this the relation that all rows were in that were read since the last call? */
extern bool is_render_kept_to(IsRenderer *renderer, Oid relid);

/*
 * Keys in the order of the unique index, after "after" (NULL: from the first):
 * at most max, as a List of char *.  Of the order nothing is promised but that
 * it is always the same while the index is.
 */
extern List *is_render_walk_keys(IsRenderer *renderer, const char *after,
								 int max);

/*
 * The rows of those keys, as is_render_rows() has them; rows is caller's, max
 * long.  Returns how many there are.  Where it can it is one query that reads
 * each row once.
 */
extern int	is_render_walk_rows(IsRenderer *renderer, const char *after, int max,
								IsRow *rows);

/*
 * Render all rows in one snapshot, in any order, in portions that go to "see"
 * in a context that is reset after it; with left, then also the keys of those
 * for which the filter is not true.  Rows may have the same key; those that
 * have none are counted in *nulls.  "see" runs as the owner of the source,
 * read-only, and ends the pass by returning false.  There is no limit of time.
 * An error in any row is one of the whole.
 */
typedef bool (*IsRenderSee) (void *arg, const char **keys, int n, IsRow *rows);
extern void is_render_pass(IsRenderer *renderer, bool left, IsRenderSee see,
						   void *arg, int64 *nulls);

/* The same, but an error is returned (NULL: none), after a rollback. */
extern ErrorData *is_render_try_pass(IsRenderer *renderer, bool left, IsRenderSee see,
									 void *arg, int64 *nulls);

/*
 * Pin what could change a byte of a payload or key: search_path pg_catalog,
 * pg_temp; DateStyle, IntervalStyle, TimeZone UTC, extra_float_digits, locale
 * settings and the like.  row_security is on: policies apply as for the
 * owner.  Undo with AtEOXact_GUC(false, the result), which undoes also what
 * user's code has set in between.
 */
extern int	is_render_pin_settings(void);

#endif							/* IS_RENDER_H */
