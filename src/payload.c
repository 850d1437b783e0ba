/*-------------------------------------------------------------------------
 *
 * payload.c
 *	  Writes the payload of one row.
 *
 * Copyright (c) 2026, the iterable_sync developers
 *-------------------------------------------------------------------------
 */
#include "payload.h"

#include "common/sha2.h"
#include "datatype/timestamp.h"
#include "port/pg_bswap.h"
#include "utils/builtins.h"
#include "utils/date.h"
#include "utils/memutils.h"
#include "utils/numeric.h"
#include "utils/timestamp.h"

#include "compat.h"

#define MAX_EVENT_ID 512		/* bytes */

/* A buffer that a large row has blown up is not kept beyond this size. */
#define MAX_KEPT_BUFFER (1024 * 1024)

/* The years 1 to 9999 in seconds since 1970. */
#define FIRST_SECOND INT64CONST(-62135596800)
#define LAST_SECOND INT64CONST(253402300799)

/* The row in the works. */
typedef struct Writing
{
	IsPayloadWriter *writer;
	StringInfo	buf;
	IsRow	   *row;
	const Datum *values;
	const bool *nulls;
	const char *failed;			/* destination whose value has a problem */
	int			id_at;			/* where the default id is, 0: nowhere */
} Writing;

/* ----------------------------------------------------------------
 * SHA-256
 * ----------------------------------------------------------------
 */

static void
hash_bytes_of(pg_cryptohash_ctx *sha256, const void *first, Size first_len,
			  const void *second, Size second_len, uint8 *digest)
{
	if (pg_cryptohash_init(sha256) < 0 ||
		pg_cryptohash_update(sha256, first, first_len) < 0 ||
		pg_cryptohash_update(sha256, second, second_len) < 0 ||
		pg_cryptohash_final(sha256, digest, PG_SHA256_DIGEST_LENGTH) < 0)
		elog(ERROR, "could not compute SHA-256: %s", pg_cryptohash_error(sha256));
}

static int64
hash_payload(pg_cryptohash_ctx *sha256, const char *payload, int len)
{
	uint8		digest[PG_SHA256_DIGEST_LENGTH];
	uint64		first;

	hash_bytes_of(sha256, payload, len, "", 0, digest);
	memcpy(&first, digest, sizeof(first));
	return (int64) pg_ntoh64(first);
}

/*
 * The id of an event that has none mapped: the same whenever the row is sent,
 * and no other sync's.
 */
static void
write_event_id(const IsPayloadWriter *writer, const void *name, Size len, char *id)
{
	const pg_uuid_t *uuid = &writer->renderer->sync->uuid;
	uint8		digest[PG_SHA256_DIGEST_LENGTH];

	hash_bytes_of(writer->sha256, uuid->data, UUID_LEN, name, len, digest);
	hex_encode((char *) digest, sizeof(digest), id);
}

/*
 * A version that is an event of its own has its own id.  It gets it after the
 * payload was hashed, since rows are compared by what they say.
 */
static void
write_version_id(Writing *writing)
{
	const IsRow *row = writing->row;
	Size		key_len = strlen(row->key);
	Size		tag_len;
	char	   *name;

	if (row->capture != IS_CAPTURE_VERSIONS || row->version == NULL ||
		writing->id_at == 0)
		return;
	tag_len = strlen(row->version->tag);
	name = palloc(key_len + 1 + tag_len);
	memcpy(name, row->key, key_len + 1);
	memcpy(name + key_len + 1, row->version->tag, tag_len);
	write_event_id(writing->writer, name, key_len + 1 + tag_len,
				   row->payload + writing->id_at);
}

/* ----------------------------------------------------------------
 * Values with a meaning
 * ----------------------------------------------------------------
 */

static void
begin_member(StringInfo buf, const IsMember *member)
{
	if (buf->data[buf->len - 1] != '{')
		appendStringInfoChar(buf, ',');
	appendBinaryStringInfo(buf, member->label, member->label_len);
}

