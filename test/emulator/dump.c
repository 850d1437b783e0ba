/*
 * dump.c
 *		All users or all events as newline-delimited JSON, made while it is
 *		being sent: a million of them never are in memory as one text.
 */
#include <stdlib.h>
#include <string.h>

#include "control.h"
#include "project.h"

#define DUMP_BLOCK ((size_t) 256 * 1024)

typedef struct Dump
{
	bool		of_events;
	size_t		slot;
	size_t		taken;			/* bytes of the buffer already sent */
	Buffer		buffer;
} Dump;

static void
write_user(Buffer *out, const User *user)
{
	buffer_text(out, "{\"email\":");
	buffer_json_string(out, user->email);
	buffer_text(out, ",\"userId\":");
	buffer_json_string(out, user->user_id);
	buffer_text(out, ",\"dataFields\":");
	buffer_text(out, user->data != NULL ? user->data : "{}");
	buffer_printf(out, ",\"writes\":%u}\n", user->writes);
}

static void
write_event(Buffer *out, const Event *event)
{
	buffer_text(out, "{\"id\":");
	buffer_json_string(out, event->id);
	buffer_text(out, ",\"eventName\":");
	buffer_json_string(out, event->type->name);
	buffer_text(out, ",\"email\":");
	buffer_json_string(out, event->user->email);
	buffer_text(out, ",\"userId\":");
	buffer_json_string(out, event->user->user_id);
	buffer_printf(out, ",\"createdAt\":%lld", (long long) event->created_at);
	if (event->campaign_id != 0)
		buffer_printf(out, ",\"campaignId\":%lld", (long long) event->campaign_id);
	if (event->template_id != 0)
		buffer_printf(out, ",\"templateId\":%lld", (long long) event->template_id);
	buffer_text(out, ",\"dataFields\":");
	buffer_text(out, event->data);
	buffer_printf(out, ",\"writes\":%u}\n", event->writes);
}

/* writes more lines into the empty buffer; none at the end */
static void
fill(Dump *dump)
{
	size_t		slots;

	pthread_mutex_lock(&project_lock);
	slots = dump->of_events ? events_slots() : users_slots();
	while (dump->slot < slots && dump->buffer.len < DUMP_BLOCK)
	{
		size_t		slot = dump->slot++;

		if (dump->of_events)
		{
			if (event_at(slot) != NULL)
				write_event(&dump->buffer, event_at(slot));
		}
		else if (user_at(slot) != NULL)
			write_user(&dump->buffer, user_at(slot));
	}
	pthread_mutex_unlock(&project_lock);
}

static ssize_t
read_dump(void *argument, uint64_t position, char *out, size_t room)
{
	Dump	   *dump = argument;
	size_t		len;

	(void) position;
	if (dump->taken == dump->buffer.len)
	{
		buffer_clear(&dump->buffer);
		dump->taken = 0;
		fill(dump);
		if (dump->buffer.len == 0)
			return MHD_CONTENT_READER_END_OF_STREAM;
	}
	len = dump->buffer.len - dump->taken;
	if (len > room)
		len = room;
	memcpy(out, dump->buffer.data + dump->taken, len);
	dump->taken += len;
	return (ssize_t) len;
}

static void
free_dump(void *argument)
{
	Dump	   *dump = argument;

	buffer_free(&dump->buffer);
	free(dump);
}

static struct MHD_Response *
start_dump(bool of_events)
{
	Dump	   *dump = xcalloc(1, sizeof(Dump));
	struct MHD_Response *response;

	dump->of_events = of_events;
	response = MHD_create_response_from_callback(MHD_SIZE_UNKNOWN, DUMP_BLOCK,
												 read_dump, dump, free_dump);
	if (response == NULL)
		abort();
	MHD_add_response_header(response, MHD_HTTP_HEADER_CONTENT_TYPE,
							"application/x-ndjson");
	return response;
}

struct MHD_Response *
dump_users(void)
{
	return start_dump(false);
}

struct MHD_Response *
dump_events(void)
{
	return start_dump(true);
}
