/*-------------------------------------------------------------------------
 *
 * cron.c
 *	  Cron lines: which minutes they name, and when the next one comes.
 *
 * Copyright (c) 2026, the iterable_sync developers
 *-------------------------------------------------------------------------
 */
#include "cron.h"

#include <stdarg.h>
#include <stdio.h>
#include <string.h>
#include <strings.h>

#define MINUTE 60
#define HOUR_MINUTES 60
#define DAY_MINUTES (24 * HOUR_MINUTES)
#define DAY (DAY_MINUTES * MINUTE)

/* After so many days the calendar repeats itself, days of the week included. */
#define CYCLE_DAYS 146097

/* No change of a clock has been larger, and they do not come together. */
#define LOOK_BACK (2 * DAY)

#define EVERY_HOUR ((UINT32_C(1) << 24) - 1)

/* ----------------------------------------------------------------
 * Parsing
 * ----------------------------------------------------------------
 */

typedef enum Field
{
	FIELD_MINUTE,
	FIELD_HOUR,
	FIELD_DAY,
	FIELD_MONTH,
	FIELD_WEEKDAY,
	FIELD_COUNT
} Field;

static const struct
{
	const char *name;
	int			min;
	int			max;
	const char *words;			/* three letters each, from min */
}			fields[FIELD_COUNT] = {
	{"minute", 0, 59, ""},
	{"hour", 0, 23, ""},
	{"day of month", 1, 31, ""},
	{"month", 1, 12, "janfebmaraprmayjunjulaugsepoctnovdec"},
	{"day of week", 0, 7, "sunmontuewedthufrisat"},
};

static const struct
{
	const char *name;
	const char *line;
}			nicknames[] = {
	{"@hourly", "0 * * * *"},
	{"@daily", "0 0 * * *"},
	{"@midnight", "0 0 * * *"},
	{"@weekly", "0 0 * * 0"},
	{"@monthly", "0 0 1 * *"},
	{"@yearly", "0 0 1 1 *"},
	{"@annually", "0 0 1 1 *"},
};

typedef struct Parser
{
	const char *p;
	Field		field;
	char	   *error;
} Parser;

static bool fail(Parser *parser, const char *format,...)
			__attribute__((format(printf, 2, 3)));

static bool
fail(Parser *parser, const char *format,...)
{
	va_list		args;
	int			n = snprintf(parser->error, IS_CRON_ERROR_SIZE, "In the field \"%s\": ",
							 fields[parser->field].name);

	va_start(args, format);
	vsnprintf(parser->error + n, IS_CRON_ERROR_SIZE - n, format, args);
	va_end(args);
	return false;
}

/* Not those of <ctype.h>, which go by the locale. */
static bool
is_blank(char c)
{
	return c == ' ' || c == '\t';
}

static bool
is_digit(char c)
{
	return c >= '0' && c <= '9';
}

