/*-------------------------------------------------------------------------
 *
 * iterable_text.c
 *	  Texts that go to or come from Iterable's API: identifiers, paths, and
 *	  what of its messages may be shown.
 *
 * Copyright (c) 2026, the iterable_sync developers
 *-------------------------------------------------------------------------
 */
#include "iterable_api.h"

#include <arpa/inet.h>
#include <ctype.h>
#include <locale.h>
#include <wctype.h>

#include "mb/pg_wchar.h"

#define MAX_EMAIL_BYTES 254
#define MAX_LOCAL_CHARS 64
#define MAX_LABEL_BYTES 63
#define MAX_USER_ID_BYTES 52

/* Bytes of other than ASCII characters are not judged. */
#define IS_ALNUM(c) (isalnum((unsigned char) (c)) || IS_HIGHBIT_SET(c))
#define IS_ALPHA(c) (isalpha((unsigned char) (c)) || IS_HIGHBIT_SET(c))

/* ----------------------------------------------------------------
 * Identifiers
 *
 * Iterable checks e-mail addresses with the EmailValidator of Apache Commons.
 * Its rules are followed, except that its list of top-level domains is not
 * known here; what is refused here would be refused there.
 * ----------------------------------------------------------------
 */

static bool
valid_local_part(const char *p, const char *end)
{
	int			chars = 0;

	/* characters, not bytes: count all but the continuation bytes of UTF-8 */
	for (const char *c = p; c < end; c++)
		chars += ((unsigned char) *c & 0xC0) != 0x80;
	if (chars == 0 || chars > MAX_LOCAL_CHARS)
		return false;

	/* words, quoted or not, with one dot between two of them */
	for (;;)
	{
		const char *word = p;

		if (p < end && *p == '"')
		{
			for (p++; p < end && *p != '"'; p++)
				if (*p == '\\' && p + 1 < end)
					p++;
			if (p == end)
				return false;
			p++;
		}
		else
			for (; p < end && *p != '.'; p++)
			{
				if (*p == '\\' && p + 1 < end)
					p++;
				else if (*p == ' ' || strchr("()<>@,;:\\\"[]", *p) != NULL)
					return false;
			}

		if (p == word)
			return false;
		if (p == end)
			return true;
		if (*p != '.')
			return false;
		p++;
	}
}

static bool
valid_address_literal(const char *domain, Size len)
{
	char		text[64];
	unsigned char address[sizeof(struct in6_addr)];

	if (len < 2 || len - 2 >= sizeof(text) || domain[len - 1] != ']')
		return false;
	memcpy(text, domain + 1, len - 2);
	text[len - 2] = '\0';
	return inet_pton(AF_INET, text, address) == 1 ||
		inet_pton(AF_INET6, text, address) == 1 ||
		(pg_strncasecmp(text, "IPv6:", 5) == 0 &&
		 inet_pton(AF_INET6, text + 5, address) == 1);
}

static bool
valid_domain(const char *domain)
{
	int			labels = 0;
	const char *label = domain;

	if (domain[0] == '[')
		return valid_address_literal(domain, strlen(domain));

	for (;;)
	{
		Size		len = strcspn(label, ".");

		if (len == 0 || len > MAX_LABEL_BYTES ||
			!IS_ALNUM(label[0]) || !IS_ALNUM(label[len - 1]))
			return false;
		for (Size i = 0; i < len; i++)
			if (!IS_ALNUM(label[i]) && label[i] != '-')
				return false;
		labels++;

		if (label[len] == '\0')
			return labels >= 2 && len >= 2 && IS_ALPHA(label[0]);
		label += len + 1;
	}
}

const char *
is_api_check_email(const char *email)
{
	const char *at;

	if (email[0] == '\0')
		return "the e-mail address is empty";
	if (strlen(email) > MAX_EMAIL_BYTES)
		return "the e-mail address is too long";

	for (const char *p = email; *p != '\0'; p++)
		if ((unsigned char) *p < ' ' || *p == 0x7f)
			return "the e-mail address contains a control character";
	if (email[0] == ' ' || email[strlen(email) - 1] == ' ')
		return "the e-mail address begins or ends with a blank";

	at = strrchr(email, '@');
	if (at == NULL)
		return "the e-mail address has no @";
	if (!valid_local_part(email, at))
		return "the part of the e-mail address before the @ is malformed";
	if (!valid_domain(at + 1))
		return "the domain of the e-mail address is malformed";
	return NULL;
}

const char *
is_api_check_user_id(const char *user_id)
{
	Size		len = strlen(user_id);

	if (len == 0)
		return "the user id is empty";
	if (len > MAX_USER_ID_BYTES)
		return "the user id is longer than 52 characters";
	for (Size i = 0; i < len; i++)
		if ((unsigned char) user_id[i] < ' ' || (unsigned char) user_id[i] > '~')
			return "the user id contains a character that is not printable ASCII";
	if (user_id[len - 1] == ' ')
		return "the user id ends with a blank";
	return NULL;
}

