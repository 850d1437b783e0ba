/*
 * records.c
 *		What was asked of the API, and how often.
 */
#include "records.h"

#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "project.h"

#define MOST_RECORDS 100000
#define MOST_BODY_BYTES ((size_t) 64 << 20)
#define MOST_STATUS 600

typedef struct Record
{
	uint64_t	n;
	RouteId		route;
	double		at;
	double		ms;
	char	   *method;
	char	   *path;
	char	   *content_type;
	const char *action;
	Buffer		body;
	size_t		bytes;
	size_t		rows;
	size_t		accepted;
	int			status;			/* 0: no answer (yet) */
	bool		has_body;
	bool		is_done;
} Record;

typedef struct RouteStats
{
	size_t		count;
	size_t		rows;
	size_t		accepted;
	size_t		unanswered;
	size_t		status[MOST_STATUS];
} RouteStats;

static Record *records;			/* a ring, by n */
static RouteStats stats[ROUTE_COUNT];
static uint64_t last_n;
static uint64_t first_n = 1;	/* after a reset, counting goes on */
static uint64_t reset_n;		/* but from here on, to the outside */
static uint64_t first_body_n = 1;
static size_t body_bytes;
static size_t in_flight;
static size_t most_in_flight;

static Record *
record_at(uint64_t n)
{
	return &records[n % MOST_RECORDS];
}

static void
clear_record(Record *record)
{
	body_bytes -= record->body.len;
	buffer_free(&record->body);
	free(record->method);
	free(record->path);
	free(record->content_type);
	memset(record, 0, sizeof(*record));
}

uint64_t
record_begin(RouteId route, const char *method, const char *path,
			 const char *content_type)
{
	struct timespec now;
	Record	   *record;

	if (records == NULL)
		records = xcalloc(MOST_RECORDS, sizeof(Record));
	record = record_at(++last_n);
	clear_record(record);
	if (last_n - first_n >= MOST_RECORDS)
		first_n = last_n - MOST_RECORDS + 1;
	clock_gettime(CLOCK_REALTIME, &now);
	record->n = last_n;
	record->route = route;
	record->at = (double) now.tv_sec + (double) now.tv_nsec / 1e9;
	record->method = xstrdup(method);
	record->path = xstrdup(path);
	json_repair_utf8(record->path, strlen(record->path));
	record->content_type = content_type != NULL ? xstrdup(content_type) : NULL;
	if (content_type != NULL)
		json_repair_utf8(record->content_type, strlen(content_type));
	stats[route].count++;
	if (++in_flight > most_in_flight)
		most_in_flight = in_flight;
	return last_n;
}

static void
keep_body(Record *record, Buffer *body)
{
	record->body = *body;
	record->has_body = true;
	memset(body, 0, sizeof(*body));
	body_bytes += record->body.len;
	if (first_body_n < first_n)
		first_body_n = first_n;
	for (; body_bytes > MOST_BODY_BYTES && first_body_n < record->n; first_body_n++)
	{
		Record	   *oldest = record_at(first_body_n);

		body_bytes -= oldest->body.len;
		buffer_free(&oldest->body);
		oldest->has_body = false;
	}
}

void
record_end(uint64_t n, int status, const Answer *answer, double ms,
		   size_t bytes, const char *action, Buffer *body)
{
	Record	   *record;
	RouteStats *of_route;

	/* a request from before a reset is not counted any more */
	if (n <= reset_n)
		return;
	in_flight--;
	if (n < first_n)
		return;
	record = record_at(n);
	record->status = status;
	record->rows = answer->rows;
	record->accepted = answer->accepted;
	record->ms = ms;
	record->bytes = bytes;
	record->action = action;
	record->is_done = true;
	of_route = &stats[record->route];
	of_route->rows += answer->rows;
	of_route->accepted += answer->accepted;
	if (status > 0 && status < MOST_STATUS)
		of_route->status[status]++;
	else
		of_route->unanswered++;
	if (settings.record_bodies)
		keep_body(record, body);
}

static void
write_body(Buffer *out, const Buffer *body)
{
	if (json_text_is_utf8(body->data, body->len))
		buffer_json_escaped(out, body->data != NULL ? body->data : "", body->len);
	else
		/* byte by byte as Latin-1, so that the line stays JSON */
		for (size_t i = 0; i < body->len; i++)
		{
			unsigned char c = (unsigned char) body->data[i];

			if (c < 0x80)
				buffer_json_escaped(out, body->data + i, 1);
			else
				buffer_printf(out, "\\u%04x", c);
		}
}

void
records_write(uint64_t since, Buffer *out)
{
	for (uint64_t n = first_n; n <= last_n; n++)
	{
		Record	   *record = record_at(n);

		if (n - reset_n <= since)
			continue;
		buffer_printf(out, "{\"n\":%llu,\"at\":%.6f,\"method\":\"%s\",\"path\":",
					  (unsigned long long) (n - reset_n), record->at,
					  record->method);
		buffer_json_string(out, record->path);
		if (record->status > 0)
			buffer_printf(out, ",\"status\":%d", record->status);
		else
			buffer_text(out, ",\"status\":null");
		buffer_printf(out, ",\"done\":%s,\"rows\":%zu,\"accepted\":%zu,"
					  "\"bytes\":%zu,\"ms\":%.3f,\"contentType\":",
					  record->is_done ? "true" : "false", record->rows,
					  record->accepted, record->bytes, record->ms);
		buffer_json_string(out, record->content_type);
		if (record->action != NULL)
			buffer_printf(out, ",\"action\":\"%s\"", record->action);
		if (record->has_body)
		{
			buffer_text(out, ",\"body\":\"");
			write_body(out, &record->body);
			buffer_char(out, '"');
		}
		buffer_text(out, "}\n");
	}
}

static void
write_route(Buffer *out, int route)
{
	const RouteStats *of_route = &stats[route];
	bool		is_first = true;

	buffer_printf(out, "\"count\":%zu,\"rows\":%zu,\"accepted\":%zu,"
				  "\"unanswered\":%zu,\"status\":{", of_route->count,
				  of_route->rows, of_route->accepted, of_route->unanswered);
	for (int status = 0; status < MOST_STATUS; status++)
		if (of_route->status[status] > 0)
		{
			buffer_printf(out, "%s\"%d\":%zu", is_first ? "" : ",", status,
						  of_route->status[status]);
			is_first = false;
		}
	buffer_char(out, '}');
}

void
records_write_stats(Buffer *out)
{
	bool		is_first = true;

	buffer_text(out, "\"requests\":{");
	for (int route = 0; route < ROUTE_COUNT; route++)
	{
		if (stats[route].count == 0)
			continue;
		/* one path may have several methods; POST goes without saying */
		buffer_printf(out, "%s\"%s%s\":{", is_first ? "" : ",",
					  strcmp(routes[route].method, "DELETE") == 0 ? "DELETE " : "",
					  routes[route].path);
		write_route(out, route);
		buffer_char(out, '}');
		is_first = false;
	}
	buffer_printf(out, "},\"inFlight\":%zu,\"maxInFlight\":%zu", in_flight,
				  most_in_flight);
}

void
records_reset(void)
{
	for (size_t i = 0; records != NULL && i < MOST_RECORDS; i++)
		clear_record(&records[i]);
	memset(stats, 0, sizeof(stats));
	free(records);
	records = NULL;
	reset_n = last_n;
	first_n = last_n + 1;
	first_body_n = first_n;
	in_flight = 0;
	most_in_flight = 0;
}
