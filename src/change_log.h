/*-------------------------------------------------------------------------
 *
 * change_log.h
 *	  The append-only log of captured keys: writing, positions, windows.
 *
 * A position in the log is a snapshot, not a number: a window is what is
 * visible in a newer snapshot and not in the position.  "seq > last" would
 * lose what commits late, and ordering by transaction id would swap changes
 * of one row.
 *
 * Copyright (c) 2026, the iterable_sync developers
 *-------------------------------------------------------------------------
 */
#ifndef IS_CHANGE_LOG_H
#define IS_CHANGE_LOG_H

#include "postgres.h"

#include "datatype/timestamp.h"
#include "nodes/pg_list.h"
#include "utils/array.h"
#include "utils/portal.h"

#include "row_version.h"

/* Letters of iterable.change.ops. */
#define IS_OP_INSERT 'I'
#define IS_OP_UPDATE 'U'
#define IS_OP_DELETE 'D'
#define IS_OP_TRUNCATE 'T'
#define IS_OP_COMPARED 'B'
#define IS_OP_FORCE 'F'			/* to be sent, even if Iterable has it */
#define IS_OP_RETRY 'R'			/* or part of a backfill */
#define IS_OP_LOST 'L'

/*
 * Append one log row in the current (sub)transaction: keys is a text[] and
 * nkeys its length; ops is nkeys letters, or one letter that holds for all.
 * sync_id 0: for every sync of the source.  tags (or NULL) is a text[] as long
 * as keys, of versions that failed; versions (or NULL) what is_version_pack()
 * makes of the versions of the rows.  May be called from a pre-commit callback;
 * runs no user's code.
 */
extern void is_change_log_append(int32 source_id, int32 sync_id,
								 const char *ops, int nops,
								 ArrayType *keys, int nkeys,
								 ArrayType *tags, bytea *versions);

/*
 * The same for keys (List of char *), none of which has to be; one row of the
 * log, so not too many at once.
 */
extern void is_change_log_append_keys(int32 source_id, int32 sync_id,
									  const char *ops, int nops, const List *keys);

/* The same with the tags of the versions that these keys failed with. */
extern void is_change_log_append_failed(int32 source_id, int32 sync_id,
										const List *keys, const List *tags);

/* Has this transaction appended to the log? */
extern bool is_change_log_written(void);

/* The current snapshot as text of pg_snapshot, palloc'ed. */
extern char *is_change_log_snapshot(void);

/*
 * The same, with this transaction's own changes counted as not visible yet:
 * the position of a sync that is enabled now.  Keeps the log's segments from
 * being emptied until this transaction ends.
 */
extern char *is_change_log_start_position(void);

/*
 * Ids of the sources (in the result list of int) that have changes in
 * window (old, new], for any sync.
 */
extern List *is_change_log_changed_sources(const char *old, const char *new);

/* Has the window (old, new] changes for this source and sync? */
extern bool is_change_log_has_changes(int32 source_id, int32 sync_id,
									  const char *old, const char *new);

/*
 * The end of the next window of a sync that is at this position: newest, a
 * snapshot, or one of before that shows fewer transactions; NULL if newest
 * shows no change for it.  The order of changes is that of capture within a
 * window, but not from one to the next: enough where rows are read as they are
 * when they are sent.  in_order: where it is not, the end is newest.
 */
extern char *is_change_log_next_window(int32 source_id, int32 sync_id,
									   const char *position, const char *newest,
									   bool in_order);

/*
 * Where the position of a sync that has no window open may be moved, over what
 * is visible in newest and not the sync's; NULL if that is not worth it.
 */
extern char *is_change_log_pass(int32 source_id, int32 sync_id,
								const char *position, const char *newest);

/*
 * When the oldest change was captured that a position has not passed; false if
 * there is none.
 */
extern bool is_change_log_oldest(int32 source_id, int32 sync_id, const char *position,
								 TimestampTz *captured_at);

/*
 * Read the window (old, new] of a sync in order, from after (seq, offset); with
 * the versions of the rows, if these are wanted.
 * The result is a held cursor: sorted and complete, bounded in memory, and
 * without a snapshot or lock once the transaction has ended.
 */
typedef struct IsWindow IsWindow;

typedef struct IsChange
{
	int64		seq;
	int32		offset;			/* 1-based place of the key in its log row */
	char		op;
	char	   *key;			/* NULL for IS_OP_TRUNCATE, IS_OP_LOST */
	IsVersion  *version;		/* of the row as it was committed, or NULL */
	char	   *tag;			/* of the version that failed and is to be tried
								 * again, or NULL */
} IsChange;

extern IsWindow *is_change_log_open_window(int32 source_id, int32 sync_id,
										   const char *old, const char *new,
										   int64 after_seq, int32 after_offset,
										   bool versions);

/*
 * Next change in order, or false at the end.  Strings live until the next
 * log row is read: copy what you keep.  Needs SPI and a transaction.
 */
extern bool is_change_log_next(IsWindow *window, IsChange *change);
extern void is_change_log_close_window(IsWindow *window);

#endif							/* IS_CHANGE_LOG_H */
