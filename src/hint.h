/*-------------------------------------------------------------------------
 *
 * hint.h
 *	  Which of the known names did somebody mean who mistyped one?
 *
 * Copyright (c) 2026, the iterable_sync developers
 *-------------------------------------------------------------------------
 */
#ifndef IS_HINT_H
#define IS_HINT_H

#include "postgres.h"

/*
 * The candidate that is nearest to name, the first of several; NULL if none
 * is near enough to be what was meant.  Names that differ only in case are
 * nearest.  Runs no user's code and raises no error.
 */
extern const char *is_hint_closest(const char *name,
								   const char *const *candidates, int n);

#endif							/* IS_HINT_H */