/* Letters, digits and hyphens */
static bool
is_event_id_ok(const char *id)
{
	Size		len = strlen(id);

	return len > 0 && len <= MAX_EVENT_ID &&
		strspn(id, "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789-") == len;
}

/* The place of a string that is wanted beside the payload, or NULL. */
static char **
string_place(IsRow *row, IsField field)
{
	switch (field)
	{
		case IS_FIELD_EMAIL:
			return &row->email;
		case IS_FIELD_USER_ID:
			return &row->user_id;
		case IS_FIELD_DATA_EMAIL:
			return &row->data_email;
		case IS_FIELD_DATA_USER_ID:
			return &row->data_user_id;
		case IS_FIELD_EVENT_NAME:
			return &row->event_name;
		default:
			return NULL;
	}
}

static const char *
write_string(Writing *writing, IsMember *member)
{
	char	   *string = member->constant;
	char	  **place;

	if (member->column >= 0)
	{
		const char *problem;

		string = is_json_text(&member->type, writing->values[member->column],
							  &problem);
		if (problem)
			return problem;
	}

	place = string_place(writing->row, member->field);
	if (place)
		*place = MemoryContextStrdup(writing->writer->result_context, string);
	else if (!is_event_id_ok(string))
		return "bad_event_id";

	begin_member(writing->buf, member);
	is_json_append_utf8(writing->buf, string, strlen(string));
	return NULL;
}

/* Seconds since 1970, rounded down */
static const char *
get_seconds(IsMember *member, Datum value, int64 *seconds)
{
	const int64 days = POSTGRES_EPOCH_JDATE - UNIX_EPOCH_JDATE;
	pg_tz	   *zone = member->type.kind == IS_JSON_TIMESTAMPTZ ? NULL : member->type.zone;

	switch (member->type.kind)
	{
		case IS_JSON_INT2:
			*seconds = DatumGetInt16(value);
			break;
		case IS_JSON_INT4:
			*seconds = DatumGetInt32(value);
			break;
		case IS_JSON_INT8:
			*seconds = DatumGetInt64(value);
			break;
		case IS_JSON_DATE:
			if (DATE_NOT_FINITE(DatumGetDateADT(value)))
				return "bad_date";
			*seconds = (DatumGetDateADT(value) + days) * SECS_PER_DAY;
			if (zone == NULL)
				break;
			/* no zone is a day away: what can't be good need not be a timestamp */
			if (*seconds < FIRST_SECOND - SECS_PER_DAY ||
				*seconds > LAST_SECOND + SECS_PER_DAY)
				return "bad_date";
			value = TimestampGetDatum(DatumGetDateADT(value) * USECS_PER_DAY);
			pg_fallthrough;
		default:
			{
				Timestamp	timestamp = DatumGetTimestamp(value);

				if (TIMESTAMP_NOT_FINITE(timestamp) ||
					(zone && !is_json_local_to_utc(timestamp, zone, &timestamp)))
					return "bad_date";
				*seconds = timestamp / USECS_PER_SEC + days * SECS_PER_DAY;
				if (timestamp % USECS_PER_SEC < 0)
					(*seconds)--;
			}
	}
	return *seconds < FIRST_SECOND || *seconds > LAST_SECOND ? "bad_date" : NULL;
}

/* An integer in whatever it is written. */
static const char *
get_integer(IsMember *member, Datum value, int64 *number)
{
	const char *problem;
	char	   *text = is_json_text(&member->type, value, &problem);
	char	   *end;

	if (problem)
		return problem;
	errno = 0;
	*number = strtoi64(text, &end, 10);
	if (member->type.kind == IS_JSON_NUMERIC && *end == '.')
		end += 1 + strspn(end + 1, "0");
	if (errno != 0 || *end != '\0' || strspn(text, "-0123456789.") != strlen(text) ||
		text[0] == '\0')
		return "not_an_integer";
	return NULL;
}

