/*
 * workers.h
 *		Threads that parse and apply requests, so that the network thread
 *		notes arrivals when they happen, not when it has time.
 */
#ifndef EMULATOR_WORKERS_H
#define EMULATOR_WORKERS_H

#include "http.h"

/* the descriptor that becomes readable when there are finished requests */
extern int	workers_start(void);
extern void workers_submit(Request *request);
/* all finished requests, linked by next_job, or NULL */
extern Request *workers_finished(void);
extern void workers_stop(void);

#endif							/* EMULATOR_WORKERS_H */
