/*
 * user_rows.h
 *		One user of users/update or users/bulkUpdate: what was sent, what is
 *		wrong with it, and putting it into the project.
 */
#ifndef EMULATOR_USER_ROWS_H
#define EMULATOR_USER_ROWS_H

#include "answer.h"
#include "body.h"
#include "fields.h"

typedef struct UserRow
{
	const char *email;			/* as sent */
	const char *folded_email;
	const char *user_id;
	const char *new_email;		/* from dataFields, as sent */
	const char *folded_new_email;
	const char *new_user_id;	/* from dataFields */
	const cJSON *data;
	bool		prefer_user_id;
	bool		merge_nested;
	bool		update_only;	/* of the whole request: create nobody */
	bool		is_no_op;		/* and so there was nothing to do */
	FailureList failure;
	const char *reported;		/* the value in the list of failures */
} UserRow;

extern void user_row_read(UserRow *row, const cJSON *object, BodyErrors *errors,
						  BodyPlace place);
/* what can be said without looking at the users and the fields */
extern void user_row_check(UserRow *row, const Document *document);
extern void user_row_fail_by_script(UserRow *row, const FailRows *script);
/* refuses the row because of its values */
extern void user_row_fail_data(UserRow *row);
extern void user_row_apply(UserRow *row, const Document *document);
/* does the project type know this row by its e-mail? */
extern bool user_row_is_by_email(const UserRow *row);

#endif							/* EMULATOR_USER_ROWS_H */
