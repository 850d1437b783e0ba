/*-------------------------------------------------------------------------
 *
 * render_error.c
 *	  Errors of rows: which row raised it, and what may be told of it.
 *
 * Copyright (c) 2026, the iterable_sync developers
 *-------------------------------------------------------------------------
 */
#include "render.h"

#include "utils/memutils.h"

#include "reading.h"
#include "renderer.h"

bool
is_renderer_blames_sync(const ErrorData *error)
{
	switch (ERRCODE_TO_CATEGORY(error->sqlerrcode))
	{
		case ERRCODE_CONNECTION_EXCEPTION:
		case ERRCODE_INVALID_TRANSACTION_STATE:
		case ERRCODE_INVALID_AUTHORIZATION_SPECIFICATION:
		case ERRCODE_TRANSACTION_ROLLBACK:
		case ERRCODE_SYNTAX_ERROR_OR_ACCESS_RULE_VIOLATION:
		case ERRCODE_INSUFFICIENT_RESOURCES:
		case ERRCODE_OBJECT_NOT_IN_PREREQUISITE_STATE:
		case ERRCODE_OPERATOR_INTERVENTION:
		case ERRCODE_SYSTEM_ERROR:
		case ERRCODE_CONFIG_FILE_ERROR:
		case ERRCODE_FDW_ERROR:
		case ERRCODE_INTERNAL_ERROR:
			return true;
		default:
			return error->elevel > ERROR;
	}
}

/*
 * SQLSTATE and message, without what was put into the message, which may be
 * data of the row.  The words of RAISE are such as a whole.
 */
static char *
describe_error(const ErrorData *error)
{
	StringInfoData detail;

	initStringInfo(&detail);
	appendStringInfoString(&detail, unpack_sql_state(error->sqlerrcode));
	if (error->message_id == NULL || strcmp(error->message_id, "%s") == 0)
	{
		appendStringInfoString(&detail, ": the message may hold data of the row and is not kept");
		return detail.data;
	}

	appendStringInfoString(&detail, ": ");
	for (const char *p = error->message_id; *p != '\0'; p++)
	{
		if (*p != '%')
			appendStringInfoChar(&detail, *p);
		else if (p[1] == '%')
			appendStringInfoChar(&detail, *++p);
		else
		{
			/* flags, width, precision and length end with a letter */
			p++;
			p += strspn(p, "-+ #0123456789.*$hljztL");
			appendStringInfoString(&detail, "...");
			if (*p == '\0')
				break;
		}
	}
	return detail.data;
}

void
is_renderer_report_row(IsRow *row, const ErrorData *error)
{
	row->found = true;
	if (error->sqlerrcode == ERRCODE_UNTRANSLATABLE_CHARACTER ||
		error->sqlerrcode == ERRCODE_CHARACTER_NOT_IN_REPERTOIRE)
	{
		row->problem = "bad_encoding";
		row->problem_detail = "a value has characters that do not exist in UTF-8";
		return;
	}
	row->problem = "expression";
	row->problem_detail = describe_error(error);
}

void
is_renderer_reset_row(IsRow *row)
{
	*row = (IsRow) {
		.key = row->key,
		.capture = row->capture,
		.version = row->version,
		.retried = row->retried,
	};
}

static IsRow *
trial_row(const IsTrial *trial, int i)
{
	return &trial->rows[trial->members ? trial->members[i] : i];
}

static void
try_range(IsTrial *trial, int first, int count)
{
	MemoryContext old = MemoryContextSwitchTo(trial->try_context);
	ErrorData  *error;

	trial->first = first;
	trial->count = count;
	error = is_reading_try(trial->try_rows, trial->arg);
	MemoryContextSwitchTo(trial->result_context);
	if (error)
	{
		if (is_renderer_blames_sync(error))
			ReThrowError(error);
		for (int i = first; i < first + count; i++)
			is_renderer_reset_row(trial_row(trial, i));
		if (count == 1 && trial->report_row)
			trial->report_row(trial->arg, trial_row(trial, first), error);
		else if (count == 1)
			is_renderer_report_row(trial_row(trial, first), error);
	}
	MemoryContextSwitchTo(old);
	MemoryContextReset(trial->row_context);
	MemoryContextReset(trial->try_context);

	if (error && count > 1)
	{
		try_range(trial, first, count / 2);
		try_range(trial, first + count / 2, count - count / 2);
	}
}

void
is_renderer_try(IsTrial *trial, int count)
{
	trial->try_context = AllocSetContextCreate(CurrentMemoryContext,
											   "iterable_sync try",
											   ALLOCSET_DEFAULT_SIZES);
	trial->row_context = AllocSetContextCreate(CurrentMemoryContext,
											   "iterable_sync row",
											   ALLOCSET_DEFAULT_SIZES);
	try_range(trial, 0, count);
	MemoryContextDelete(trial->row_context);
	MemoryContextDelete(trial->try_context);
}
