/*-------------------------------------------------------------------------
 *
 * http_transfer.c
 *	  One HTTP request and its answer.
 *
 * libcurl calls back from its own frames, over which an error must never
 * jump: the callbacks here neither palloc nor ereport, but set flags.
 *
 * Copyright (c) 2026, the iterable_sync developers
 *-------------------------------------------------------------------------
 */
#include "http_transfer.h"

#include <ctype.h>

#include "clock.h"

/* CURLOPT_QUICK_EXIT: without it a hanging resolver would block a cancel. */
#if LIBCURL_VERSION_NUM < 0x075700
#error "iterable_sync needs libcurl 7.87 or later"
#endif

#define DEFAULT_MAX_ANSWER ((Size) 8 * 1024 * 1024)
#define FIRST_BODY_SIZE 4096
#define MAX_HEADER_BYTES ((Size) 64 * 1024)
#define MAX_RETRY_AFTER_MS (3600 * 1000)
#define UPLOAD_BUFFER (256L * 1024)

/*
 * Iterable gives up on a request after about a minute by itself, so silence of
 * this length means a broken connection, whatever the timeout is.
 */
#define MAX_SILENCE_S 60L

/* ----------------------------------------------------------------
 * Callbacks of libcurl
 * ----------------------------------------------------------------
 */

/*
 * Called when a connection is there, TLS included, and just before anything
 * of the request is written to it; also before libcurl's own second try on a
 * kept connection that turned out to be dead.
 */
static int
on_connected(void *arg, char *remote_ip, char *local_ip, int remote_port,
			 int local_port)
{
	IsTransfer *t = arg;

	t->begun = true;
	t->left_at = is_clock_us();
	return CURL_PREREQFUNC_OK;
}

static size_t
on_body(char *data, size_t size, size_t n, void *arg)
{
	IsTransfer *t = arg;
	IsHttpAnswer *answer = &t->answer;
	Size		len = size * n;

	if (len > t->max_answer - answer->body_len)
	{
		t->too_large = true;
		return 0;
	}

	if (answer->body_len + len >= t->body_size)
	{
		Size		larger_size = Max(2 * t->body_size, answer->body_len + len + 1);
		char	   *larger = realloc(answer->body, larger_size);

		if (larger == NULL)
		{
			t->no_memory = true;
			return 0;
		}
		answer->body = larger;
		t->body_size = larger_size;
	}

	memcpy(answer->body + answer->body_len, data, len);
	answer->body_len += len;
	return len;
}

/* If the line is this header, copy its trimmed value. */
static bool
header_value(const char *line, Size len, const char *name,
			 char *value, Size value_size)
{
	Size		name_len = strlen(name);

	if (len <= name_len || line[name_len] != ':' ||
		pg_strncasecmp(line, name, name_len) != 0)
		return false;

	line += name_len + 1;
	len -= name_len + 1;
	while (len > 0 && isspace((unsigned char) line[0]))
	{
		line++;
		len--;
	}
	while (len > 0 && isspace((unsigned char) line[len - 1]))
		len--;

	len = Min(len, value_size - 1);
	memcpy(value, line, len);
	value[len] = '\0';
	return true;
}

static size_t
on_header(char *data, size_t size, size_t n, void *arg)
{
	IsTransfer *t = arg;
	IsHttpAnswer *answer = &t->answer;
	Size		len = size * n;
	char		value[64];

	t->header_bytes += len;
	if (t->header_bytes > MAX_HEADER_BYTES)
	{
		t->too_large = true;
		return 0;
	}

	/* A status line: what stood in the headers before was an interim answer. */
	if (len > 5 && strncmp(data, "HTTP/", 5) == 0)
	{
		answer->request_id[0] = '\0';
		answer->retry_after_ms = -1;
		t->date = t->retry_at = -1;
	}
	else if (header_value(data, len, "Iterable-Request-Id", value, sizeof(value)))
	{
		char	   *to = answer->request_id;

		for (const char *p = value; *p != '\0'; p++)
			if (isalnum((unsigned char) *p) || *p == '-' || *p == '_')
				*to++ = *p;
		*to = '\0';
	}
	else if (header_value(data, len, "Retry-After", value, sizeof(value)))
	{
		if (strspn(value, "0123456789") == strlen(value) && value[0] != '\0')
			answer->retry_after_ms =
				strlen(value) > 4 ? MAX_RETRY_AFTER_MS
				: Min(atoi(value) * 1000, MAX_RETRY_AFTER_MS);
		else
			t->retry_at = curl_getdate(value, NULL);
	}
	else if (header_value(data, len, "Date", value, sizeof(value)))
		t->date = curl_getdate(value, NULL);

	return len;
}