static const char *
write_integer(Writing *writing, IsMember *member)
{
	StringInfo	buf = writing->buf;
	int64		number;
	const char *problem;

	begin_member(buf, member);
	if (member->constant)
	{
		appendStringInfoString(buf, member->constant_json);
		return NULL;
	}
	problem = member->field == IS_FIELD_CREATED_AT ?
		get_seconds(member, writing->values[member->column], &number) :
		get_integer(member, writing->values[member->column], &number);
	if (problem == NULL)
		appendStringInfo(buf, INT64_FORMAT, number);
	return problem;
}

static const char *
write_data(Writing *writing, IsMember *member)
{
	StringInfo	buf = writing->buf;
	int			start = buf->len;
	int			value;
	const char *problem;

	begin_member(buf, member);
	if (member->constant)
	{
		appendStringInfoString(buf, member->constant_json);
		return NULL;
	}

	value = buf->len;
	problem = is_json_append(buf, &member->type, writing->values[member->column]);

	/* A null in JSON deletes the field at Iterable as any other. */
	if (problem == NULL && !member->clear_null &&
		(member->type.kind == IS_JSON_JSON || member->type.kind == IS_JSON_JSONB) &&
		is_json_is_null(buf->data + value))
		buf->len = start;
	return problem;
}

static const char *
write_member(Writing *writing, IsMember *member)
{
	StringInfo	buf = writing->buf;
	const char *problem = NULL;

	if (member->members)
	{
		int			start = buf->len;
		int			inside;

		begin_member(buf, member);
		appendStringInfoChar(buf, '{');
		inside = buf->len;
		for (IsMember *m = member->members; m && problem == NULL; m = m->next)
			problem = write_member(writing, m);
		if (buf->len > inside)
			appendStringInfoChar(buf, '}');
		else
			buf->len = start;
		return problem;
	}

	if (member->column >= 0 && writing->nulls[member->column])
	{
		if (member->clear_null && member->field == IS_FIELD_DATA)
		{
			begin_member(buf, member);
			appendStringInfoString(buf, "null");
		}
		return NULL;
	}

	switch (member->field)
	{
		case IS_FIELD_DATA:
			problem = write_data(writing, member);
			break;
		case IS_FIELD_CREATED_AT:
		case IS_FIELD_CAMPAIGN_ID:
		case IS_FIELD_TEMPLATE_ID:
			problem = write_integer(writing, member);
			break;
		default:
			problem = write_string(writing, member);
			break;
	}
	if (problem == NULL && buf->len > writing->writer->renderer->max_payload)
		problem = "too_large";
	if (problem)
		writing->failed = member->destination;
	return problem;
}

/* ----------------------------------------------------------------
 * The row
 * ----------------------------------------------------------------
 */

static void
report_value(Writing *writing, const char *problem)
{
	static const char *const details[][2] = {
		{"not_a_number", "is NaN or infinite"},
		{"bad_date", "is infinite or not in the years 1 to 9999"},
		{"bad_encoding", "is not valid in UTF-8"},
		{"bad_json", "is not valid JSON"},
		{"bad_geo_location", "is not a point (longitude, latitude) within 180 and 90 degrees"},
		{"bad_event_id", "is not of 1 to 512 letters, digits and hyphens"},
		{"not_an_integer", "is not an integer"},
	};
	MemoryContext old = MemoryContextSwitchTo(writing->writer->result_context);
	IsRow	   *row = writing->row;

	row->problem = problem;
	if (strcmp(problem, "too_large") == 0)
		row->problem_detail = psprintf("the payload is larger than %d bytes",
									   writing->writer->renderer->max_payload);
	for (int i = 0; i < (int) lengthof(details); i++)
		if (strcmp(problem, details[i][0]) == 0)
			row->problem_detail = psprintf("the value for \"%s\" %s",
										   writing->failed, details[i][1]);
	MemoryContextSwitchTo(old);
}

static bool
report(IsRow *row, const char *problem, const char *detail)
{
	if (detail == NULL)
		return false;
	row->problem = problem;
	row->problem_detail = unconstify(char *, detail);
	return true;
}

