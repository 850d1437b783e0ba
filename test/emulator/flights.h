/*
 * flights.h
 *		Which users are in a bulk update that has not been answered yet.
 */
#ifndef EMULATOR_FLIGHTS_H
#define EMULATOR_FLIGHTS_H

#include <stddef.h>

struct Flight;

/* the identifiers of one request */
typedef struct FlightSet
{
	struct Flight **flights;
	size_t		count;
} FlightSet;

/* guarded by the lock of the project, all of them */
extern void flights_begin(FlightSet *set, size_t most);
extern void flights_enter(FlightSet *set, char kind, const char *identifier);
extern void flights_leave(FlightSet *set);
/* the most requests that one identifier was in at the same time */
extern int	flights_most_same(void);
extern void flights_forget_most(void);

#endif							/* EMULATOR_FLIGHTS_H */
