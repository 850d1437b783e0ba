/*
 * project.h
 *		The one project that is emulated: its settings, users and events.
 *
 * Everything here is guarded by project_lock; the settings are written by the
 * network thread only, which therefore may read them without it.
 */
#ifndef EMULATOR_PROJECT_H
#define EMULATOR_PROJECT_H

#include <pthread.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "fields.h"
#include "table.h"

typedef enum ProjectType
{
	PROJECT_EMAIL,
	PROJECT_USER_ID,
	PROJECT_HYBRID
} ProjectType;

/* how BadJsonBody names what is wrong; recordings and mocks differ */
typedef enum BodyErrorForm
{
	BODY_ERROR_EVIDENCE,		/* the form seen for that kind of error */
	BODY_ERROR_TEXT,			/* "Boolean value expected" */
	BODY_ERROR_LIST				/* [{"msg":["error.expected.jsboolean"],…}] */
} BodyErrorForm;

typedef struct Settings
{
	ProjectType project_type;
	int			users_rate;		/* requests a second; 0 is no limit */
	int			events_rate;
	bool		other_rates;	/* the documented limits of all the others */
	StringSet	api_keys;
	StringSet	disabled_keys;
	bool		create_new_fields;
	StringSet	disallowed_event_names;
	StringSet	forgotten_emails;
	StringSet	forgotten_user_ids;
	int			field_limit;
	int			event_field_limit;
	int			latency_ms;
	int			visible_after_ms;
	bool		record_bodies;
	bool		echo_headers;
	bool		mismatch_per_row;
	bool		update_only;	/* does this account have updateOnly? */
	BodyErrorForm body_error_form;
} Settings;

struct Event;

typedef struct User
{
	Link		by_email;
	Link		by_user_id;
	char	   *email;			/* lower case, or NULL */
	char	   *user_id;		/* or NULL */
	char	   *data;			/* a JSON object, compact */
	int64_t		created_ms;
	int64_t		updated_ms;
	size_t		slot;
	struct Event *events;		/* the newest first */
	uint32_t	writes;
} User;

typedef struct Event
{
	Link		by_id;
	char	   *id;
	Field	   *type;			/* the root of its name */
	User	   *user;
	struct Event *newer;		/* of the same user */
	struct Event *older;
	char	   *data;
	int64_t		created_at;		/* seconds, as sent */
	int64_t		campaign_id;	/* 0 is none */
	int64_t		template_id;
	size_t		slot;
	uint32_t	writes;
} Event;

extern pthread_mutex_t project_lock;
extern Settings settings;

/* drops users, events and fields, not the settings */
extern void project_reset(void);

/* users_first* give one of the users with that key; then *_next the others */
extern User *users_by_email(const char *folded);
extern User *users_next_by_email(const User *user);
extern User *users_by_id(const char *user_id);
extern User *users_next_by_id(const User *user);
extern User *user_create(const char *folded_email, const char *user_id);
extern void user_set_email(User *user, const char *folded_email);
extern void user_set_id(User *user, const char *user_id);
extern void user_delete(User *user);
/* has the time passed that a new user takes to become visible? */
extern bool user_is_visible(const User *user);
extern size_t users_count(void);
/* users by slot, some of which are empty; for walking through all of them */
extern size_t users_slots(void);
extern User *user_at(size_t slot);

extern Event *event_by_id(const char *id);
extern Event *event_create(const char *id, User *user, Field *type);
extern void event_set_user(Event *event, User *user);
extern void event_delete(Event *event);
extern size_t events_count(void);
extern size_t events_slots(void);
extern Event *event_at(size_t slot);

extern int64_t clock_ms(void);

#endif							/* EMULATOR_PROJECT_H */
