/*-------------------------------------------------------------------------
 *
 * iterable_meaning.h
 *	  What each list, code and status of Iterable's answers means, and what
 *	  a person must mend.
 *
 * Everything that is known of Iterable's answers stands in one table; the
 * readers (iterable_api.c) know only their shape.
 *
 * Copyright (c) 2026, the iterable_sync developers
 *-------------------------------------------------------------------------
 */
#ifndef IS_ITERABLE_MEANING_H
#define IS_ITERABLE_MEANING_H

#include "iterable_api.h"

typedef enum IsWhere
{
	IS_IN_FAILED,				/* a list in failedUpdates */
	IS_AT_TOP,					/* a list at the top */
	IS_DEPRECATED,				/* a deprecated list at the top: repeats what
								 * is in failedUpdates, where there is such */
	IS_CODE,					/* the answer's code */
	IS_STATUS,					/* the HTTP status */
	IS_OURS						/* no answer: what we find out ourselves */
} IsWhere;

/* What the entries of a list are compared with. */
typedef enum IsMatch
{
	IS_BY_NONE,
	IS_BY_EMAIL,
	IS_BY_USER_ID,
	IS_BY_EVENT_NAME
} IsMatch;

/*
 * Which identifier of a row an entry may be: the one by which Iterable knows
 * the user, or the one in dataFields that would replace it.
 */
typedef enum IsWhich
{
	IS_KEY_FIRST,				/* the new one only if no row has it as key */
	IS_NEW_FIRST,				/* the other way round */
	IS_KEY_AND_NEW
} IsWhich;

typedef struct IsMeaning
{
	IsWhere		where;
	int			endpoints;		/* bits */
	const char *name;			/* list or code */

	/* lists */
	IsMatch		match;
	IsWhich		which;
	bool		counted;		/* failCount includes it for certain */

	/* of a row that the list names, or of the only row of the request */
	IsVerdict	verdict;

	const char *class;
	const char *message;		/* what is wrong */
	const char *hint;			/* what a person must mend, or NULL */

	/* codes and statuses */
	int			status_from;
	int			status_to;
	IsAnswerKind kind;
} IsMeaning;

/* The meaning of a list of this name in this place, or NULL. */
extern const IsMeaning *is_meaning_of_list(IsWhere where, IsEndpoint endpoint,
										   const char *name);

/* The meaning of a failure that an answer counts and does not explain. */
extern const IsMeaning *is_meaning_of_other_failures(void);

/* The meaning of an answer that is not 2xx, or NULL; code may be "". */
extern const IsMeaning *is_meaning_of_answer(IsEndpoint endpoint, int status,
											 const char *code);

/* The meaning of failures of this class, or NULL. */
extern const IsMeaning *is_meaning_of_class(IsEndpoint endpoint, const char *class);

/* All that is known, in order; and all classes that failures can have. */
extern const IsMeaning *is_meaning_table(int *n);
extern const char *const *is_meaning_classes(int *n);

#endif							/* IS_ITERABLE_MEANING_H */
