/*
 * records.h
 *		What was asked of the API, and how often.  Network thread only.
 */
#ifndef EMULATOR_RECORDS_H
#define EMULATOR_RECORDS_H

#include "api.h"

/* the number of the new record; 0 is none */
extern uint64_t record_begin(RouteId route, const char *method,
							 const char *path, const char *content_type);
/* takes over the body, which may be empty; a record may have gone by now */
extern void record_end(uint64_t n, int status, const Answer *answer,
					   double ms, size_t bytes, const char *action,
					   Buffer *body);
extern void records_write(uint64_t since, Buffer *out);
/* "requests":{…},"inFlight":…,"maxInFlight":… */
extern void records_write_stats(Buffer *out);
extern void records_reset(void);

#endif							/* EMULATOR_RECORDS_H */
