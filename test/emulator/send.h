/*
 * send.h
 *		Sending the answer of a request, properly or with a scripted fault.
 */
#ifndef EMULATOR_SEND_H
#define EMULATOR_SEND_H

#include "http.h"

/* queues the answer; MHD_NO closes the connection without one */
extern enum MHD_Result send_answer(Request *request);
/* the request is over, with that status or (0) without any; counts once */
extern void send_account(Request *request, int status);
/* http.c: suspends the request, to go on with sending when it is due */
extern void http_wait_until(Request *request, int64_t due);

#endif							/* EMULATOR_SEND_H */
