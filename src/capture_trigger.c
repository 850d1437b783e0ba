/*-------------------------------------------------------------------------
 *
 * capture_trigger.c
 *	  Definitions of capture triggers, resolved and kept.
 *
 * Copyright (c) 2026, the iterable_sync developers
 *-------------------------------------------------------------------------
 */
#include "capture_trigger.h"

#include "catalog/pg_type.h"
#include "utils/array.h"
#include "utils/builtins.h"
#include "utils/fmgroids.h"
#include "utils/hsearch.h"
#include "utils/inval.h"
#include "utils/memutils.h"

#include "compat.h"
#include "key.h"

/* Arguments of the trigger, see capture.h: so many, and the stored columns. */
#define ARGUMENTS 3

#define HINT "Let iterable_enable_sync() create the trigger."

static HTAB *triggers = NULL;

static void relcache_callback(Datum arg, Oid relid);

void
is_capture_trigger_register(void)
{
	CacheRegisterRelcacheCallback(relcache_callback, (Datum) 0);
}

/*
 * Only flag: the entry may be in use up the stack.  InvalidOid means all.
 */
static void
relcache_callback(Datum arg, Oid relid)
{
	HASH_SEQ_STATUS status;
	IsCaptureTrigger *entry;

	if (triggers == NULL)
		return;
	hash_seq_init(&status, triggers);
	while ((entry = hash_seq_search(&status)) != NULL)
		if (!OidIsValid(relid) || entry->relid == relid || entry->composites)
			entry->valid = false;
}

/* The column names in an argument, a text array literal. */
static void
parse_names(const char *literal, Datum **names, int *n)
{
	ArrayType  *array =
		DatumGetArrayTypeP(OidInputFunctionCall(F_ARRAY_IN, pstrdup(literal),
												TEXTOID, -1));

	deconstruct_array(array, TEXTOID, -1, false, TYPALIGN_INT, names, NULL, n);
}

static AttrNumber
find_column(TupleDesc desc, Datum name)
{
	char	   *wanted = TextDatumGetCString(name);

	for (int i = 0; i < desc->natts; i++)
	{
		Form_pg_attribute att = TupleDescAttr(desc, i);

		if (!att->attisdropped && strcmp(NameStr(att->attname), wanted) == 0)
			return att->attnum;
	}
	return InvalidAttrNumber;
}

/*
 * The columns that an argument names.  Of a column that is gone nobody knows
 * what it is called now, so then all are stored.
 */
static IsStoredColumns *
resolve_stored(Relation rel, const char *literal)
{
	Datum	   *names;
	int			n = -1;
	AttrNumber *attnums = NULL;

	if (strcmp(literal, "*") != 0)
	{
		parse_names(literal, &names, &n);
		attnums = palloc_array(AttrNumber, n + 1);
		for (int i = 0; i < n; i++)
		{
			attnums[i] = find_column(RelationGetDescr(rel), names[i]);
			if (attnums[i] == InvalidAttrNumber)
				return is_capture_row_resolve(rel, NULL, -1);
		}
	}
	return is_capture_row_resolve(rel, attnums, n);
}

/*
 * Which columns are watched.  Of one that is gone, or that is computed only
 * when it is read, nobody can tell whether it has changed: then all are that
 * are stored.
 */
static bool
watch(IsCapturedColumns *columns, TupleDesc desc, const char *literal)
{
	Datum	   *names;
	int			n;

	if (strcmp(literal, "*") == 0)
		return false;
	parse_names(literal, &names, &n);
	for (int i = 0; i < n; i++)
	{
		AttrNumber	attno = find_column(desc, names[i]);

		if (attno == InvalidAttrNumber ||
			TupleDescAttr(desc, attno - 1)->attgenerated == ATTRIBUTE_GENERATED_VIRTUAL)
			return false;
		columns->roles[attno - 1] |= IS_COLUMN_WATCHED;
	}
	return true;
}

static void
fill_columns(IsCaptureTrigger *entry, TupleDesc desc, const char *watched)
{
	IsCapturedColumns *columns = &entry->columns;

	columns->n = 0;
	columns->nkeys = 0;
	columns->roles = MemoryContextAllocZero(entry->context, desc->natts + 1);
	if (!watch(columns, desc, watched))
		for (int i = 0; i < desc->natts; i++)
		{
			Form_pg_attribute att = TupleDescAttr(desc, i);

			if (!att->attisdropped && att->attgenerated != ATTRIBUTE_GENERATED_VIRTUAL)
				columns->roles[i] = IS_COLUMN_WATCHED;
		}
	for (int i = 0; i < entry->nkeys && !entry->lost; i++)
	{
		columns->roles[entry->key_attnos[i] - 1] |= IS_COLUMN_KEY;
		columns->nkeys = Max(columns->nkeys, entry->key_attnos[i]);
	}
	for (int i = 0; i < desc->natts; i++)
		if (columns->roles[i] != 0)
			columns->n = i + 1;
}

