/*-------------------------------------------------------------------------
 *
 * decide.h
 *	  What is to be done with a row, by mode, filter and memory.
 *
 * Copyright (c) 2026, the iterable_sync developers
 *-------------------------------------------------------------------------
 */
#ifndef IS_DECIDE_H
#define IS_DECIDE_H

#include "postgres.h"

#include "catalog.h"
#include "delivery.h"
#include "render.h"

typedef enum IsDecision
{
	IS_DECISION_SEND,
	IS_DECISION_SEND_IF_KNOWN,	/* to Iterable: look the user up first */
	IS_DECISION_NOTE			/* nothing but its fate is to be recorded */
} IsDecision;

/* What is known besides the row and the memory. */
typedef struct IsCircumstances
{
	bool		update_only;	/* Iterable itself creates no users */
	bool		resumed;		/* a request of before may have changed what we
								 * remember */
	bool		updated;		/* the trigger saw an UPDATE */
	bool		forced;			/* to be sent even if Iterable has it */
	bool		compared;		/* not captured, but found by comparing */
	bool		noted;			/* captured after all rows had been noted */
} IsCircumstances;

/*
 * Pure.  *fate is set for IS_DECISION_NOTE.
 */
extern IsDecision is_decide(const IsSync *sync, const IsRow *row,
							const IsMemory *memory,
							const IsCircumstances *circumstances, IsFate *fate);

#endif							/* IS_DECIDE_H */
