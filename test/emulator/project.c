/*
 * project.c
 *		The users and events of the project, and how they are found.
 */
#include "project.h"

#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "buffer.h"

pthread_mutex_t project_lock = PTHREAD_MUTEX_INITIALIZER;
Settings	settings;

/* pointers that keep their place, so that a dump can go on after a pause */
typedef struct Slots
{
	void	  **items;
	size_t		used;
	size_t		room;
	size_t		count;
} Slots;

static Table by_email;
static Table by_user_id;
static Table by_event_id;
static Slots user_slots;
static Slots event_slots;

int64_t
clock_ms(void)
{
	struct timespec now;

	clock_gettime(CLOCK_REALTIME, &now);
	return (int64_t) now.tv_sec * 1000 + now.tv_nsec / 1000000;
}

static size_t
slots_add(Slots *slots, void *item)
{
	if (slots->used == slots->room)
	{
		slots->room = slots->room == 0 ? 1024 : slots->room * 2;
		slots->items = xrealloc(slots->items, slots->room * sizeof(void *));
	}
	slots->items[slots->used] = item;
	slots->count++;
	return slots->used++;
}

static void
slots_remove(Slots *slots, size_t slot)
{
	slots->items[slot] = NULL;
	slots->count--;
	while (slots->used > 0 && slots->items[slots->used - 1] == NULL)
		slots->used--;
}

static void
slots_free(Slots *slots)
{
	free(slots->items);
	memset(slots, 0, sizeof(*slots));
}

static void
free_user(User *user)
{
	free(user->email);
	free(user->user_id);
	free(user->data);
	free(user);
}

static void
free_event(Event *event)
{
	free(event->id);
	free(event->data);
	free(event);
}

void
project_reset(void)
{
	/* the links live in the users and events, so the tables go first */
	table_empty(&by_event_id, NULL);
	table_empty(&by_email, NULL);
	table_empty(&by_user_id, NULL);
	for (size_t i = 0; i < event_slots.used; i++)
		if (event_slots.items[i] != NULL)
			free_event(event_slots.items[i]);
	for (size_t i = 0; i < user_slots.used; i++)
		if (user_slots.items[i] != NULL)
			free_user(user_slots.items[i]);
	slots_free(&event_slots);
	slots_free(&user_slots);
	fields_reset();
}

static User *
match_email(Link *link, const char *email)
{
	for (; link != NULL; link = table_next(link))
	{
		User	   *user = table_owner(link, User, by_email);

		if (strcmp(user->email, email) == 0)
			return user;
	}
	return NULL;
}

static User *
match_id(Link *link, const char *user_id)
{
	for (; link != NULL; link = table_next(link))
	{
		User	   *user = table_owner(link, User, by_user_id);

		if (strcmp(user->user_id, user_id) == 0)
			return user;
	}
	return NULL;
}

User *
users_by_email(const char *folded)
{
	return match_email(table_first(&by_email, table_hash_text(folded)), folded);
}

User *
users_next_by_email(const User *user)
{
	return match_email(table_next(&user->by_email), user->email);
}

User *
users_by_id(const char *user_id)
{
	return match_id(table_first(&by_user_id, table_hash_text(user_id)), user_id);
}

User *
users_next_by_id(const User *user)
{
	return match_id(table_next(&user->by_user_id), user->user_id);
}

void
user_set_email(User *user, const char *folded_email)
{
	if (user->email != NULL)
	{
		if (folded_email != NULL && strcmp(user->email, folded_email) == 0)
			return;
		table_remove(&by_email, &user->by_email);
		free(user->email);
		user->email = NULL;
	}
	if (folded_email != NULL)
	{
		user->email = xstrdup(folded_email);
		table_insert(&by_email, &user->by_email, table_hash_text(folded_email));
	}
}

void
user_set_id(User *user, const char *user_id)
{
	if (user->user_id != NULL)
	{
		if (user_id != NULL && strcmp(user->user_id, user_id) == 0)
			return;
		table_remove(&by_user_id, &user->by_user_id);
		free(user->user_id);
		user->user_id = NULL;
	}
	if (user_id != NULL)
	{
		user->user_id = xstrdup(user_id);
		table_insert(&by_user_id, &user->by_user_id, table_hash_text(user_id));
	}
}

User *
user_create(const char *folded_email, const char *user_id)
{
	User	   *user = xcalloc(1, sizeof(User));

	user->created_ms = clock_ms();
	user->updated_ms = user->created_ms;
	user->slot = slots_add(&user_slots, user);
	user_set_email(user, folded_email);
	user_set_id(user, user_id);
	return user;
}

void
user_delete(User *user)
{
	while (user->events != NULL)
		event_delete(user->events);
	user_set_email(user, NULL);
	user_set_id(user, NULL);
	slots_remove(&user_slots, user->slot);
	free_user(user);
}

bool
user_is_visible(const User *user)
{
	return settings.visible_after_ms <= 0 ||
		clock_ms() - user->created_ms >= settings.visible_after_ms;
}

size_t
users_count(void)
{
	return user_slots.count;
}

size_t
users_slots(void)
{
	return user_slots.used;
}

User *
user_at(size_t slot)
{
	return user_slots.items[slot];
}

Event *
event_by_id(const char *id)
{
	for (Link *link = table_first(&by_event_id, table_hash_text(id));
		 link != NULL; link = table_next(link))
	{
		Event	   *event = table_owner(link, Event, by_id);

		if (strcmp(event->id, id) == 0)
			return event;
	}
	return NULL;
}

static void
leave_user(Event *event)
{
	if (event->newer != NULL)
		event->newer->older = event->older;
	else
		event->user->events = event->older;
	if (event->older != NULL)
		event->older->newer = event->newer;
	event->newer = NULL;
	event->older = NULL;
}

static void
join_user(Event *event, User *user)
{
	event->user = user;
	event->older = user->events;
	if (user->events != NULL)
		user->events->newer = event;
	user->events = event;
}

void
event_set_user(Event *event, User *user)
{
	if (event->user == user)
		return;
	leave_user(event);
	join_user(event, user);
}

Event *
event_create(const char *id, User *user, Field *type)
{
	Event	   *event = xcalloc(1, sizeof(Event));

	event->id = xstrdup(id);
	event->type = type;
	event->slot = slots_add(&event_slots, event);
	table_insert(&by_event_id, &event->by_id, table_hash_text(id));
	join_user(event, user);
	return event;
}

void
event_delete(Event *event)
{
	leave_user(event);
	table_remove(&by_event_id, &event->by_id);
	slots_remove(&event_slots, event->slot);
	free_event(event);
}

size_t
events_count(void)
{
	return event_slots.count;
}

size_t
events_slots(void)
{
	return event_slots.used;
}

Event *
event_at(size_t slot)
{
	return event_slots.items[slot];
}
