/*-------------------------------------------------------------------------
 *
 * gate.h
 *	  Connections that Iterable has refused (401, 403): nothing is sent over
 *	  them but one request a minute, until one is answered or the key changes.
 *
 * Copyright (c) 2026, the iterable_sync developers
 *-------------------------------------------------------------------------
 */
#ifndef IS_GATE_H
#define IS_GATE_H

#include "postgres.h"

#include "connection.h"

/*
 * May a request leave over this connection?  0 if so, else microseconds to
 * wait.  No transaction needed: what is_gate_load() has read counts.
 */
extern int64 is_gate_ask(const IsConnection *connection, int64 now_us);

/* One leaves: on a stopped connection it is this minute's probe. */
extern void is_gate_pass(const IsConnection *connection, int64 now_us);

/* Read what is known of a connection (in a transaction). */
extern void is_gate_load(const IsConnection *connection);

/* Iterable has refused the key; reason without data (in a transaction). */
extern void is_gate_stop(const IsConnection *connection, const char *reason,
						 int64 now_us);

/* Iterable has answered (in a transaction). */
extern void is_gate_open(const IsConnection *connection);

/*
 * Why it is stopped (in a transaction), or NULL: it is open, or has another
 * key than the one that was refused.
 */
extern char *is_gate_reason(const IsConnection *connection);

/* Is it stopped, as far as this process knows? */
extern bool is_gate_stopped(const IsConnection *connection);

#endif							/* IS_GATE_H */