/* ----------------------------------------------------------------
 * Asking
 * ----------------------------------------------------------------
 */

/* Refuse what must not be asked.  Messages do not repeat the URL's query. */
void
is_transfer_check(const IsHttpRequest *request)
{
	CURLU	   *url = curl_url();
	char	   *scheme = NULL;
	char	   *user = NULL;
	char	   *password = NULL;
	bool		valid;
	bool		secure;
	bool		plain;
	bool		credentials;

	if (url == NULL)
		ereport(ERROR,
				(errcode(ERRCODE_OUT_OF_MEMORY),
				 errmsg("out of memory")));
	valid = curl_url_set(url, CURLUPART_URL, request->url,
						 CURLU_NON_SUPPORT_SCHEME) == CURLUE_OK &&
		curl_url_get(url, CURLUPART_SCHEME, &scheme, 0) == CURLUE_OK;
	secure = valid && strcmp(scheme, "https") == 0;
	plain = valid && strcmp(scheme, "http") == 0;
	credentials = valid &&
		(curl_url_get(url, CURLUPART_USER, &user, 0) == CURLUE_OK ||
		 curl_url_get(url, CURLUPART_PASSWORD, &password, 0) == CURLUE_OK);
	curl_free(scheme);
	curl_free(user);
	curl_free(password);
	curl_url_cleanup(url);

	if (!valid)
		ereport(ERROR,
				(errcode(ERRCODE_FDW_ERROR),
				 errmsg("invalid URL of a connection"),
				 errhint("Set the option base_url of the connection.")));
	if (!secure && !(plain && request->allow_http))
		ereport(ERROR,
				(errcode(ERRCODE_FDW_ERROR),
				 errmsg("URL of a connection is not https")));
	if (credentials)
		ereport(ERROR,
				(errcode(ERRCODE_FDW_ERROR),
				 errmsg("URL of a connection must not contain a user name or a password")));

	for (const char *p = request->api_key; p != NULL && *p != '\0'; p++)
		if ((unsigned char) *p <= ' ' || *p == 0x7f)
			ereport(ERROR,
					(errcode(ERRCODE_FDW_ERROR),
					 errmsg("API key contains a blank or a control character")));
}

static bool
add_header(IsTransfer *t, const char *header)
{
	struct curl_slist *headers = curl_slist_append(t->headers, header);

	if (headers == NULL)
		return false;
	t->headers = headers;
	return true;
}

static bool
add_key_header(IsTransfer *t, const char *api_key)
{
	Size		size;
	char	   *header;
	bool		added;

	if (api_key == NULL)
		return true;

	size = strlen(api_key) + sizeof("Api-Key: ");
	header = malloc(size);
	if (header == NULL)
		return false;
	snprintf(header, size, "Api-Key: %s", api_key);
	added = add_header(t, header);
	explicit_bzero(header, size);
	free(header);
	return added;
}

/* Set up a transfer's handle; false if libcurl refuses (memory). */
static bool
set_options(IsTransfer *t, const IsHttpRequest *request)
{
	CURL	   *easy = t->easy;
	CURLcode	rc = CURLE_OK;

#define SET(option, value) \
	do { \
		if (rc == CURLE_OK) \
			rc = curl_easy_setopt(easy, option, value); \
	} while (0)

	SET(CURLOPT_URL, request->url);
	SET(CURLOPT_PRIVATE, t);
	SET(CURLOPT_ERRORBUFFER, t->error);

	/* Where it may go. */
	SET(CURLOPT_PROTOCOLS_STR, request->allow_http ? "http,https" : "https");
	SET(CURLOPT_FOLLOWLOCATION, 0L);
	SET(CURLOPT_MAXREDIRS, 0L);
	SET(CURLOPT_PROXY, "");
	SET(CURLOPT_NETRC, (long) CURL_NETRC_IGNORED);
	SET(CURLOPT_SSL_VERIFYPEER, 1L);
	SET(CURLOPT_SSL_VERIFYHOST, 2L);
	SET(CURLOPT_SSLVERSION, (long) CURL_SSLVERSION_TLSv1_2);

	SET(CURLOPT_HTTP_VERSION, (long) CURL_HTTP_VERSION_2TLS);
	SET(CURLOPT_TCP_NODELAY, 1L);

	/* How long it may take. */
	SET(CURLOPT_NOSIGNAL, 1L);
	SET(CURLOPT_QUICK_EXIT, 1L);
	SET(CURLOPT_CONNECTTIMEOUT_MS, (long) request->connect_timeout_ms);
	SET(CURLOPT_TIMEOUT_MS, (long) request->timeout_ms);
	SET(CURLOPT_LOW_SPEED_LIMIT, 1L);
	SET(CURLOPT_LOW_SPEED_TIME, MAX_SILENCE_S);

	/* What is asked. */
	SET(CURLOPT_USERAGENT, "iterable_sync/" IS_VERSION);
	SET(CURLOPT_HTTPHEADER, t->headers);
	if (request->body != NULL)
	{
		SET(CURLOPT_POST, 1L);
		SET(CURLOPT_POSTFIELDSIZE_LARGE, (curl_off_t) request->body_len);
		SET(CURLOPT_POSTFIELDS, request->body);
		SET(CURLOPT_UPLOAD_BUFFERSIZE, UPLOAD_BUFFER);
	}
	else
		SET(CURLOPT_HTTPGET, 1L);

	/* What comes back. */
	SET(CURLOPT_PREREQFUNCTION, on_connected);
	SET(CURLOPT_PREREQDATA, t);
	SET(CURLOPT_WRITEFUNCTION, on_body);
	SET(CURLOPT_WRITEDATA, t);
	SET(CURLOPT_HEADERFUNCTION, on_header);
	SET(CURLOPT_HEADERDATA, t);
#undef SET

	return rc == CURLE_OK;
}

