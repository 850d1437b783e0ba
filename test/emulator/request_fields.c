/*
 * request_fields.c
 *		What the fields of a request mean for its answer.
 */
#include "request_fields.h"

#include "project.h"

#define PROJECT_NUMBER 1

static void
answer_mismatch(const FieldCheck *check, Answer *answer)
{
	Buffer		msg = {0};
	Buffer		params = {0};

	buffer_printf(&msg, "Project %d: The request does not have the same data "
				  "types as the data previously submitted. %s",
				  PROJECT_NUMBER, check->mismatch_text.data);
	buffer_printf(&params, "{\"validationErrors\":{%s}}",
				  check->mismatches.data);
	answer_envelope(answer, 400, "RequestFieldsTypesMismatched", msg.data,
					params.data);
	buffer_free(&params);
	buffer_free(&msg);
}

static void
answer_limit(const FieldCheck *check, int limit, size_t total, Answer *answer)
{
	Buffer		names = {0};
	Buffer		msg = {0};
	Buffer		params = {0};

	fields_created_list(check, &names);
	buffer_printf(&msg, "Project %d: The request would increase the number of "
				  "object fields to %zu by adding [%s], which exceeds the limit "
				  "of %d", PROJECT_NUMBER, total, names.data, limit);
	buffer_printf(&params, "{\"limit\":%d,\"requestedTotal\":%zu,"
				  "\"newFields\":[%s]}", limit, total, names.data);
	answer_envelope(answer, 400, "UniqueFieldsLimitExceeded", msg.data,
					params.data);
	buffer_free(&params);
	buffer_free(&msg);
	buffer_free(&names);
}

bool
request_fields_refuse(FieldCheck *check, int limit, Answer *answer)
{
	size_t		total;

	if (check->mismatches.len > 0 &&
		(check->is_event || !settings.mismatch_per_row))
		answer_mismatch(check, answer);
	else if (fields_over_limit(check, (size_t) limit, &total))
		answer_limit(check, limit, total, answer);
	else
		return false;
	fields_roll_back(check);
	return true;
}

void
request_fields_write(const FieldCheck *check, Buffer *out)
{
	buffer_text(out, "\"createdFields\":[");
	fields_created_list(check, out);
	buffer_text(out, "],\"filteredOutFields\":[");
	buffer_append(out, check->filtered_list.data, check->filtered_list.len);
	buffer_text(out, "]");
}
