/*-------------------------------------------------------------------------
 *
 * json_time.c
 *	  Dates, timestamps and intervals as JSON: the forms that Iterable knows
 *	  for dates, and ISO 8601.
 *
 * Copyright (c) 2026, the iterable_sync developers
 *-------------------------------------------------------------------------
 */
#include "json_internal.h"

#include "miscadmin.h"
#include "utils/builtins.h"
#include "utils/datetime.h"

#include "compat.h"

static char *
put_date(char *out, const struct pg_tm *tm)
{
	out = pg_ultostr_zeropad(out, tm->tm_year, 4);
	*out++ = '-';
	out = pg_ultostr_zeropad(out, tm->tm_mon, 2);
	*out++ = '-';
	return pg_ultostr_zeropad(out, tm->tm_mday, 2);
}

/* Iterable's dates have four digits for the year, of our era. */
static bool
is_year_ok(int year)
{
	return year >= 1 && year <= 9999;
}

const char *
is_json_append_date(StringInfo buf, DateADT date)
{
	struct pg_tm tm;
	char	   *out;

	if (DATE_NOT_FINITE(date))
		return PROBLEM_DATE;
	j2date(date + POSTGRES_EPOCH_JDATE, &tm.tm_year, &tm.tm_mon, &tm.tm_mday);
	if (!is_year_ok(tm.tm_year))
		return PROBLEM_DATE;
	enlargeStringInfo(buf, 16);
	out = buf->data + buf->len;
	*out++ = '"';
	out = put_date(out, &tm);
	*out++ = '"';
	*out = '\0';
	buf->len = out - buf->data;
	return NULL;
}

bool
is_json_local_to_utc(Timestamp local, pg_tz *zone, Timestamp *utc)
{
	struct pg_tm tm;
	fsec_t		fsec;
	int			offset;

	if (timestamp2tm(local, NULL, &tm, &fsec, NULL, NULL) != 0)
		return false;
	offset = DetermineTimeZoneOffset(&tm, zone);
	return tm2timestamp(&tm, fsec, &offset, utc) == 0 && IS_VALID_TIMESTAMP(*utc);
}

/* yyyy-MM-dd HH:mm:ss +00:00 in UTC; fractions are cut off */
const char *
is_json_append_timestamp(StringInfo buf, Timestamp timestamp, pg_tz *zone)
{
	static const char utc[] = " +00:00\"";
	struct pg_tm tm;
	fsec_t		fsec;
	char	   *out;

	if (TIMESTAMP_NOT_FINITE(timestamp) ||
		(zone != NULL && !is_json_local_to_utc(timestamp, zone, &timestamp)) ||
		timestamp2tm(timestamp, NULL, &tm, &fsec, NULL, NULL) != 0 ||
		!is_year_ok(tm.tm_year))
		return PROBLEM_DATE;

	enlargeStringInfo(buf, 32);
	out = buf->data + buf->len;
	*out++ = '"';
	out = put_date(out, &tm);
	*out++ = ' ';
	out = pg_ultostr_zeropad(out, tm.tm_hour, 2);
	*out++ = ':';
	out = pg_ultostr_zeropad(out, tm.tm_min, 2);
	*out++ = ':';
	out = pg_ultostr_zeropad(out, tm.tm_sec, 2);
	memcpy(out, utc, sizeof(utc));
	buf->len = out + sizeof(utc) - 1 - buf->data;
	return NULL;
}

/* As IntervalStyle iso_8601 writes it */
const char *
is_json_append_interval(StringInfo buf, const Interval *interval)
{
	struct pg_itm itm;
	char		text[MAXDATELEN + 1];

	if (INTERVAL_NOT_FINITE(interval))
		return PROBLEM_DATE;
	interval2itm(*interval, &itm);
	EncodeInterval(&itm, INTSTYLE_ISO_8601, text);
	appendStringInfo(buf, "\"%s\"", text);
	return NULL;
}