/* Would Iterable take the row for somebody's? */
static void
check_row(const IsRenderer *renderer, IsRow *row)
{
	bool		by_user_id = renderer->project_type == IS_PROJECT_USERID;

	if (row->user_id == NULL && (by_user_id || row->email == NULL))
		report(row, "no_identifier",
			   by_user_id ? "the row has no user id" :
			   "the row has neither an e-mail address nor a user id");
	else if (row->email && report(row, "bad_email", is_api_check_email(row->email)))
		return;
	else if (row->user_id &&
			 report(row, "bad_user_id", is_api_check_user_id(row->user_id)))
		return;
	else if (row->data_email &&
			 report(row, "bad_email", is_api_check_email(row->data_email)))
		return;
	else if (row->data_user_id &&
			 report(row, "bad_user_id", is_api_check_user_id(row->data_user_id)))
		return;
	else if (renderer->sync->object == IS_OBJECT_EVENT &&
			 (row->event_name == NULL || row->event_name[0] == '\0'))
		report(row, "no_event_name", "the event name is NULL or empty");
}

static const char *
write_fields(Writing *writing)
{
	const IsRenderer *renderer = writing->writer->renderer;
	IsMember  *const *fields = renderer->layout->fields;
	const char *problem = NULL;

	for (int i = 0; i < (int) lengthof(renderer->layout->fields) && problem == NULL; i++)
	{
		int			start = writing->buf->len;

		if (fields[i])
			problem = write_member(writing, fields[i]);
		if (i == IS_FIELD_EVENT_ID && writing->buf->len == start &&
			problem == NULL && renderer->sync->object == IS_OBJECT_EVENT)
		{
			static const IsMember id = {.label = "\"id\":", .label_len = 5};

			char		text[2 * PG_SHA256_DIGEST_LENGTH + 1] = "";

			begin_member(writing->buf, &id);
			write_event_id(writing->writer, writing->row->key,
						   strlen(writing->row->key), text);
			writing->id_at = writing->buf->len + 1;
			appendStringInfo(writing->buf, "\"%s\"", text);
		}
	}
	return problem;
}

void
is_payload_write(IsPayloadWriter *writer, IsRow *row, const Datum *values,
				 const bool *nulls)
{
	StringInfo	buf = &writer->buf;
	Writing		writing = {
		.writer = writer,
		.buf = buf,
		.row = row,
		.values = values,
		.nulls = nulls,
	};
	const char *problem;

	resetStringInfo(buf);
	appendStringInfoChar(buf, '{');
	problem = write_fields(&writing);
	appendStringInfoString(buf, writer->renderer->suffix);
	appendStringInfoChar(buf, '}');
	if (problem == NULL && buf->len > writer->renderer->max_payload)
		problem = "too_large";

	if (problem)
		report_value(&writing, problem);
	else
	{
		check_row(writer->renderer, row);
		if (!writer->renderer->only_hashes)
		{
			row->payload = MemoryContextAlloc(writer->result_context, buf->len + 1);
			memcpy(row->payload, buf->data, buf->len + 1);
		}
		row->payload_len = buf->len;
		row->hash = hash_payload(writer->sha256, buf->data, buf->len);
		write_version_id(&writing);
	}

	if (buf->maxlen > MAX_KEPT_BUFFER)
	{
		MemoryContext old = MemoryContextSwitchTo(GetMemoryChunkContext(buf->data));

		pfree(buf->data);
		initStringInfo(buf);
		MemoryContextSwitchTo(old);
	}
}

void
is_payload_begin(IsPayloadWriter *writer, const IsRenderer *renderer)
{
	writer->renderer = renderer;
	writer->sha256 = pg_cryptohash_create(PG_SHA256);
	if (writer->sha256 == NULL)
		ereport(ERROR,
				(errcode(ERRCODE_OUT_OF_MEMORY),
				 errmsg("out of memory")));
	initStringInfo(&writer->buf);
	is_layout_refresh(renderer->layout);
}

void
is_payload_end(IsPayloadWriter *writer)
{
	pg_cryptohash_free(writer->sha256);
}
