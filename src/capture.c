/*-------------------------------------------------------------------------
 *
 * capture.c
 *	  The capture trigger and its buffer.
 *
 * The trigger appends the key of a changed row to a buffer of its source.
 * The buffer goes to the change log as one row when it is full and before
 * the transaction commits or is prepared, so that the log shares the fate of
 * the changes (P1) at a fraction of the price of a log row a key.
 *
 * Subtransactions.  A level is recorded when the first key is captured in a
 * subtransaction (the library may have been loaded inside of one).  A flush
 * writes everything that is not written yet, in order, although the log row
 * then belongs to the innermost subtransaction: keys of outer levels stay in
 * memory, counted as flushed, and if that subtransaction aborts, they count
 * as not flushed again.
 *
 *		memory:	| keys of level 1 | keys of level 2 | keys of level 3 |
 *				0                 ^ level 2 starts  ^ level 3 starts
 *				[-------- flushed --------)[------ not flushed ------)
 *
 *	 abort of a level	cut the buffer off at its start; flushed goes back to
 *						what it was then
 *	 commit of a level	its keys and its flushes become the parent's; what is
 *						flushed and belongs to no outer level is forgotten
 *
 * Everything that the trigger must know stands in its arguments, which come
 * with the relation cache: capture reads no table, takes no lock beyond that
 * of its own insert, and cannot see an outdated definition.  Only output
 * functions of base types run, never a user's code.
 *
 * Copyright (c) 2026, the iterable_sync developers
 *-------------------------------------------------------------------------
 */
#include "capture.h"

#include "access/xact.h"
#include "catalog/pg_type.h"
#include "commands/trigger.h"
#include "executor/tuptable.h"
#include "miscadmin.h"
#include "lib/stringinfo.h"
#include "utils/array.h"
#include "utils/builtins.h"
#include "utils/memutils.h"
#include "utils/rel.h"

#include "capture_error.h"
#include "capture_row.h"
#include "capture_trigger.h"
#include "catalog.h"
#include "change_log.h"
#include "compat.h"
#include "iterable_sync.h"
#include "key.h"
#include "launcher.h"

PG_FUNCTION_INFO_V1(iterable_capture);

/* Bytes of keys in one log row; beyond 32 kB a row gains nothing (test/bench). */
#define FLUSH_BYTES (32 * 1024)

/* A place in a buffer, before or behind a key and its version. */
typedef struct CapturePlace
{
	int			n;
	Size		len;
	Size		versions_len;
} CapturePlace;

typedef struct CaptureLevel
{
	SubTransactionId subid;
	/* state of the buffer when the level began */
	CapturePlace start;
	CapturePlace flushed;
	CapturePlace last;
} CaptureLevel;

/* Keys of one source in this transaction, laid out as elements of a text[]. */
typedef struct CaptureBuffer
{
	struct CaptureBuffer *next;
	int32		source_id;
	char	   *data;
	Size		size;
	char	   *ops;			/* a letter a key */
	int			ops_size;
	bool		storing;		/* every key has a place among the versions */
	IsVersionBuffer versions;
	CapturePlace end;
	CapturePlace flushed;
	CapturePlace last;			/* where the newest key starts */
	CaptureLevel *levels;
	int			nlevels;
	int			levels_size;
	SubTransactionId lost_in;	/* subtransaction that has logged IS_OP_LOST */
	SubTransactionId truncated_in;	/* … IS_OP_TRUNCATE, and nothing came after */
} CaptureBuffer;

/* State of the current transaction, in TopTransactionContext. */
static CaptureBuffer *buffers = NULL;
static bool captured = false;	/* something was captured, flushed or not */
static bool write_through = false;	/* pre-commit has passed */
static bool wake_on_commit = false;

static void xact_callback(XactEvent event, void *arg);
static void subxact_callback(SubXactEvent event, SubTransactionId subid,
							 SubTransactionId parent, void *arg);

void
is_capture_register(void)
{
	RegisterXactCallback(xact_callback, NULL);
	RegisterSubXactCallback(subxact_callback, NULL);
	is_capture_trigger_register();
}

bool
is_capture_pending(void)
{
	return captured;
}

void
is_capture_wake_on_commit(void)
{
	wake_on_commit = true;
}

/* ----------------------------------------------------------------
 * Buffer
 * ----------------------------------------------------------------
 */

