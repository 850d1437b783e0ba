/*-------------------------------------------------------------------------
 *
 * iterable_meaning.c
 *	  What each list, code and status of Iterable's answers means.
 *
 * Copyright (c) 2026, the iterable_sync developers
 *-------------------------------------------------------------------------
 */
#include "iterable_meaning.h"

#define USERS (1 << IS_ENDPOINT_USERS_BULK_UPDATE)
#define EVENTS (1 << IS_ENDPOINT_EVENTS_TRACK_BULK)
#define LOOKUP (1 << IS_ENDPOINT_USER_LOOKUP)
#define BULK (USERS | EVENTS)
#define ANY (BULK | LOOKUP)

#define LIST(where, endpoints, name, match, which, counted, verdict, class, message, hint) \
	{IS_##where, endpoints, name, IS_BY_##match, IS_##which, counted, \
	 IS_VERDICT_##verdict, class, message, hint, 0, 0, IS_ANSWER_PER_ROW}
#define CODE(endpoints, name, from, to, kind, verdict, message, hint) \
	{IS_CODE, endpoints, name, IS_BY_NONE, IS_KEY_FIRST, true, \
	 IS_VERDICT_##verdict, name, message, hint, from, to, IS_ANSWER_##kind}
#define STATUS(endpoints, from, to, kind, verdict, class, message, hint) \
	{IS_STATUS, endpoints, NULL, IS_BY_NONE, IS_KEY_FIRST, true, \
	 IS_VERDICT_##verdict, class, message, hint, from, to, IS_ANSWER_##kind}

#define OURS(endpoints, class, message, hint) \
	{IS_OURS, endpoints, NULL, IS_BY_NONE, IS_KEY_FIRST, false, \
	 IS_VERDICT_REJECTED, class, message, hint, 0, 0, IS_ANSWER_PER_ROW}

/* counted in failCount for certain, or perhaps */
#define COUNTED true
#define PERHAPS false

#define FORGOTTEN "the user was forgotten in Iterable and must not be written again"
#define FORGOTTEN_HINT "Remove the user from the source, or unforget the user in Iterable."
#define NO_EMAIL "no user has this e-mail address at Iterable"
#define NO_USER_ID "no user has this user id at Iterable"
#define NO_USER_HINT "Compare the identifier, and the project_type of the connection, with the project."
#define EVENT_HINT "Events do not create users: sync the users first."
#define PREFER_HINT "A project based on e-mail addresses creates a user for an unknown user id only with preferUserId."
#define UPDATE_HINT "Only existing users are updated: create the user, or use the mode upsert."
#define BAD_DATA "Iterable refuses a value in dataFields"
#define BAD_DATA_HINT "Compare the types of the mapped fields with those in the project."
#define BAD_EMAIL "Iterable refuses the e-mail address as malformed"
#define BAD_EMAIL_HINT "Correct the e-mail address in the source."
#define BAD_USER_ID "Iterable refuses the user id as malformed"
#define BAD_USER_ID_HINT "Map a user id of at most 52 printable ASCII characters, without a blank at its end."
#define TAKEN_EMAIL "the e-mail address belongs to another user at Iterable"
#define TAKEN_USER_ID "the user id belongs to another user at Iterable"
#define TAKEN_HINT "Merge the two users in Iterable, or correct the identifier in the source."
#define NOT_ALLOWED "the API key is not accepted"
#define KEY_HINT "Set a valid server-side API key of this project and data center for the connection."
#define JWT_HINT "Use a server-side API key without JWT authentication for the connection."
#define RIGHTS_HINT "Give the API key of the connection the right to use this endpoint."
#define URL_HINT "Correct the option base_url of the connection."
#define RATE "the project's rate limit is exceeded"
#define RATE_HINT "Lower the rates of the connection if other programs use the same project."
#define SERVER_ERROR "Iterable had an error"
#define SERVER_HINT "It is tried again by itself; tell Iterable's support the request id if it stays."
#define ODD_HINT "Try it again with iterable_retry_failures(); check the option base_url of the connection."
#define TOO_LARGE "the request is too large for Iterable"
#define TOO_LARGE_HINT "Map less data: the row alone is too large."
#define MAPPING_HINT "Compare the mapping and the row with what Iterable expects."

/*
 * The first line that fits counts.  A code that decides over the status has a
 * wide range of statuses; the others only say more about a 4xx.
 */
static const IsMeaning meanings[] = {
	/* *INDENT-OFF* */

	/* lists in failedUpdates */
	LIST(IN_FAILED, BULK, "invalidEmails", EMAIL, KEY_AND_NEW, COUNTED, REJECTED,
		 "invalidEmails", BAD_EMAIL, BAD_EMAIL_HINT),
	LIST(IN_FAILED, BULK, "invalidUserIds", USER_ID, KEY_AND_NEW, COUNTED, REJECTED,
		 "invalidUserIds", BAD_USER_ID, BAD_USER_ID_HINT),
	LIST(IN_FAILED, BULK, "forgottenEmails", EMAIL, KEY_AND_NEW, COUNTED, REJECTED,
		 "forgottenEmails", FORGOTTEN, FORGOTTEN_HINT),
	LIST(IN_FAILED, BULK, "forgottenUserIds", USER_ID, KEY_AND_NEW, COUNTED, REJECTED,
		 "forgottenUserIds", FORGOTTEN, FORGOTTEN_HINT),
	LIST(IN_FAILED, EVENTS, "notFoundEmails", EMAIL, KEY_FIRST, COUNTED, LATER,
		 "notFoundEmails", NO_EMAIL, EVENT_HINT),
	LIST(IN_FAILED, EVENTS, "notFoundUserIds", USER_ID, KEY_FIRST, COUNTED, LATER,
		 "notFoundUserIds", NO_USER_ID, EVENT_HINT),
	LIST(IN_FAILED, USERS, "notFoundEmails", EMAIL, KEY_FIRST, COUNTED, REJECTED,
		 "notFoundEmails", NO_EMAIL, NO_USER_HINT),
	LIST(IN_FAILED, USERS, "notFoundUserIds", USER_ID, KEY_FIRST, COUNTED, REJECTED,
		 "notFoundUserIds", NO_USER_ID, PREFER_HINT),
	LIST(IN_FAILED, USERS, "invalidDataEmails", EMAIL, KEY_FIRST, COUNTED, REJECTED,
		 "invalidDataEmails", BAD_DATA, BAD_DATA_HINT),
	LIST(IN_FAILED, USERS, "invalidDataUserIds", USER_ID, KEY_FIRST, COUNTED, REJECTED,
		 "invalidDataUserIds", BAD_DATA, BAD_DATA_HINT),
	LIST(IN_FAILED, USERS, "conflictEmails", EMAIL, NEW_FIRST, COUNTED, REJECTED,
		 "conflictEmails", TAKEN_EMAIL, TAKEN_HINT),
	LIST(IN_FAILED, USERS, "conflictUserIds", USER_ID, NEW_FIRST, COUNTED, REJECTED,
		 "conflictUserIds", TAKEN_USER_ID, TAKEN_HINT),

	/* where these two stand is not documented */
	LIST(IN_FAILED, USERS, "noOpEmails", EMAIL, KEY_FIRST, PERHAPS, SKIPPED,
		 "noOpEmails", NO_EMAIL, UPDATE_HINT),
	LIST(IN_FAILED, USERS, "noOpUserIds", USER_ID, KEY_FIRST, PERHAPS, SKIPPED,
		 "noOpUserIds", NO_USER_ID, UPDATE_HINT),
	LIST(AT_TOP, USERS, "noOpEmails", EMAIL, KEY_FIRST, PERHAPS, SKIPPED,
		 "noOpEmails", NO_EMAIL, UPDATE_HINT),
	LIST(AT_TOP, USERS, "noOpUserIds", USER_ID, KEY_FIRST, PERHAPS, SKIPPED,
		 "noOpUserIds", NO_USER_ID, UPDATE_HINT),

	LIST(AT_TOP, EVENTS, "disallowedEventNames", EVENT_NAME, KEY_FIRST, PERHAPS, REJECTED,
		 "disallowedEventNames", "the project does not take events of this name",
		 "Allow the event in the project's settings, or map another event name."),

	/* deprecated lists; the user ids mean something else for events */
	LIST(DEPRECATED, EVENTS, "invalidEmails", EMAIL, KEY_AND_NEW, COUNTED, REJECTED,
		 "invalidEmails", BAD_EMAIL, BAD_EMAIL_HINT),
	LIST(DEPRECATED, EVENTS, "invalidUserIds", USER_ID, KEY_FIRST, COUNTED, LATER,
		 "notFoundUserIds", NO_USER_ID, EVENT_HINT),
	LIST(DEPRECATED, USERS, "invalidEmails", EMAIL, KEY_AND_NEW, COUNTED, REJECTED,
		 "invalidEmails", "Iterable did not update the user with this e-mail address", MAPPING_HINT),
	LIST(DEPRECATED, USERS, "invalidUserIds", USER_ID, KEY_AND_NEW, COUNTED, REJECTED,
		 "invalidUserIds", "Iterable did not update the user with this user id", MAPPING_HINT),

	/* codes */
	CODE(ANY, "RateLimitExceeded", 400, 599, AGAIN, UNKNOWN, RATE, RATE_HINT),
	CODE(ANY, "DatabaseError", 400, 599, AGAIN, LATER, SERVER_ERROR, SERVER_HINT),
	CODE(ANY, "BadApiKey", 400, 599, STOP, UNKNOWN, NOT_ALLOWED, KEY_HINT),
	CODE(ANY, "Unauthorized", 400, 499, STOP, UNKNOWN, NOT_ALLOWED, KEY_HINT),
	CODE(ANY, "BadAuthorizationHeader", 400, 499, STOP, UNKNOWN, NOT_ALLOWED, JWT_HINT),
	CODE(ANY, "InvalidJwtPayload", 400, 499, STOP, UNKNOWN, NOT_ALLOWED, JWT_HINT),
	CODE(ANY, "JwtUserIdentifiersMismatched", 400, 499, STOP, UNKNOWN, NOT_ALLOWED, JWT_HINT),
	CODE(ANY, "Forbidden", 400, 499, STOP, UNKNOWN, NOT_ALLOWED, RIGHTS_HINT),
	CODE(BULK, "BatchTooLarge", 400, 599, SPLIT, REJECTED, TOO_LARGE, TOO_LARGE_HINT),
	CODE(BULK, "RequestFieldsTypesMismatched", 400, 599, REJECTED, REJECTED,
		 "a field has another type than in the project",
		 "Map the field with the type that it has in the project, or to a field of another name."),
	CODE(BULK, "UniqueFieldsLimitExceeded", 400, 599, REJECTED, REJECTED,
		 "the project cannot have more fields",
		 "Remove fields in the project, or from the mapping."),
	CODE(BULK, "BadJsonBody", 400, 499, REJECTED, REJECTED,
		 "a value has the wrong type or is missing", MAPPING_HINT),
	CODE(BULK, "BadParams", 400, 400, REJECTED, REJECTED,
		 "Iterable refuses the row", MAPPING_HINT),
	CODE(BULK, "ForbiddenParamsError", 400, 400, REJECTED, REJECTED,
		 "the API key must not set a field", "Remove the field from the mapping."),
	CODE(ANY, "InvalidEmailAddressError", 400, 499, REJECTED, REJECTED, BAD_EMAIL, BAD_EMAIL_HINT),
	CODE(ANY, "InvalidUserIdError", 400, 499, REJECTED, REJECTED, BAD_USER_ID, BAD_USER_ID_HINT),
	CODE(BULK, "ForgottenUserError", 400, 499, REJECTED, REJECTED, FORGOTTEN, FORGOTTEN_HINT),
	CODE(BULK, "EmailAlreadyExists", 400, 499, REJECTED, REJECTED, TAKEN_EMAIL, TAKEN_HINT),
	CODE(BULK, "UserIdAlreadyExists", 400, 499, REJECTED, REJECTED, TAKEN_USER_ID, TAKEN_HINT),
	CODE(BULK, "ExternalKeyConflict", 400, 499, REJECTED, REJECTED, TAKEN_USER_ID, TAKEN_HINT),
	CODE(EVENTS, "UnknownEmailError", 400, 499, REJECTED, LATER, NO_EMAIL, EVENT_HINT),
	CODE(EVENTS, "UnknownUserIdError", 400, 499, REJECTED, LATER, NO_USER_ID, EVENT_HINT),
	CODE(USERS, "UnknownEmailError", 400, 499, REJECTED, REJECTED, NO_EMAIL, NO_USER_HINT),
	CODE(USERS, "UnknownUserIdError", 400, 499, REJECTED, REJECTED, NO_USER_ID, PREFER_HINT),

	/* statuses */
	STATUS(ANY, 300, 399, STOP, UNKNOWN, "Redirect", "redirect refused",
		   "Correct the option base_url of the connection: a redirect is never followed, because the API key would go to another host."),
	STATUS(ANY, 401, 401, STOP, UNKNOWN, "Unauthorized", NOT_ALLOWED, KEY_HINT),
	STATUS(ANY, 403, 403, STOP, UNKNOWN, "Forbidden", NOT_ALLOWED, RIGHTS_HINT),
	STATUS(ANY, 404, 405, STOP, UNKNOWN, "NotFound", "there is no such endpoint", URL_HINT),
	STATUS(ANY, 407, 407, STOP, UNKNOWN, "ProxyAuthenticationRequired",
		   "a proxy stands between the server and Iterable", "Let the server reach Iterable without a proxy."),
	STATUS(ANY, 408, 408, AGAIN, UNKNOWN, "RequestTimeout", "Iterable took too long to read the request", NULL),
	STATUS(BULK, 409, 409, REJECTED, REJECTED, "Conflict",
		   "the user was forgotten, or the identifier belongs to another user at Iterable", TAKEN_HINT),
	STATUS(ANY, 410, 410, STOP, UNKNOWN, "Gone", "there is no such endpoint", URL_HINT),
	STATUS(BULK, 413, 413, SPLIT, REJECTED, "BatchTooLarge", TOO_LARGE, TOO_LARGE_HINT),
	STATUS(ANY, 421, 421, STOP, UNKNOWN, "MisdirectedRequest", "the host is not Iterable's", URL_HINT),
	STATUS(ANY, 425, 425, AGAIN, UNKNOWN, "TooEarly", "Iterable asks to send again", NULL),
	STATUS(ANY, 429, 429, AGAIN, UNKNOWN, "RateLimitExceeded", RATE, RATE_HINT),
	STATUS(ANY, 400, 499, REJECTED, REJECTED, "Rejected", "Iterable refuses the request", MAPPING_HINT),
	STATUS(ANY, 500, 599, AGAIN, LATER, "ServerError", SERVER_ERROR, SERVER_HINT),

	/* what is not sent, and what is not answered */
	OURS(BULK, "no_identifier", "the row has no e-mail address or user id", "Fill the match field, or filter such rows out."),
	OURS(BULK, "bad_email", "the e-mail address is malformed", BAD_EMAIL_HINT),
	OURS(BULK, "bad_user_id", "the user id is malformed", BAD_USER_ID_HINT),
	OURS(EVENTS, "no_event_name", "the event has no name", "Map eventName to something that is never NULL or empty."),
	OURS(EVENTS, "bad_event_id", "the id of the event is malformed", "Map id to 1 to 512 letters, digits and hyphens, or drop the mapping."),
	OURS(BULK, "not_a_number", "a number is NaN or infinite", "Map an expression that is a number or NULL."),
	OURS(EVENTS, "not_an_integer", "a number has a fraction where an integer is required", "Map an integer."),
	OURS(BULK, "bad_date", "a date is infinite or not in the years 1 to 9999", "Correct the date in the source."),
	OURS(BULK, "bad_json", "a value is not valid JSON", "Correct the value in the source."),
	OURS(BULK, "bad_geo_location", "a place is not a longitude and a latitude", "Correct the place in the source."),
	OURS(BULK, "bad_encoding", "a text cannot be written in UTF-8", "Correct the text in the source."),
	OURS(BULK, "too_large", "the row alone is larger than a request may be", TOO_LARGE_HINT),
	OURS(BULK, "expression", "an expression failed for the row", "Correct the expression or the row."),
	OURS(BULK, "stored_columns", "a row that was stored as it was committed does not have the columns that are read now", "Change the mappings or the filter to what the row has, and try it again, or discard the failure."),
	OURS(BULK, "null_key", "rows have no key", "Fill the unique field, or filter such rows out."),
	OURS(BULK, "duplicate_key", "several rows have this key", "Choose a unique field that is unique in the source."),
	OURS(BULK, "unknown_outcome", "Iterable's answers did not tell whether the row was applied", ODD_HINT),

	/* *INDENT-ON* */
};

/* Lists in failedUpdates that came after this was written, by their ends. */
static const IsMeaning unknown_lists[] = {
	LIST(IN_FAILED, BULK, "Emails", EMAIL, KEY_FIRST, COUNTED, REJECTED,
		 "failedUpdates", "Iterable reports a failure of a kind that this version does not know", MAPPING_HINT),
	LIST(IN_FAILED, BULK, "UserIds", USER_ID, KEY_FIRST, COUNTED, REJECTED,
		 "failedUpdates", "Iterable reports a failure of a kind that this version does not know", MAPPING_HINT),
};

static bool
ends_with(const char *text, const char *end)
{
	Size		len = strlen(text);
	Size		end_len = strlen(end);

	return len >= end_len && pg_strcasecmp(text + len - end_len, end) == 0;
}

const IsMeaning *
is_meaning_of_list(IsWhere where, IsEndpoint endpoint, const char *name)
{
	for (Size i = 0; i < lengthof(meanings); i++)
	{
		const IsMeaning *m = &meanings[i];

		if (m->where == where && (m->endpoints & (1 << endpoint)) &&
			strcmp(m->name, name) == 0)
			return m;
	}

	if (where == IS_IN_FAILED)
		for (Size i = 0; i < lengthof(unknown_lists); i++)
			if (ends_with(name, unknown_lists[i].name))
				return &unknown_lists[i];
	return NULL;
}

const IsMeaning *
is_meaning_of_other_failures(void)
{
	return &unknown_lists[0];
}

const IsMeaning *
is_meaning_of_answer(IsEndpoint endpoint, int status, const char *code)
{
	for (Size i = 0; i < lengthof(meanings); i++)
	{
		const IsMeaning *m = &meanings[i];

		if (!(m->endpoints & (1 << endpoint)) ||
			status < m->status_from || status > m->status_to)
			continue;
		if (m->where == IS_STATUS ||
			(m->where == IS_CODE && strcmp(m->name, code) == 0))
			return m;
	}
	return NULL;
}

const IsMeaning *
is_meaning_of_class(IsEndpoint endpoint, const char *class)
{
	const IsMeaning *any = NULL;

	for (Size i = 0; i < lengthof(meanings); i++)
	{
		const IsMeaning *m = &meanings[i];

		if (strcmp(m->class, class) != 0)
			continue;
		if (m->endpoints & (1 << endpoint))
			return m;
		if (any == NULL)
			any = m;
	}
	for (Size i = 0; any == NULL && i < lengthof(unknown_lists); i++)
		if (strcmp(unknown_lists[i].class, class) == 0)
			any = &unknown_lists[i];
	return any;
}

const IsMeaning *
is_meaning_table(int *n)
{
	*n = lengthof(meanings);
	return meanings;
}

/* Does a row get a failure by this? */
static bool
makes_failures(const IsMeaning *meaning)
{
	return meaning->verdict == IS_VERDICT_REJECTED ||
		meaning->verdict == IS_VERDICT_LATER;
}

const char *const *
is_meaning_classes(int *n)
{
	static const char *classes[lengthof(meanings) + 1];
	static int	nclasses = 0;

	if (nclasses == 0)
	{
		classes[nclasses++] = unknown_lists[0].class;
		for (Size i = 0; i < lengthof(meanings); i++)
		{
			bool		known = !makes_failures(&meanings[i]);

			for (int k = 0; !known && k < nclasses; k++)
				known = strcmp(classes[k], meanings[i].class) == 0;
			if (!known)
				classes[nclasses++] = meanings[i].class;
		}
	}
	*n = nclasses;
	return classes;
}