static void
fill_trigger(IsCaptureTrigger *entry, Relation rel, Trigger *trigger)
{
	TupleDesc	desc = RelationGetDescr(rel);
	MemoryContext context;
	Datum	   *names;
	int			n;

	if (trigger->tgnargs < ARGUMENTS)
		ereport(ERROR,
				(errcode(ERRCODE_E_R_I_E_TRIGGER_PROTOCOL_VIOLATED),
				 errmsg("function \"%s\" takes three or four trigger arguments",
						"iterable_capture"),
				 errhint(HINT)));
	if (entry->context)
		MemoryContextDelete(entry->context);
	entry->context = NULL;
	context = AllocSetContextCreate(CacheMemoryContext,
									"iterable_sync capture trigger",
									ALLOCSET_SMALL_SIZES);
	entry->context = context;
	entry->relid = RelationGetRelid(rel);
	entry->source_id = pg_strtoint32(trigger->tgargs[0]);

	/*
	 * More arguments are those of a newer library than this session has
	 * loaded.  What they ask for cannot be done here, but it can be said.
	 */
	entry->lost = trigger->tgnargs > ARGUMENTS + 1;
	entry->stored = NULL;
	entry->composites = false;

	parse_names(trigger->tgargs[1], &names, &n);
	if (n < 1 || n > INDEX_MAX_KEYS)
		ereport(ERROR,
				(errcode(ERRCODE_E_R_I_E_TRIGGER_PROTOCOL_VIOLATED),
				 errmsg("function \"%s\" takes 1 to %d key columns",
						"iterable_capture", INDEX_MAX_KEYS),
				 errhint(HINT)));
	entry->nkeys = n;
	entry->key_attnos = MemoryContextAlloc(context, n * sizeof(AttrNumber));
	entry->key_types = MemoryContextAlloc(context, n * sizeof(Oid));
	for (int i = 0; i < n; i++)
	{
		AttrNumber	attno = find_column(desc, names[i]);
		Form_pg_attribute att;

		if (attno == InvalidAttrNumber)
		{
			entry->lost = true;
			continue;
		}
		att = TupleDescAttr(desc, attno - 1);
		if (!is_key_type_ok(att->atttypid, att->attcollation))
			entry->lost = true;
		entry->key_attnos[i] = attno;
		entry->key_types[i] = att->atttypid;
	}

	fill_columns(entry, desc, trigger->tgargs[2]);
	if (trigger->tgnargs > ARGUMENTS)
	{
		MemoryContext old = MemoryContextSwitchTo(context);

		entry->stored = resolve_stored(rel, trigger->tgargs[ARGUMENTS]);
		entry->composites = entry->stored->composites;
		MemoryContextSwitchTo(old);
	}
	entry->valid = true;
}

/* Arguments that cannot be read: what is wrong is the trigger. */
static void
blame_arguments(void *arg)
{
	int			category = ERRCODE_TO_CATEGORY(geterrcode());

	if (category != ERRCODE_DATA_EXCEPTION && category != ERRCODE_PROGRAM_LIMIT_EXCEEDED)
		return;
	errcode(ERRCODE_E_R_I_E_TRIGGER_PROTOCOL_VIOLATED);
	errcontext("argument of trigger \"%s\"", ((Trigger *) arg)->tgname);
	errhint(HINT);
}

IsCaptureTrigger *
is_capture_trigger_get(Relation rel, Trigger *trigger)
{
	IsCaptureTrigger *entry;
	ErrorContextCallback callback;
	bool		found;

	if (triggers == NULL)
	{
		HASHCTL		ctl = {0};

		ctl.keysize = sizeof(Oid);
		ctl.entrysize = sizeof(IsCaptureTrigger);
		ctl.hcxt = CacheMemoryContext;
		triggers = hash_create("iterable_sync capture triggers", 32, &ctl,
							   HASH_ELEM | HASH_BLOBS | HASH_CONTEXT);
	}

	entry = hash_search(triggers, &trigger->tgoid, HASH_ENTER, &found);
	if (!found)
	{
		/* an error while filling leaves an entry that is filled again */
		entry->valid = false;
		entry->context = NULL;
		entry->relid = InvalidOid;
	}
	if (!entry->valid || entry->relid != RelationGetRelid(rel))
	{
		entry->valid = false;
		callback.callback = blame_arguments;
		callback.arg = trigger;
		callback.previous = error_context_stack;
		error_context_stack = &callback;
		fill_trigger(entry, rel, trigger);
		error_context_stack = callback.previous;
	}
	return entry;
}
