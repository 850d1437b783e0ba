/*-------------------------------------------------------------------------
 *
 * txn.h
 *	  Short transactions of the engine, the same in a background worker and
 *	  in a procedure that commits.
 *
 * Between is_txn_commit() and the next is_txn_begin() no snapshot and no lock
 * is held; requests are made only then.  Inside, the engine is the
 * extension's owner, in READ COMMITTED, read-write, and commits
 * synchronously, whatever the defaults say.  What is palloc'ed inside goes
 * with the transaction, unless another context was switched to; afterwards
 * the context of before is current again.
 *
 * Copyright (c) 2026, the iterable_sync developers
 *-------------------------------------------------------------------------
 */
#ifndef IS_TXN_H
#define IS_TXN_H

#include "postgres.h"

extern void is_txn_begin(void);
extern void is_txn_commit(void);

/* After an error that was caught (background worker only). */
extern void is_txn_abort(void);

/*
 * From now on transactions are those of the procedure that is running (true)
 * or of a background worker (false, the start).
 */
extern void is_txn_in_procedure(bool procedure);

/*
 * Is somebody waiting to drop the extension?  Inside a transaction of the
 * engine; where there is none, the second form tells whether one would have to
 * wait.
 */
extern bool is_txn_is_in_the_way(void);
extern bool is_txn_would_wait(void);

/*
 * Make everything durable that any snapshot taken so far can see.  A commit
 * with synchronous_commit off is visible before it is durable; what a crash
 * could take back must not be sent.
 */
extern void is_txn_flush_wal(void);

#endif							/* IS_TXN_H */
