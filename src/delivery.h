/*-------------------------------------------------------------------------
 *
 * delivery.h
 *	  What is known of each row at Iterable: what was accepted last, and the
 *	  failures.
 *
 * Works in the caller's transaction, like state.h.
 *
 * Copyright (c) 2026, the iterable_sync developers
 *-------------------------------------------------------------------------
 */
#ifndef IS_DELIVERY_H
#define IS_DELIVERY_H

#include "postgres.h"

#include "datatype/timestamp.h"

#include "catalog.h"
#include "render.h"

/* iterable.sync_delivery.state */
#define IS_DELIVERY_ACCEPTED 'a'
#define IS_DELIVERY_VANISHED 'v'	/* accepted, then gone from the source */
#define IS_DELIVERY_LEFT 'l'	/* is there, but the filter is not true for it */
#define IS_DELIVERY_SEEN 's'	/* was there and is not ours to add */

/*
 * It was there when the sync was enabled for what changes from then on.  That
 * counts only where rows are compared.  To a change that was captured it says
 * nothing: the row may have been noted as the change has left it.
 */
#define IS_DELIVERY_NOTED 'n'

/* What is remembered of a key. */
typedef struct IsMemory
{
	char		state;			/* 0: nothing */
	bool		hash_known;
	int64		hash;			/* of what Iterable has, or was noted, if known */
	bool		identified;		/* an identifier was sent with it */
	bool		failed;			/* it stands in the failures */
	bool		failed_hash_known;
	int64		failed_hash;	/* of the payload that failed */
	bool		retry_due;		/* and it is time to try again */
} IsMemory;

/* Has the row failed as it is now? */
static inline bool
is_delivery_failed_as(const IsMemory *memory, const IsRow *row)
{
	return memory->failed && memory->failed_hash_known &&
		memory->failed_hash == row->hash;
}

/* The failure of all rows that have no key, and its class. */
#define IS_NULL_KEY "(null)"
#define IS_CLASS_NULL_KEY "null_key"

/*
 * Fill memory[] for these keys; of a sync without track only what failed is
 * known.  tags[i]: only a failure of the version that has
 * this tag counts; it, or tags, may be NULL.
 */
extern void is_delivery_recall(const IsSync *sync, const char **keys,
							   const char **tags, int n, IsMemory *memory);

/*
 * The versions that these keys have failed with, kept until they are sent: NULL
 * for those that do not stand in the failures any more.
 */
extern IsVersion **is_delivery_failed_versions(int32 sync_id, const char **keys,
											   const char **tags, int n);

/* What has become of a row. */
typedef enum IsFate
{
	IS_FATE_PENDING,
	IS_FATE_ACCEPTED,			/* remember hash and identifier, clear a failure */
	IS_FATE_UNCHANGED,			/* Iterable has it already; clear a failure */
	IS_FATE_REAPPEARED,			/* unchanged, but had vanished in between */
	IS_FATE_SKIPPED,			/* the mode says no */
	IS_FATE_SEEN,				/* remember that it was there */
	IS_FATE_VANISHED,
	IS_FATE_VANISHED_UNSURE,	/* and what Iterable has of it is not known */
	IS_FATE_LEFT,				/* the filter is not true for it any more */
	IS_FATE_LEFT_UNSURE,		/* and what Iterable has of it is not known */
	IS_FATE_UNMATCHED,			/* nor ever was: remember that */
	IS_FATE_PRETENDED,			/* sent, if this were no dry run */
	IS_FATE_UNSURE,				/* what Iterable has of it is not known */
	IS_FATE_REJECTED,			/* a failure for a person */
	IS_FATE_LATER				/* a failure that is tried again by itself */
} IsFate;

typedef struct IsResult
{
	const IsRow *row;
	IsFate		fate;
	const char *class;			/* of a failure */
	const char *code;			/* Iterable's code or NULL */
	const char *message;
	const char *request_id;		/* Iterable's, of the request that failed, or NULL */
	const char *payload;		/* that failed, in UTF-8, or NULL */
	int			payload_len;
} IsResult;

/*
 * Write down what was learnt of these rows, of a sync without track only what
 * concerns failures.  Fates that change nothing are passed over.
 */
extern void is_delivery_record(const IsSync *sync, const IsResult *results, int n);

/* What Iterable has of the rows of these keys (List of char *) is not known. */
extern void is_delivery_forget_payloads(int32 sync_id, const List *keys);

/*
 * Note rows that are there, unless anything is known of them.  Call it after
 * they were read.
 */
extern void is_delivery_note(int32 sync_id, Datum *keys, Datum *hashes,
							 bool *no_hash, int n);

/*
 * Changes captured at "since" and later are lost for this sync.  What was noted
 * after that may have been noted as such a change has left it, and would pass
 * for unchanged when rows are compared, which is to find what was lost: forget
 * it, and do not note any more.  A note has the time after its row was read,
 * so one that has seen a change is younger than the change.
 */
extern void is_delivery_forget_notes(int32 sync_id, TimestampTz since);

/*
 * Keys of rows that are there as far as is known, accepted, noted or failed,
 * after "after" (NULL: from the first): at most max, as a List of char * in
 * order.  seen: also those that were only seen.
 */
extern List *is_delivery_walk_keys(int32 sync_id, const char *after, int max,
								   bool seen);

/*
 * Take failures whose time has come: their keys (List of char *, at most
 * max) are no longer planned.  tags gets the tags of what has failed.  The
 * caller puts them into the change log in the same transaction.
 */
extern List *is_delivery_take_due_failures(int32 sync_id, int max, List **tags);

/*
 * Drop payloads that were kept with failures, of all syncs: some thousands at a
 * time, and none that is locked, since others lock failures in other orders.
 */
extern void is_delivery_drop_payloads(void);

#endif							/* IS_DELIVERY_H */
