/*
 * flights.c
 *		Which users are in a bulk update that has not been answered yet.
 *
 * A client must not have two requests in flight for one user, since their
 * order at Iterable is anyone's guess; this is how a test can tell.
 */
#include "flights.h"

#include <stdlib.h>
#include <string.h>

#include "buffer.h"
#include "table.h"

typedef struct Flight
{
	Link		link;
	const FlightSet *latest;	/* counts an identifier once a request */
	int			requests;
	char		key[];			/* the kind, then the identifier */
} Flight;

static Table in_flight;
static int	most_same;

void
flights_begin(FlightSet *set, size_t most)
{
	set->flights = xmalloc(most * sizeof(Flight *));
	set->count = 0;
}

void
flights_enter(FlightSet *set, char kind, const char *identifier)
{
	size_t		len = strlen(identifier);
	uint64_t	hash = table_hash((uint64_t) kind, identifier, len);
	Flight	   *flight = NULL;

	for (Link *link = table_first(&in_flight, hash); link != NULL;
		 link = table_next(link))
	{
		flight = table_owner(link, Flight, link);
		if (flight->key[0] == kind && strcmp(flight->key + 1, identifier) == 0)
			break;
		flight = NULL;
	}
	if (flight == NULL)
	{
		flight = xcalloc(1, sizeof(Flight) + len + 2);
		flight->key[0] = kind;
		memcpy(flight->key + 1, identifier, len + 1);
		table_insert(&in_flight, &flight->link, hash);
	}
	if (flight->latest == set)
		return;
	flight->latest = set;
	flight->requests++;
	if (flight->requests > most_same)
		most_same = flight->requests;
	set->flights[set->count++] = flight;
}

void
flights_leave(FlightSet *set)
{
	for (size_t i = 0; i < set->count; i++)
	{
		Flight	   *flight = set->flights[i];

		if (flight->latest == set)
			flight->latest = NULL;
		if (--flight->requests == 0)
		{
			table_remove(&in_flight, &flight->link);
			free(flight);
		}
	}
	free(set->flights);
	set->flights = NULL;
	set->count = 0;
}

int
flights_most_same(void)
{
	return most_same;
}

void
flights_forget_most(void)
{
	most_same = 0;
}