static bool
is_letter(char c)
{
	return (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z');
}

static const char *
skip_blanks(const char *p)
{
	while (is_blank(*p))
		p++;
	return p;
}

static int
count_fields(const char *text)
{
	int			n = 0;

	for (const char *p = skip_blanks(text); *p != '\0'; p = skip_blanks(p))
	{
		n++;
		while (*p != '\0' && !is_blank(*p))
			p++;
	}
	return n;
}

bool
is_cron_looks_like(const char *text)
{
	const char *p = skip_blanks(text);

	if (*p == '@')
		return is_letter(p[1]);
	if (strchr(p, '*') != NULL)
		return true;
	if (count_fields(p) != FIELD_COUNT)
		return false;
	while (!is_blank(*p))
		p++;
	return !is_letter(*skip_blanks(p));
}

static bool
parse_number(Parser *parser, int *value)
{
	int			n = 0;

	if (!is_digit(*parser->p))
		return fail(parser, *parser->p == '\0' || is_blank(*parser->p) ?
					"it ends where a number is expected." :
					"there is something else where a number is expected.");
	for (; is_digit(*parser->p); parser->p++)
		n = n > 9999 ? n : 10 * n + (*parser->p - '0');
	*value = n;
	return true;
}

/* A value of the field, as a number or a word. */
static bool
parse_value(Parser *parser, int *value, bool *is_word)
{
	const char *words = fields[parser->field].words;
	int			min = fields[parser->field].min;
	int			max = fields[parser->field].max;
	int			length = 0;

	*is_word = is_letter(*parser->p);
	if (!*is_word)
	{
		if (!parse_number(parser, value))
			return false;
		if (*value < min || *value > max)
			return fail(parser, "%d is not between %d and %d.", *value, min, max);
		return true;
	}

	while (is_letter(parser->p[length]))
		length++;
	for (int i = 0; words[3 * i] != '\0' && length == 3; i++)
	{
		if (strncasecmp(parser->p, &words[3 * i], 3) == 0)
		{
			*value = min + i;
			parser->p += 3;
			return true;
		}
	}
	if (length > 20)
		length = 20;
	if (words[0] == '\0')
		return fail(parser, "\"%.*s\" is no number.", length, parser->p);
	return fail(parser, "\"%.*s\" is no name; names have three letters, such as \"%.3s\".",
				length, parser->p, words);
}

/* value, value-value or *, the latter two perhaps with /step */
static bool
parse_item(Parser *parser, uint64_t *bits)
{
	int			min = fields[parser->field].min;
	int			max = fields[parser->field].max;
	int			from = min;
	int			to = max;
	int			step = 1;
	bool		is_range = true;
	bool		is_word;

	if (*parser->p == '*')
	{
		parser->p++;
		if (parser->field == FIELD_WEEKDAY)
			to = 6;				/* or steps would count Sunday twice */
	}
	else
	{
		if (!parse_value(parser, &from, &is_word))
			return false;
		to = from;
		is_range = *parser->p == '-';
		if (is_range)
		{
			parser->p++;
			if (!parse_value(parser, &to, &is_word))
				return false;
			/* a week may end with Sunday */
			if (parser->field == FIELD_WEEKDAY && is_word && to == 0 && from > 0)
				to = 7;
			if (to < from)
				return fail(parser, "the range %d-%d runs backwards.", from, to);
		}
	}

	if (*parser->p == '/')
	{
		parser->p++;
		if (!is_range)
			return fail(parser, "a step needs a range or *, such as %d-%d/2.", from, max);
		if (!parse_number(parser, &step))
			return false;
		if (step < 1 || step > max)
			return fail(parser, "the step %d is not between 1 and %d.", step, max);
	}

	for (int value = from; value <= to; value += step)
		*bits |= UINT64_C(1) << value;
	return true;
}

static bool
parse_field(Parser *parser, uint64_t *bits)
{
	*bits = 0;
	for (;;)
	{
		if (!parse_item(parser, bits))
			return false;
		if (*parser->p != ',')
			break;
		parser->p++;
	}
	if (*parser->p != '\0' && !is_blank(*parser->p))
		return fail(parser, "something follows that is no part of it.");
	return true;
}

/* Does any date that the line names exist? */
static bool
has_dates(const IsCron *cron)
{
	static const int lengths[] = {0, 31, 29, 31, 30, 31, 30, 31, 31, 30, 31, 30, 31};

	/* every month has all days of the week, and a date gets around to each */
	if (cron->either_day)
		return true;
	for (int month = 1; month <= 12; month++)
		if ((cron->months & (1U << month)) &&
			(cron->days & ((UINT64_C(1) << (lengths[month] + 1)) - 1)))
			return true;
	return false;
}

bool
is_cron_parse(const char *text, IsCron *cron, char error[IS_CRON_ERROR_SIZE])
{
	Parser		parser = {.p = skip_blanks(text), .error = error};
	uint64_t	bits[FIELD_COUNT];
	bool		any[FIELD_COUNT];
	int			n;

	if (*parser.p == '@')
	{
		size_t		length = strcspn(parser.p, " \t");
		bool		found = false;

		for (size_t i = 0; i < sizeof(nicknames) / sizeof(nicknames[0]) && !found; i++)
		{
			found = *skip_blanks(parser.p + length) == '\0' &&
				strlen(nicknames[i].name) == length &&
				strncasecmp(parser.p, nicknames[i].name, length) == 0;
			if (found)
				parser.p = nicknames[i].line;
		}
		if (!found)
		{
			snprintf(error, IS_CRON_ERROR_SIZE,
					 "The names are @hourly, @daily, @midnight, @weekly, @monthly, @yearly and @annually.");
			return false;
		}
	}

	n = count_fields(parser.p);
	if (n != FIELD_COUNT)
	{
		snprintf(error, IS_CRON_ERROR_SIZE,
				 "A cron line has five fields: minute, hour, day of month, month, day of week; this has %d.",
				 n);
		return false;
	}
	for (int i = 0; i < FIELD_COUNT; i++)
	{
		parser.field = (Field) i;
		parser.p = skip_blanks(parser.p);
		any[i] = *parser.p == '*';
		if (!parse_field(&parser, &bits[i]))
			return false;
	}

	cron->minutes = bits[FIELD_MINUTE];
	cron->hours = (uint32_t) bits[FIELD_HOUR];
	cron->days = (uint32_t) bits[FIELD_DAY];
	cron->months = (uint32_t) bits[FIELD_MONTH];
	cron->weekdays = (uint32_t) ((bits[FIELD_WEEKDAY] | bits[FIELD_WEEKDAY] >> 7) & 0x7f);
	cron->either_day = !any[FIELD_DAY] && !any[FIELD_WEEKDAY];
	if (!has_dates(cron))
	{
		parser.field = FIELD_DAY;
		return fail(&parser, "no month that the line names has such a day.");
	}
	return true;
}

/* ----------------------------------------------------------------
 * The calendar
 * ----------------------------------------------------------------
 */

static int64_t
floor_div(int64_t a, int64_t b)
{
	return a / b - (a % b < 0);
}

/*
 * Days since 1970-01-01 of a date of the Gregorian calendar, and back.  Years
 * are counted from March, so that the leap day is the last.
 */
static int64_t
days_from_date(int64_t year, int month, int day)
{
	int64_t		y = month <= 2 ? year - 1 : year;
	int64_t		era = floor_div(y, 400);
	int64_t		year_of_era = y - era * 400;
	int			day_of_year = (153 * (month + (month > 2 ? -3 : 9)) + 2) / 5 + day - 1;

	return era * CYCLE_DAYS + year_of_era * 365 + year_of_era / 4 - year_of_era / 100 +
		day_of_year - 719468;
}

static void
date_from_days(int64_t days, int64_t *year, int *month, int *day)
{
	int64_t		era = floor_div(days + 719468, CYCLE_DAYS);
	int			day_of_era = (int) (days + 719468 - era * CYCLE_DAYS);
	int			year_of_era = (day_of_era - day_of_era / 1460 + day_of_era / 36524 -
							   day_of_era / (CYCLE_DAYS - 1)) / 365;
	int			day_of_year = day_of_era - (365 * year_of_era + year_of_era / 4 -
											year_of_era / 100);
	int			month_of_year = (5 * day_of_year + 2) / 153;

	*day = day_of_year - (153 * month_of_year + 2) / 5 + 1;
	*month = month_of_year < 10 ? month_of_year + 3 : month_of_year - 9;
	*year = era * 400 + year_of_era + (*month <= 2);
}

static bool
matches_day(const IsCron *cron, int64_t days, int day)
{
	/* 1970-01-01 was a Thursday */
	int			weekday = (int) (days + 4 - 7 * floor_div(days + 4, 7));
	bool		by_day = (cron->days >> day) & 1;
	bool		by_weekday = (cron->weekdays >> weekday) & 1;

	return cron->either_day ? by_day || by_weekday : by_day && by_weekday;
}

/* The first wall time of the line from a wall time on. */
static int64_t
next_wall(const IsCron *cron, int64_t from)
{
	int64_t		start = floor_div(from + MINUTE - 1, MINUTE);
	int64_t		days = floor_div(start, DAY_MINUTES);
	int			minute = (int) (start - days * DAY_MINUTES);
	int64_t		last = days + CYCLE_DAYS;

	while (days <= last)
	{
		int64_t		year;
		int			month;
		int			day;

		date_from_days(days, &year, &month, &day);
		if (!((cron->months >> month) & 1))
		{
			days = month == 12 ? days_from_date(year + 1, 1, 1) :
				days_from_date(year, month + 1, 1);
			minute = 0;
			continue;
		}
		for (; minute < DAY_MINUTES && matches_day(cron, days, day); minute++)
		{
			if (((cron->hours >> (minute / HOUR_MINUTES)) & 1) &&
				((cron->minutes >> (minute % HOUR_MINUTES)) & 1))
				return (days * DAY_MINUTES + minute) * MINUTE;
		}
		days++;
		minute = 0;
	}
	return IS_CRON_NEVER;
}

/* ----------------------------------------------------------------
 * Time
 * ----------------------------------------------------------------
 */

static int64_t
max(int64_t a, int64_t b)
{
	return a > b ? a : b;
}

/*
 * Goes from one change of the clock to the next.  It begins before "after",
 * to know what the clock has shown already.
 */
int64_t
is_cron_next(const IsCron *cron, int64_t after, const IsCronZone *zone)
{
	bool		evenly = cron->hours == EVERY_HOUR;
	int64_t		time = after - LOOK_BACK;
	int64_t		shown = INT64_MIN;	/* the clock has shown all before this */

	for (;;)
	{
		int64_t		until;
		int64_t		offset = zone->offset(zone->arg, time, &until);
		int64_t		begin = time + offset;
		int64_t		wall;

		if (evenly || shown == INT64_MIN)
			shown = begin;
		else if (begin > shown && time > after && next_wall(cron, shown) < begin)
			return time;

		wall = next_wall(cron, max(max(begin, shown), after + offset + 1));
		if (wall == IS_CRON_NEVER)
			return IS_CRON_NEVER;
		if (until == IS_CRON_NEVER || wall - offset < until)
			return wall - offset;
		shown = max(shown, until + offset);
		time = until;
	}
}
