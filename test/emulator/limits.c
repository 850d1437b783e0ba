/*
 * limits.c
 *		Requests a second.
 *
 * A request that is refused does not use up the limit, but it does count as
 * an arrival: a client that is paced well never has more arrivals in any
 * second than its limit.
 */
#include "limits.h"

#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "project.h"

/* times, the oldest first, in a ring */
typedef struct Window
{
	int64_t    *times;
	size_t		room;
	size_t		first;
	size_t		count;
} Window;

static Window accepted[ROUTE_COUNT];
static Window arrived[ROUTE_COUNT];
static size_t most[ROUTE_COUNT];

int64_t
clock_ns(void)
{
	struct timespec now;

	clock_gettime(CLOCK_MONOTONIC, &now);
	return (int64_t) now.tv_sec * NS_PER_SECOND + now.tv_nsec;
}

static void
window_slide(Window *window, int64_t now)
{
	while (window->count > 0 &&
		   now - window->times[window->first] >= NS_PER_SECOND)
	{
		window->first = (window->first + 1) % window->room;
		window->count--;
	}
}

static void
window_add(Window *window, int64_t now)
{
	if (window->count == window->room)
	{
		size_t		room = window->room == 0 ? 64 : window->room * 2;
		int64_t    *times = xmalloc(room * sizeof(int64_t));

		for (size_t i = 0; i < window->count; i++)
			times[i] = window->times[(window->first + i) % window->room];
		free(window->times);
		window->times = times;
		window->room = room;
		window->first = 0;
	}
	window->times[(window->first + window->count) % window->room] = now;
	window->count++;
}

static size_t
limit_of(RouteId route)
{
	switch (route)
	{
		case ROUTE_BULK_UPDATE:
			return (size_t) settings.users_rate;
		case ROUTE_TRACK_BULK:
			return (size_t) settings.events_rate;
		default:
			return settings.other_rates
				? (size_t) routes[route].documented_rate : 0;
	}
}

bool
limits_arrive(RouteId route, int64_t now)
{
	size_t		limit = limit_of(route);

	window_slide(&arrived[route], now);
	window_add(&arrived[route], now);
	if (arrived[route].count > most[route])
		most[route] = arrived[route].count;

	window_slide(&accepted[route], now);
	if (limit > 0 && accepted[route].count >= limit)
		return true;
	window_add(&accepted[route], now);
	return false;
}

size_t
limits_most(RouteId route)
{
	return most[route];
}

void
limits_reset(void)
{
	for (int i = 0; i < ROUTE_COUNT; i++)
	{
		free(accepted[i].times);
		free(arrived[i].times);
	}
	memset(accepted, 0, sizeof(accepted));
	memset(arrived, 0, sizeof(arrived));
	memset(most, 0, sizeof(most));
}
