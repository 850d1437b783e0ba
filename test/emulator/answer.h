/*
 * answer.h
 *		The envelope that most answers have, and the lists of failed rows.
 */
#ifndef EMULATOR_ANSWER_H
#define EMULATOR_ANSWER_H

#include "api.h"

typedef enum FailureList
{
	INVALID_EMAILS,
	INVALID_USER_IDS,
	NOT_FOUND_EMAILS,
	NOT_FOUND_USER_IDS,
	FORGOTTEN_EMAILS,
	FORGOTTEN_USER_IDS,
	EVENT_LISTS,				/* answers about events have those above only */
	INVALID_DATA_EMAILS = EVENT_LISTS,
	INVALID_DATA_USER_IDS,
	CONFLICT_EMAILS,
	CONFLICT_USER_IDS,
	USER_LISTS,
	UNLISTED = USER_LISTS,		/* failed, and no list says so */
	NO_FAILURE
} FailureList;

typedef struct Failures
{
	Buffer		lists[USER_LISTS];	/* as the members of JSON arrays */
	Buffer		old_emails;		/* the deprecated lists */
	Buffer		old_user_ids;
	size_t		count;
} Failures;

extern void answer_envelope(Answer *answer, int status, const char *code,
							const char *msg, const char *params);
extern void answer_success(Answer *answer);
extern void answer_text(Answer *answer, int status, const char *content_type,
						const char *text);

extern void list_add(Buffer *list, const char *value);
extern FailureList failure_list_by_name(const char *name);
extern void failures_add(Failures *failures, FailureList list,
						 const char *value);
/* ,"failedUpdates":{…} and the deprecated lists */
extern void failures_write(const Failures *failures, int lists, Buffer *out);
extern void failures_free(Failures *failures);

#endif							/* EMULATOR_ANSWER_H */
