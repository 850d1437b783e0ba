/*
 * control.h
 *		The endpoints under /control/, by which a test sets up the emulator
 *		and sees what has happened.  Network thread only.
 */
#ifndef EMULATOR_CONTROL_H
#define EMULATOR_CONTROL_H

#include "http.h"

/* fills in the request's answer, or its response when that is streamed */
extern void control_handle(Request *request);

/* dump.c: all users or events, a line each */
extern struct MHD_Response *dump_users(void);
extern struct MHD_Response *dump_events(void);

/* seed.c: an error message, or NULL */
extern const char *seed(const Document *document, size_t *created);

#endif							/* EMULATOR_CONTROL_H */
