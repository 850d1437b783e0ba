/*
 * limits.h
 *		Requests a second: true sliding windows of one second, one for each
 *		endpoint.  Network thread only.
 */
#ifndef EMULATOR_LIMITS_H
#define EMULATOR_LIMITS_H

#include "api.h"

#define NS_PER_SECOND INT64_C(1000000000)
#define NS_PER_MS INT64_C(1000000)

extern int64_t clock_ns(void);
/* notes the arrival; true if it is over the limit */
extern bool limits_arrive(RouteId route, int64_t now);
/* the most arrivals in any one second, refused ones included */
extern size_t limits_most(RouteId route);
extern void limits_reset(void);

#endif							/* EMULATOR_LIMITS_H */