static CaptureBuffer *
get_buffer(int32 source_id)
{
	CaptureBuffer *buffer;

	for (buffer = buffers; buffer != NULL; buffer = buffer->next)
		if (buffer->source_id == source_id)
			return buffer;

	buffer = MemoryContextAllocZero(TopTransactionContext, sizeof(CaptureBuffer));
	buffer->source_id = source_id;
	buffer->size = 1024;
	buffer->data = MemoryContextAlloc(TopTransactionContext, buffer->size);
	buffer->ops_size = 128;
	buffer->ops = MemoryContextAlloc(TopTransactionContext, buffer->ops_size);
	buffer->levels_size = 4;
	buffer->levels = MemoryContextAlloc(TopTransactionContext,
										buffer->levels_size * sizeof(CaptureLevel));
	buffer->next = buffers;
	buffers = buffer;
	return buffer;
}

/* Make sure that the innermost level is that of the current subtransaction. */
static CaptureLevel *
current_level(CaptureBuffer *buffer)
{
	SubTransactionId subid = GetCurrentSubTransactionId();
	CaptureLevel *level;

	if (buffer->nlevels > 0 &&
		buffer->levels[buffer->nlevels - 1].subid == subid)
		return &buffer->levels[buffer->nlevels - 1];

	if (buffer->nlevels == buffer->levels_size)
	{
		buffer->levels = repalloc(buffer->levels,
								  2 * buffer->levels_size * sizeof(CaptureLevel));
		buffer->levels_size *= 2;
	}
	level = &buffer->levels[buffer->nlevels++];
	level->subid = subid;
	level->start = buffer->end;
	level->flushed = buffer->flushed;
	level->last = buffer->last;
	return level;
}

/* Take back what was appended since. */
static void
cut_off(CaptureBuffer *buffer, CapturePlace place)
{
	buffer->end = place;
	buffer->versions.len = place.versions_len;
}

/*
 * Forget what is flushed and belongs to the innermost level: its log rows
 * share its fate, so memory is not needed for it any more.
 */
static void
forget_flushed(CaptureBuffer *buffer)
{
	CapturePlace start = buffer->levels[buffer->nlevels - 1].start;
	CapturePlace flushed = buffer->flushed;
	CapturePlace end = buffer->end;

	if (flushed.n <= start.n)
		return;
	memmove(buffer->data + start.len, buffer->data + flushed.len, end.len - flushed.len);
	memmove(buffer->ops + start.n, buffer->ops + flushed.n, end.n - flushed.n);
	if (buffer->storing)
		memmove(buffer->versions.data + start.versions_len,
				buffer->versions.data + flushed.versions_len,
				end.versions_len - flushed.versions_len);
	end.n -= flushed.n - start.n;
	end.len -= flushed.len - start.len;
	end.versions_len -= flushed.versions_len - start.versions_len;
	cut_off(buffer, end);
	buffer->flushed = start;
	buffer->last = end;
}

/* A row of the log, to be. */
typedef struct LogRow
{
	int32		source_id;
	const char *ops;
	int			nops;
	ArrayType  *keys;
	int			n;
	bytea	   *versions;
} LogRow;

static void
append_row(void *arg)
{
	LogRow	   *row = arg;
	bool		read_only = XactReadOnly;

	/* A transaction may become read only after it has written. */
	XactReadOnly = false;
	is_change_log_append(row->source_id, 0, row->ops, row->nops, row->keys, row->n,
						 NULL, row->versions);
	XactReadOnly = read_only;
}

static void
flush_buffer(CaptureBuffer *buffer)
{
	Size		len = buffer->end.len - buffer->flushed.len;
	int			n = buffer->end.n - buffer->flushed.n;
	const char *ops = buffer->ops + buffer->flushed.n;
	int			nops = 1;
	ArrayType  *keys;
	bytea	   *versions = NULL;
	Size		array_size = ARR_OVERHEAD_NONULLS(1) + len;
	LogRow		row;

	if (n == 0)
		return;

	keys = palloc0(array_size);
	SET_VARSIZE(keys, array_size);
	keys->ndim = 1;
	keys->dataoffset = 0;
	keys->elemtype = TEXTOID;
	ARR_DIMS(keys)[0] = n;
	ARR_LBOUND(keys)[0] = 1;
	memcpy((char *) keys + ARR_OVERHEAD_NONULLS(1), buffer->data + buffer->flushed.len, len);

	for (int i = 1; i < n; i++)
		if (ops[i] != ops[0])
		{
			nops = n;
			break;
		}
	if (buffer->storing)
		versions = is_capture_row_pack(&buffer->versions, buffer->flushed.versions_len, n);

	row = (LogRow) {buffer->source_id, ops, nops, keys, n, versions};
	if (!is_capture_error_has(buffer->source_id))
		(void) is_capture_error_try(buffer->source_id, append_row, &row);
	pfree(keys);
	if (versions)
		pfree(versions);

	/* An outer level's record is in order: only the current one may flush. */
	(void) current_level(buffer);
	buffer->flushed = buffer->end;
	forget_flushed(buffer);
}