void
is_transfer_free(IsTransfer *t)
{
	for (struct curl_slist *h = t->headers; h != NULL; h = h->next)
		explicit_bzero(h->data, strlen(h->data));
	curl_slist_free_all(t->headers);
	free(t->answer.body);
	free(t);
}

IsTransfer *
is_transfer_create(CURL *easy, const IsHttpRequest *request)
{
	IsTransfer *t = calloc(1, sizeof(IsTransfer));

	if (t == NULL)
		return NULL;

	t->easy = easy;
	t->answer.owner = request->owner;
	t->on_left = request->on_left;
	t->answer.retry_after_ms = -1;
	t->date = t->retry_at = -1;
	t->max_answer = request->max_answer > 0 ? request->max_answer : DEFAULT_MAX_ANSWER;
	t->body_size = FIRST_BODY_SIZE;
	t->answer.body = malloc(t->body_size);

	if (t->answer.body == NULL ||
		!add_key_header(t, request->api_key) ||
		!add_header(t, "Accept: application/json") ||
		(request->body != NULL &&
		 !add_header(t, "Content-Type: application/json")) ||
		/* else libcurl would wait a second for "100 Continue" */
		!add_header(t, "Expect:") ||
		!set_options(t, request))
	{
		is_transfer_free(t);
		return NULL;
	}
	return t;
}

/* ----------------------------------------------------------------
 * Answering
 * ----------------------------------------------------------------
 */

/*
 * Say why there is no answer.  libcurl's own words about the time after the
 * request began may repeat what the server sent, so only those that hold
 * nothing but numbers are used.
 */
static void
describe_error(IsTransfer *t, CURLcode rc)
{
	IsHttpAnswer *answer = &t->answer;
	const char *words = curl_easy_strerror(rc);

	if (t->no_memory)
		words = "out of memory";
	else if (t->too_large)
		words = "the answer is too large";
	else if (t->error[0] != '\0' &&
			 (!t->begun || rc == CURLE_OPERATION_TIMEDOUT))
		words = t->error;

	strlcpy(answer->error, words, sizeof(answer->error));
	answer->error[strcspn(answer->error, "\r\n")] = '\0';
}

void
is_transfer_finish(IsTransfer *t, CURLcode rc)
{
	IsHttpAnswer *answer = &t->answer;
	curl_off_t	elapsed = 0;
	long		status = 0;

	curl_easy_getinfo(t->easy, CURLINFO_TOTAL_TIME_T, &elapsed);
	answer->elapsed_us = elapsed;

	if (rc == CURLE_OK)
		curl_easy_getinfo(t->easy, CURLINFO_RESPONSE_CODE, &status);

	if (rc == CURLE_OK && status > 0)
	{
		answer->outcome = IS_HTTP_ANSWERED;
		answer->status = (int) status;
		answer->body[answer->body_len] = '\0';

		if (t->retry_at != -1)
		{
			/* By the server's clock if it shows it, since ours may differ. */
			time_t		now = t->date != -1 ? t->date : time(NULL);
			int64		ms = (int64) difftime(t->retry_at, now) * 1000;

			answer->retry_after_ms = (int) Max(0, Min(ms, MAX_RETRY_AFTER_MS));
		}
	}
	else
	{
		answer->outcome = t->begun ? IS_HTTP_UNKNOWN : IS_HTTP_NOT_SENT;
		answer->body_len = 0;
		answer->body[0] = '\0';
		answer->request_id[0] = '\0';
		answer->retry_after_ms = -1;
		describe_error(t, rc);
	}
}