/*
 * What is sent is UTF-8, whatever the locale of the database is.  Without that
 * locale only ASCII is folded: then rows whose addresses come back in another
 * case count as unaccounted, and never as accepted.
 */
static char *
fold_utf8(const char *text)
{
	static locale_t utf8 = (locale_t) 0;
	Size		left = strlen(text);
	char	   *folded = palloc(2 * left + 1);
	char	   *to = folded;

	if (utf8 == (locale_t) 0)
		utf8 = newlocale(LC_CTYPE_MASK, "C.UTF-8", (locale_t) 0);
	while (left > 0)
	{
		const unsigned char *p = (const unsigned char *) text;
		int			len = pg_utf_mblen(p);

		if (utf8 != (locale_t) 0 && (Size) len <= left && pg_utf8_islegal(p, len))
		{
			unicode_to_utf8((pg_wchar) towlower_l((wint_t) utf8_to_unicode(p), utf8),
							(unsigned char *) to);
			to += pg_utf_mblen((unsigned char *) to);
		}
		else
		{
			len = 1;
			*to++ = pg_ascii_tolower(*p);
		}
		text += len;
		left -= len;
	}
	*to = '\0';
	return folded;
}

char *
is_api_fold_email(const char *email)
{
	char	   *folded = pstrdup(email);

	for (char *p = folded; *p != '\0'; p++)
	{
		if (IS_HIGHBIT_SET(*p))
		{
			pfree(folded);
			return fold_utf8(email);
		}
		*p = pg_ascii_tolower(*p);
	}
	return folded;
}

/* ----------------------------------------------------------------
 * Paths
 * ----------------------------------------------------------------
 */

static void
append_encoded(StringInfo path, const char *text)
{
	/* "." and ".." would be taken as steps in the path */
	bool		only_dots = strspn(text, ".") == strlen(text);

	for (const char *p = text; *p != '\0'; p++)
	{
		unsigned char c = (unsigned char) *p;

		if ((c < 0x80 && isalnum(c)) || c == '-' || c == '_' || c == '~' ||
			(c == '.' && !only_dots))
			appendStringInfoChar(path, (char) c);
		else
			appendStringInfo(path, "%%%02X", c);
	}
}

static void
append_identifier(StringInfo path, const char *email, const char *user_id)
{
	Assert((email == NULL) != (user_id == NULL));

	if (user_id != NULL)
		appendStringInfoString(path, "byUserId/");
	append_encoded(path, user_id != NULL ? user_id : email);
}

char *
is_api_user_path(const char *email, const char *user_id)
{
	StringInfoData path;

	initStringInfo(&path);
	appendStringInfoString(&path, "/api/users/");
	append_identifier(&path, email, user_id);
	return path.data;
}

char *
is_api_events_path(const char *email, const char *user_id, int max_events)
{
	StringInfoData path;

	initStringInfo(&path);
	appendStringInfoString(&path, "/api/events/");
	append_identifier(&path, email, user_id);
	appendStringInfo(&path, "?limit=%d", Max(1, Min(max_events, 200)));
	return path.data;
}

/* ----------------------------------------------------------------
 * Redaction
 *
 * Iterable's messages repeat what was sent: "Invalid email: x", "userId 42",
 * and for a malformed body the body and the headers with the key.  So words
 * are let through one by one, and what may be a value, or is one of a row that
 * was sent, becomes "...".
 * ----------------------------------------------------------------
 */

#define MAX_REDACTED 200
#define MAX_WORD 40

/* From here on, a message is an echo of the request. */
static const char *const echoes[] = {
	"api-key", "api_key", "apikey", "authorization", "cookie", "header", "body:",
};

/* After a word of which this is the last part, a value may follow ... */
static const char *const value_follows[] = {
	"email", "emails", "userid", "userids", "user", "users", "id", "ids",
	"name", "names", "value", "values", "key", "address", "phone", "token",
};

/* ... unless it is one of these. */
static const char *const no_values[] = {
	"a", "already", "and", "are", "be", "been", "but", "by", "call", "can",
	"cannot", "does", "error", "exist", "exists", "expected", "field",
	"fields", "for", "from", "has", "have", "in", "invalid", "is", "list",
	"may", "missing", "must", "no", "not", "of", "on", "or", "required",
	"should", "specified", "than", "that", "the", "this", "to", "too",
	"unknown", "was", "were", "with", "without",
};

/* Is the last part of a word, as in newEmail or obj.email, this one? */
static bool
ends_with(const char *word, Size len, const char *end)
{
	Size		end_len = strlen(end);
	const char *last;

	if (len < end_len)
		return false;
	last = word + len - end_len;
	return pg_strncasecmp(last, end, end_len) == 0 &&
		(last == word || isupper((unsigned char) last[0]) ||
		 !isalnum((unsigned char) last[-1]));
}

static bool
is_one_of(const char *word, Size len, const char *const *words, int n)
{
	for (int i = 0; i < n; i++)
		if (strlen(words[i]) == len && pg_strncasecmp(word, words[i], len) == 0)
			return true;
	return false;
}

