/*-------------------------------------------------------------------------
 *
 * verdicts.c
 *	  The table of what Iterable's answers mean, in SQL.
 *
 * Copyright (c) 2026, the iterable_sync developers
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include "fmgr.h"
#include "funcapi.h"
#include "utils/builtins.h"
#include "utils/tuplestore.h"

#include "catalog.h"
#include "compat.h"
#include "iterable_meaning.h"

PG_FUNCTION_INFO_V1(iterable_verdicts);
PG_FUNCTION_INFO_V1(iterable_what_to_do);

static const char *
object_name(const IsMeaning *m)
{
	bool		users = m->endpoints & (1 << IS_ENDPOINT_USERS_BULK_UPDATE);
	bool		events = m->endpoints & (1 << IS_ENDPOINT_EVENTS_TRACK_BULK);

	return users && events ? "user, event" : users ? "user" : "event";
}

static const char *
where_name(const IsMeaning *m)
{
	switch (m->where)
	{
		case IS_IN_FAILED:
			return "failedUpdates";
		case IS_AT_TOP:
			return "list";
		case IS_DEPRECATED:
			return "deprecated list";
		case IS_CODE:
			return "code";
		case IS_STATUS:
			return "status";
		case IS_OURS:
			break;
	}
	return "none";
}

static char *
status_range(const IsMeaning *m)
{
	return m->status_from == m->status_to ? psprintf("%d", m->status_from) :
		psprintf("%d-%d", m->status_from, m->status_to);
}

static const char *
verdict_name(const IsMeaning *m)
{
	switch (m->kind)
	{
		case IS_ANSWER_AGAIN:
			return "again";
		case IS_ANSWER_STOP:
			return "stop";
		case IS_ANSWER_SPLIT:
			return "split";
		default:
			break;
	}
	switch (m->verdict)
	{
		case IS_VERDICT_LATER:
			return "later";
		case IS_VERDICT_SKIPPED:
			return "skipped";
		default:
			return "rejected";
	}
}

static Datum
text_or_null(const char *text, bool *isnull)
{
	*isnull = text == NULL;
	return text ? CStringGetTextDatum(text) : (Datum) 0;
}

/*
 * iterable.verdicts() returns table(object text, found_in text, name text,
 *		status text, verdict text, class text, meaning text, what_to_do text)
 */
Datum
iterable_verdicts(PG_FUNCTION_ARGS)
{
	ReturnSetInfo *rsinfo = (ReturnSetInfo *) fcinfo->resultinfo;
	int			n;
	const IsMeaning *table = is_meaning_table(&n);

	InitMaterializedSRF(fcinfo, 0);
	for (int i = 0; i < n; i++)
	{
		const IsMeaning *m = &table[i];
		Datum		values[8];
		bool		nulls[8];

		values[0] = text_or_null(object_name(m), &nulls[0]);
		values[1] = text_or_null(where_name(m), &nulls[1]);
		values[2] = text_or_null(m->name, &nulls[2]);
		values[3] = text_or_null(m->status_to > 0 ? status_range(m) : NULL, &nulls[3]);
		values[4] = text_or_null(verdict_name(m), &nulls[4]);
		values[5] = text_or_null(m->class, &nulls[5]);
		values[6] = text_or_null(m->message, &nulls[6]);
		values[7] = text_or_null(m->hint, &nulls[7]);
		tuplestore_putvalues(rsinfo->setResult, rsinfo->setDesc, values, nulls);
	}
	return (Datum) 0;
}

/*
 * iterable.what_to_do(class text, object text) returns text
 */
Datum
iterable_what_to_do(PG_FUNCTION_ARGS)
{
	char	   *class = text_to_cstring(PG_GETARG_TEXT_PP(0));
	IsObject	object = is_catalog_parse_object(text_to_cstring(PG_GETARG_TEXT_PP(1)));
	const IsMeaning *m = is_meaning_of_class(object == IS_OBJECT_EVENT ?
											 IS_ENDPOINT_EVENTS_TRACK_BULK :
											 IS_ENDPOINT_USERS_BULK_UPDATE, class);

	if (m == NULL || m->hint == NULL)
		PG_RETURN_NULL();
	PG_RETURN_TEXT_P(cstring_to_text(m->hint));
}