/* From now on keys have versions: those that are there get places without. */
static void
begin_storing(CaptureBuffer *buffer)
{
	buffer->storing = true;
	for (int i = 0; i < buffer->end.n; i++)
		is_capture_row_append(&buffer->versions, NULL, NULL);
	buffer->end.versions_len = buffer->versions.len;
	buffer->flushed.versions_len = buffer->flushed.n * sizeof(IsStoredVersion);
	buffer->last = buffer->end;
	for (int i = 0; i < buffer->nlevels; i++)
	{
		CaptureLevel *level = &buffer->levels[i];

		level->start.versions_len = level->start.n * sizeof(IsStoredVersion);
		level->flushed.versions_len = level->flushed.n * sizeof(IsStoredVersion);
		level->last = level->start;
	}
}

/*
 * The same row again, as it was, and nothing in between?  If an outer level has
 * the key, it stands as long as this level can.
 */
static bool
is_repeated(const CaptureBuffer *buffer, char op, const char *key, Size key_len)
{
	CapturePlace last = buffer->last;
	Size		element = VARHDRSZ + key_len;
	Size		version;

	if (buffer->end.n <= buffer->flushed.n ||
		buffer->ops[buffer->end.n - 1] != op ||
		last.len + INTALIGN(element) != buffer->end.len ||
		VARSIZE(buffer->data + last.len) != element ||
		memcmp(VARDATA(buffer->data + last.len), key, key_len) != 0)
		return false;

	/* the new version is behind the end as yet */
	version = buffer->end.versions_len - last.versions_len;
	return buffer->versions.len - buffer->end.versions_len == version &&
		(version == 0 ||
		 memcmp(buffer->versions.data + last.versions_len,
				buffer->versions.data + buffer->end.versions_len, version) == 0);
}

/* slot: the row, of which the version is stored if columns are */
static void
append_key(CaptureBuffer *buffer, char op, const char *key, Size key_len,
		   IsStoredColumns *columns, TupleTableSlot *slot)
{
	Size		element = VARHDRSZ + key_len;
	Size		aligned = INTALIGN(element);
	CapturePlace last;

	captured = true;
	if (is_capture_error_has(buffer->source_id))
		return;
	buffer->truncated_in = InvalidSubTransactionId;
	(void) current_level(buffer);

	if (columns && !buffer->storing)
		begin_storing(buffer);
	if (buffer->storing)
		is_capture_row_append(&buffer->versions, columns, slot);
	if (is_repeated(buffer, op, key, key_len))
	{
		cut_off(buffer, buffer->end);
		return;
	}

	if (buffer->end.len + aligned > buffer->size)
	{
		Size		size = Max(buffer->size * 2, buffer->end.len + aligned);

		buffer->data = repalloc(buffer->data, size);
		buffer->size = size;
	}
	if (buffer->end.n == buffer->ops_size)
	{
		buffer->ops = repalloc(buffer->ops, buffer->ops_size * 2);
		buffer->ops_size *= 2;
	}

	last = buffer->end;
	memset(buffer->data + last.len, 0, aligned);
	SET_VARSIZE(buffer->data + last.len, element);
	memcpy(VARDATA(buffer->data + last.len), key, key_len);
	buffer->ops[last.n] = op;
	buffer->last = last;
	buffer->end = (CapturePlace) {
		.n = last.n + 1,
		.len = last.len + aligned,
		.versions_len = buffer->versions.len,
	};

	if (write_through ||
		buffer->end.len - buffer->flushed.len +
		buffer->end.versions_len - buffer->flushed.versions_len >= FLUSH_BYTES)
		flush_buffer(buffer);
}

/*
 * A change without a key: it goes to the log by itself, behind what was
 * captured before.
 */
