/*
 * identifiers.c
 *		What is a well-formed e-mail or user id, and what is a date.
 *
 * E-mails follow Apache Commons EmailValidator, which Iterable uses, but for
 * quoted local parts, address literals and its list of top-level domains, of
 * which only the names that are reserved not to exist are refused.
 */
#include "identifiers.h"

#include <ctype.h>
#include <stdio.h>
#include <string.h>
#include <strings.h>
#include <time.h>

#include "buffer.h"

#define LONGEST_USER_ID 52
#define LONGEST_LOCAL_PART 64
#define LONGEST_DOMAIN 253
#define LONGEST_LABEL 63

static bool
local_part_is_valid(const char *text, size_t len)
{
	if (len == 0 || len > LONGEST_LOCAL_PART)
		return false;
	if (text[0] == '.' || text[len - 1] == '.')
		return false;
	for (size_t i = 0; i < len; i++)
	{
		unsigned char c = (unsigned char) text[i];

		if (c <= 0x20 || c == 0x7f || strchr("()<>@,;:\\\"[]", c) != NULL)
			return false;
		if (c == '.' && text[i - 1] == '.')
			return false;
	}
	return true;
}

static bool
label_is_valid(const char *text, size_t len)
{
	if (len == 0 || len > LONGEST_LABEL)
		return false;
	if (text[0] == '-' || text[len - 1] == '-')
		return false;
	for (size_t i = 0; i < len; i++)
	{
		unsigned char c = (unsigned char) text[i];

		/* above ASCII it is an internationalised name */
		if (!isalnum(c) && c != '-' && c < 0x80)
			return false;
	}
	return true;
}

static bool
top_level_is_valid(const char *text, size_t len)
{
	static const char *const reserved[] = {
		"test", "example", "invalid", "localhost", "local", "internal", "lan",
		"corp", "home"
	};

	if (len < 2)
		return false;
	for (size_t i = 0; i < sizeof(reserved) / sizeof(reserved[0]); i++)
		if (strlen(reserved[i]) == len &&
			strncasecmp(reserved[i], text, len) == 0)
			return false;
	if (len > 4 && strncasecmp(text, "xn--", 4) == 0)
		return true;
	for (size_t i = 0; i < len; i++)
		if (isdigit((unsigned char) text[i]) || text[i] == '-')
			return false;
	return true;
}

static bool
domain_is_valid(const char *domain)
{
	const char *label = domain;

	if (strlen(domain) > LONGEST_DOMAIN || strchr(domain, '.') == NULL)
		return false;
	for (;;)
	{
		size_t		len = strcspn(label, ".");

		if (!label_is_valid(label, len))
			return false;
		if (label[len] == '\0')
			return top_level_is_valid(label, len);
		label += len + 1;
	}
}

bool
email_is_valid(const char *email)
{
	const char *at = strrchr(email, '@');

	return at != NULL && local_part_is_valid(email, (size_t) (at - email)) &&
		domain_is_valid(at + 1);
}

bool
user_id_is_valid(const char *user_id)
{
	size_t		len = strlen(user_id);

	if (len == 0 || len > LONGEST_USER_ID || user_id[len - 1] == ' ')
		return false;
	for (size_t i = 0; i < len; i++)
		if (user_id[i] < 0x20 || user_id[i] > 0x7e)
			return false;
	return true;
}

char *
email_fold(const char *email)
{
	char	   *folded = xstrdup(email);

	for (char *c = folded; *c != '\0'; c++)
		if (*c >= 'A' && *c <= 'Z')
			*c = (char) (*c - 'A' + 'a');
	return folded;
}

static bool
take_number(const char **text, const char *end, int digits, int *value)
{
	*value = 0;
	if (end - *text < digits)
		return false;
	for (int i = 0; i < digits; i++, (*text)++)
	{
		if (!isdigit((unsigned char) **text))
			return false;
		*value = *value * 10 + (**text - '0');
	}
	return true;
}

static bool
take_char(const char **text, const char *end, char c)
{
	if (*text >= end || **text != c)
		return false;
	(*text)++;
	return true;
}

/* +00:00, with its sign, to the end of the text */
static bool
take_offset(const char **text, const char *end, int *seconds)
{
	int			sign;
	int			hours;
	int			minutes;

	if (*text >= end || (**text != '+' && **text != '-'))
		return false;
	sign = **text == '-' ? -1 : 1;
	(*text)++;
	if (!take_number(text, end, 2, &hours) || !take_char(text, end, ':') ||
		!take_number(text, end, 2, &minutes) || hours > 23 || minutes > 59)
		return false;
	*seconds = sign * (hours * 3600 + minutes * 60);
	return *text == end;
}

static int
days_of_month(int year, int month)
{
	static const int days[] = {31, 28, 31, 30, 31, 30, 31, 31, 30, 31, 30, 31};
	bool		leap = year % 4 == 0 && (year % 100 != 0 || year % 400 == 0);

	return days[month - 1] + (month == 2 && leap ? 1 : 0);
}

bool
date_parse(const char *text, size_t len, int64_t *seconds)
{
	const char *end = text + len;
	struct tm	tm = {0};
	int			year;
	int			month;
	int			offset = 0;
	int			millis;
	char		separator;

	if (!take_number(&text, end, 4, &year) || !take_char(&text, end, '-') ||
		!take_number(&text, end, 2, &month) || !take_char(&text, end, '-') ||
		!take_number(&text, end, 2, &tm.tm_mday))
		return false;
	if (month < 1 || month > 12 || tm.tm_mday < 1 ||
		tm.tm_mday > days_of_month(year, month))
		return false;
	tm.tm_year = year - 1900;
	tm.tm_mon = month - 1;
	if (text == end)
	{
		*seconds = timegm(&tm);
		return true;
	}

	separator = *text++;
	if (separator != ' ' && separator != 'T')
		return false;
	if (!take_number(&text, end, 2, &tm.tm_hour) ||
		!take_char(&text, end, ':') ||
		!take_number(&text, end, 2, &tm.tm_min) ||
		!take_char(&text, end, ':') ||
		!take_number(&text, end, 2, &tm.tm_sec))
		return false;
	if (tm.tm_hour > 23 || tm.tm_min > 59 || tm.tm_sec > 59)
		return false;

	if (separator == ' ')
	{
		/* no milliseconds here, and the offset may be left out */
		if (text != end && (!take_char(&text, end, ' ') ||
							!take_offset(&text, end, &offset)))
			return false;
	}
	else
	{
		/* milliseconds and an offset, both of them */
		if (!take_char(&text, end, '.') || !take_number(&text, end, 3, &millis))
			return false;
		if (!(end - text == 1 && *text == 'Z') &&
			!take_offset(&text, end, &offset))
			return false;
	}
	*seconds = timegm(&tm) - offset;
	return true;
}

void
date_format(int64_t seconds, char *text)
{
	time_t		moment = (time_t) seconds;
	struct tm	tm;

	if (gmtime_r(&moment, &tm) == NULL)
		memset(&tm, 0, sizeof(tm));
	snprintf(text, DATE_TEXT_SIZE, "%04d-%02d-%02d %02d:%02d:%02d +00:00",
			 tm.tm_year + 1900, tm.tm_mon + 1, tm.tm_mday, tm.tm_hour,
			 tm.tm_min, tm.tm_sec);
}
