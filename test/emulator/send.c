/*
 * send.c
 *		Sending the answer of a request, properly or with a scripted fault.
 */
#include "send.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>

#include "answer.h"
#include "limits.h"
#include "project.h"
#include "records.h"

static const char garbage[] = "<html>\n{\"successCount\":\xff\xfe,,,";

void
send_account(Request *request, int status)
{
	const char *action = request->step != NULL
		? action_name(request->step->action) : NULL;

	if (request->flights.flights != NULL)
	{
		pthread_mutex_lock(&project_lock);
		flights_leave(&request->flights);
		pthread_mutex_unlock(&project_lock);
	}
	if (request->record == 0)
		return;
	record_end(request->record, status, &request->answer,
			   (double) (clock_ns() - request->arrived) / 1e6,
			   request->received, action, &request->body);
	request->record = 0;
}

/* part of an answer that takes its time, or that is cut off */
static ssize_t
read_part(void *argument, uint64_t position, char *out, size_t room)
{
	Request    *request = argument;
	const Buffer *body = &request->answer.body;
	size_t		left = body->len - (size_t) position;

	if (request->step->action == ACTION_TRUNCATE)
	{
		size_t		half = body->len / 2;

		if (position >= half)
			return MHD_CONTENT_READER_END_WITH_ERROR;
		left = half - (size_t) position;
		if (left > room)
			left = room;
		memcpy(out, body->data + position, left);
		return (ssize_t) left;
	}
	if (request->state == REQUEST_DROPPED)
		return MHD_CONTENT_READER_END_WITH_ERROR;
	if (left == 0)
		return MHD_CONTENT_READER_END_OF_STREAM;
	if (clock_ns() < request->due)
	{
		http_wait_until(request, request->due);
		return 0;
	}
	out[0] = body->data[position];
	request->due = clock_ns() + request->step->delay_ms * NS_PER_MS;
	return 1;
}

static void
add_headers(const Request *request, struct MHD_Response *response)
{
	const Step *step = request->step;
	bool		has_type = false;
	char		text[64];

	for (size_t i = 0; step != NULL && i < step->header_count; i++)
	{
		const ScriptHeader *header = &step->headers[i];

		if (strcasecmp(header->name, "Content-Type") == 0)
			has_type = true;
		MHD_add_response_header(response, header->name, header->value);
	}
	if (!has_type)
		MHD_add_response_header(response, "Content-Type",
								request->answer.content_type);
	if (step != NULL && step->action == ACTION_CLOSE)
		MHD_add_response_header(response, "Connection", "close");
	if (request->is_control)
		return;
	MHD_add_response_header(response, "Server", "iterable-emulator");
	snprintf(text, sizeof(text), "%lld",
			 (long long) ((clock_ns() - request->arrived) / NS_PER_MS));
	MHD_add_response_header(response, "Request-Time", text);
	snprintf(text, sizeof(text), "00000000-0000-4000-8000-%012llx",
			 (unsigned long long) request->record);
	MHD_add_response_header(response, "Iterable-Request-Id", text);
}

/* what the script says instead of the right answer */
static void
apply_script(Request *request)
{
	const Step *step = request->step;
	Answer	   *answer = &request->answer;

	if (step->action == ACTION_GARBAGE)
		answer_text(answer, 200, "application/json", garbage);
	if (step->action != ACTION_ANSWER && step->action != ACTION_APPLY_THEN_ANSWER)
		return;
	if (step->action == ACTION_ANSWER)
		answer->status = 200;
	if (step->status != 0)
		answer->status = step->status;
	if (step->body != NULL || step->action == ACTION_ANSWER)
	{
		const char *body = step->body != NULL ? step->body : "";

		answer_text(answer, answer->status, body[0] == '{' || body[0] == '['
					? "application/json" : "text/plain; charset=utf-8", body);
	}
}

enum MHD_Result
send_answer(Request *request)
{
	Answer	   *answer = &request->answer;
	struct MHD_Response *response = request->response;
	Action		action = request->step != NULL
		? request->step->action : ACTION_APPLY;
	int			status;
	enum MHD_Result result;

	if (request->step != NULL)
		apply_script(request);
	status = answer->status != 0 ? answer->status : 200;
	request->state = REQUEST_SENDING;
	request->is_sending = true;

	if (response != NULL)
	{
		/* control has made it, a dump, and set its type */
		request->response = NULL;
	}
	else if (action == ACTION_SLOW || action == ACTION_TRUNCATE)
	{
		response = MHD_create_response_from_callback(answer->body.len, 4096,
													 read_part, request, NULL);
		add_headers(request, response);
	}
	else
	{
		response = MHD_create_response_from_buffer(answer->body.len,
												   answer->body.data,
												   MHD_RESPMEM_MUST_FREE);
		/* the response owns the text from now on */
		memset(&answer->body, 0, sizeof(answer->body));
		add_headers(request, response);
	}
	/* a slow answer is in flight until its last byte */
	if (action != ACTION_SLOW)
		send_account(request, status);
	else
		request->due = clock_ns();
	result = MHD_queue_response(request->connection, (unsigned) status, response);
	MHD_destroy_response(response);
	return result;
}