static void
append_keyless(int32 source_id, char op)
{
	CaptureBuffer *buffer = get_buffer(source_id);
	SubTransactionId *logged_in = op == IS_OP_LOST ? &buffer->lost_in :
		&buffer->truncated_in;
	LogRow		row;

	/* Once says it all, also of a truncation that fires a trigger a partition. */
	if (*logged_in == GetCurrentSubTransactionId())
		return;
	*logged_in = GetCurrentSubTransactionId();
	(void) current_level(buffer);
	captured = true;
	flush_buffer(buffer);
	row = (LogRow) {source_id, &op, 1, construct_empty_array(TEXTOID), 0, NULL};
	if (!is_capture_error_has(source_id))
		(void) is_capture_error_try(source_id, append_row, &row);
}

/* ----------------------------------------------------------------
 * Transaction callbacks
 * ----------------------------------------------------------------
 */

static void
reset_state(void)
{
	buffers = NULL;
	captured = false;
	write_through = false;
	wake_on_commit = false;
	is_capture_error_reset();
}

static void
xact_callback(XactEvent event, void *arg)
{
	switch (event)
	{
		case XACT_EVENT_PRE_COMMIT:
		case XACT_EVENT_PRE_PREPARE:
			/* This transaction has dropped the extension. */
			if (buffers && !OidIsValid(is_catalog_find_relation("change_seq")))
				buffers = NULL;

			for (CaptureBuffer *buffer = buffers; buffer; buffer = buffer->next)
				flush_buffer(buffer);

			/*
			 * Another extension may still write to a source in its own
			 * callback, after this one.
			 */
			write_through = true;
			break;

		case XACT_EVENT_COMMIT:
			for (CaptureBuffer *buffer = buffers; buffer; buffer = buffer->next)
				if (buffer->end.n > 0)
					elog(WARNING, "iterable_sync: %d captured keys were not written before commit",
						 buffer->end.n);

			/* before the worker looks */
			is_capture_error_at_commit();
			if (captured || wake_on_commit)
				is_launcher_wake(MyDatabaseId);
			reset_state();
			break;

		case XACT_EVENT_PREPARE:
			is_capture_error_at_prepare();
			reset_state();
			break;

		case XACT_EVENT_ABORT:
		case XACT_EVENT_PARALLEL_ABORT:
		case XACT_EVENT_PARALLEL_COMMIT:
			reset_state();
			break;

		default:
			break;
	}
}

static void
subxact_callback(SubXactEvent event, SubTransactionId subid,
				 SubTransactionId parent, void *arg)
{
	if (event != SUBXACT_EVENT_COMMIT_SUB && event != SUBXACT_EVENT_ABORT_SUB)
		return;

	for (CaptureBuffer *buffer = buffers; buffer; buffer = buffer->next)
	{
		CaptureLevel *level;

		if (buffer->nlevels == 0)
			continue;
		level = &buffer->levels[buffer->nlevels - 1];
		if (level->subid != subid)
			continue;

		if (event == SUBXACT_EVENT_ABORT_SUB)
		{
			cut_off(buffer, level->start);
			buffer->flushed = level->flushed;
			buffer->last = level->last;
			buffer->nlevels--;
		}
		else if (buffer->nlevels > 1 && level[-1].subid == parent)
		{
			buffer->nlevels--;
			forget_flushed(buffer);
		}
		else
			level->subid = parent;
	}
}

/* ----------------------------------------------------------------
 * The trigger
 * ----------------------------------------------------------------
 */

/* A key, to be appended to a text. */
typedef struct KeyToRender
{
	StringInfo	text;
	const IsCaptureTrigger *entry;
	Datum		values[INDEX_MAX_KEYS];
} KeyToRender;

static void
render_key(void *arg)
{
	KeyToRender *key = arg;

	is_key_append(key->text, key->entry->nkeys, key->entry->key_types, key->values);
}

/* Can it fail to write a key, as numbers or short strings cannot? */
static bool
may_fail(const IsCaptureTrigger *entry, const Datum *values)
{
	for (int i = 0; i < entry->nkeys; i++)
	{
		switch (entry->key_types[i])
		{
			case INT2OID:
			case INT4OID:
			case INT8OID:
			case BOOLOID:
			case UUIDOID:
			case DATEOID:
				break;
			case TEXTOID:
			case VARCHAROID:
			case NUMERICOID:
				if (VARATT_IS_EXTERNAL(DatumGetPointer(values[i])) ||
					VARATT_IS_COMPRESSED(DatumGetPointer(values[i])))
					return true;
				break;
			default:
				return true;
		}
	}
	return false;
}

/* And a change of that key, to be appended to the buffer. */
typedef struct KeyToAppend
{
	int32		source_id;
	char		op;
	StringInfo	text;
	IsStoredColumns *stored;
	TupleTableSlot *slot;
} KeyToAppend;