static bool
may_precede_value(const char *word, Size len)
{
	for (Size i = 0; i < lengthof(value_follows); i++)
		if (ends_with(word, len, value_follows[i]))
			return true;
	return false;
}

/* Can this word stand in the message, whatever stands before it? */
static bool
is_harmless(const char *word, Size len)
{
	int			digits = 0;
	int			letters = 0;

	if (len > MAX_WORD)
		return false;
	for (Size i = 0; i < len; i++)
	{
		if (isdigit((unsigned char) word[i]))
			digits++;
		else if (isalpha((unsigned char) word[i]) && !IS_HIGHBIT_SET(word[i]))
			letters++;
		else if (strchr("._-/'", word[i]) == NULL)
			return false;
	}
	/* numbers of some length, and mixtures, may be ids or keys */
	return digits <= 6 && !(digits >= 3 && letters >= 3);
}

/* Is the text that ends here, in JSON, of a value, and not of a member's name? */
static bool
ends_in_value(const char *p, const char *end)
{
	for (; p < end && *p != '"'; p++)
		if (*p == '\\')
			p++;
	return p + 1 >= end || p[1] != ':';
}

/* Does a value that was sent contain this word? */
static bool
is_echo(const char *word, Size len, const IsApiRow *rows, int nrows)
{
	if (len < 2 || is_one_of(word, len, no_values, lengthof(no_values)))
		return false;
	for (int i = 0; i < nrows; i++)
	{
		const char *p = rows[i].payload;
		const char *end = p ? p + rows[i].payload_len : NULL;

		while (p && (p = memmem(p, end - p, word, len)) != NULL)
		{
			if (p > rows[i].payload && !isalnum((unsigned char) p[-1]) &&
				(p + len == end || !isalnum((unsigned char) p[len])) &&
				ends_in_value(p + len, end))
				return true;
			p += len;
		}
	}
	return false;
}

/* Where the echo of a request begins, or the end of the first line. */
static const char *
end_of_words(const char *text)
{
	const char *end = text + strcspn(text, "\r\n<{\\");

	for (const char *p = text; p < end; p++)
		for (Size i = 0; i < lengthof(echoes); i++)
			if (pg_strncasecmp(p, echoes[i], strlen(echoes[i])) == 0)
				return p;
	return end;
}

/* If p begins something quoted or in brackets, where that ends; else NULL. */
static const char *
end_of_quotation(const char *p, const char *text, const char *end)
{
	char		close;
	const char *q;

	switch (*p)
	{
		case '"':
		case '`':
			close = *p;
			break;
		case '\'':
			/* an apostrophe stands within a word */
			if (p > text && isalnum((unsigned char) p[-1]))
				return NULL;
			close = '\'';
			break;
		case '(':
			close = ')';
			break;
		case '[':
			close = ']';
			break;
		default:
			return NULL;
	}

	for (q = p + 1; q < end; q++)
	{
		/* the quotation itself may contain an apostrophe */
		if (*q == close &&
			(close != '\'' || q + 1 == end || !isalnum((unsigned char) q[1])))
			return q + 1;
	}
	return end;
}

void
is_api_redact(const char *text, const IsApiRow *rows, int nrows, char *to, Size to_size)
{
	const char *end = end_of_words(text);
	const char *p = text;
	Size		room = Min(to_size, MAX_REDACTED + 1);
	Size		used = 0;
	bool		value_next = false;
	bool		hidden = false;	/* the last word became "..." */

	while (p < end)
	{
		const char *quotation_end = end_of_quotation(p, text, end);
		const char *word = p;
		Size		len;
		bool		show;

		if (isspace((unsigned char) *p))
		{
			p++;
			continue;
		}

		if (quotation_end != NULL)
		{
			show = false;
			p = quotation_end;
			if (p < end && strchr(".,:;", *p) != NULL)
				p++;
			len = 0;
		}
		else
		{
			/* "email:x", "email=x" and "email(x)" are two words each */
			do
				p++;
			while (p < end && !isspace((unsigned char) *p) &&
				   strchr("\"`([", *p) == NULL && p[-1] != ':' && p[-1] != '=');
			len = p - word;
			while (len > 0 && strchr(".,:;=!?", word[len - 1]) != NULL)
				len--;
			show = is_harmless(word, len) &&
				!(value_next && !is_one_of(word, len, no_values, lengthof(no_values))) &&
				!is_echo(word, len, rows, nrows);
		}

		if (show)
		{
			if (used + (p - word) + 2 > room)
				break;
			if (used > 0)
				to[used++] = ' ';
			memcpy(to + used, word, p - word);
			used += p - word;
		}
		else if (!hidden)
		{
			if (used + 5 > room)
				break;
			if (used > 0)
				to[used++] = ' ';
			memcpy(to + used, "...", 3);
			used += 3;
		}
		hidden = !show;

		/* a value may have several words */
		value_next = show ? may_precede_value(word, len) :
			value_next && quotation_end == NULL;
		/* "email:" is followed by nothing but the value, blanks and all */
		if (value_next && (p[-1] == ':' || p[-1] == '='))
			break;
	}
	to[used] = '\0';
}