static void
append_row_key(void *arg)
{
	KeyToAppend *append = arg;

	append_key(get_buffer(append->source_id), append->op, append->text->data,
			   append->text->len, append->stored, append->slot);
}

static void
capture_row(IsCaptureTrigger *entry, TupleTableSlot *slot, char op)
{
	static StringInfo text = NULL;
	KeyToRender key = {.entry = entry};
	KeyToAppend append;

	for (int i = 0; i < entry->nkeys; i++)
	{
		bool		isnull;

		key.values[i] = slot_getattr(slot, entry->key_attnos[i], &isnull);
		if (isnull)
		{
			append_keyless(entry->source_id, IS_OP_LOST);
			return;
		}
	}

	if (text == NULL)
	{
		MemoryContext old = MemoryContextSwitchTo(TopMemoryContext);

		text = makeStringInfo();
		MemoryContextSwitchTo(old);
	}
	resetStringInfo(text);
	key.text = text;
	if (!may_fail(entry, key.values))
		render_key(&key);
	else if (is_capture_error_has(entry->source_id) ||
			 !is_capture_error_try(entry->source_id, render_key, &key))
	{
		captured = true;
		return;
	}

	/* Of a row that is deleted, what it was stands in the log already. */
	append = (KeyToAppend) {
		.source_id = entry->source_id,
		.op = op,
		.text = text,
		.stored = op == IS_OP_DELETE ? NULL : entry->stored,
		.slot = slot,
	};
	if (append.stored == NULL || !is_capture_row_may_fail(append.stored, slot))
		append_row_key(&append);
	else if (is_capture_error_has(entry->source_id) ||
			 !is_capture_error_try(entry->source_id, append_row_key, &append))
		captured = true;
}

/*
 * iterable_capture() returns trigger
 *
 * Raises 39P01 when it is not fired AFTER a row change or TRUNCATE, or its
 * arguments are not those that iterable_enable_sync() gives it.
 */
Datum
iterable_capture(PG_FUNCTION_ARGS)
{
	TriggerData *trigdata = (TriggerData *) fcinfo->context;
	IsCaptureTrigger *entry;

	if (!CALLED_AS_TRIGGER(fcinfo))
		ereport(ERROR,
				(errcode(ERRCODE_E_R_I_E_TRIGGER_PROTOCOL_VIOLATED),
				 errmsg("function \"%s\" was not called by trigger manager",
						"iterable_capture")));
	if (!TRIGGER_FIRED_AFTER(trigdata->tg_event) ||
		TRIGGER_FIRED_FOR_ROW(trigdata->tg_event) ==
		TRIGGER_FIRED_BY_TRUNCATE(trigdata->tg_event))
		ereport(ERROR,
				(errcode(ERRCODE_E_R_I_E_TRIGGER_PROTOCOL_VIOLATED),
				 errmsg("function \"%s\" must be fired AFTER each row or AFTER TRUNCATE",
						"iterable_capture")));
	entry = is_capture_trigger_get(trigdata->tg_relation, trigdata->tg_trigger);

	if (TRIGGER_FIRED_BY_TRUNCATE(trigdata->tg_event))
	{
		append_keyless(entry->source_id, IS_OP_TRUNCATE);
		return PointerGetDatum(NULL);
	}
	if (entry->lost)
	{
		append_keyless(entry->source_id, IS_OP_LOST);
		return PointerGetDatum(NULL);
	}

	if (TRIGGER_FIRED_BY_INSERT(trigdata->tg_event))
		capture_row(entry, trigdata->tg_trigslot, IS_OP_INSERT);
	else if (TRIGGER_FIRED_BY_DELETE(trigdata->tg_event))
		capture_row(entry, trigdata->tg_trigslot, IS_OP_DELETE);
	else
	{
		uint8		changed = is_capture_compare(&entry->columns,
												 RelationGetDescr(trigdata->tg_relation),
												 trigdata->tg_trigtuple,
												 trigdata->tg_newtuple);

		if (changed & IS_COLUMN_KEY)
		{
			capture_row(entry, trigdata->tg_trigslot, IS_OP_DELETE);
			capture_row(entry, trigdata->tg_newslot, IS_OP_INSERT);
		}
		else if (changed)
			capture_row(entry, trigdata->tg_newslot, IS_OP_UPDATE);
	}
	return PointerGetDatum(NULL);
}
