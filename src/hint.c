/*-------------------------------------------------------------------------
 *
 * hint.c
 *	  Which of the known names did somebody mean who mistyped one?
 *
 * PostgreSQL has this as ClosestMatchState only from 16 on, and for command
 * words only; the limits here are those of its hints for columns.
 *
 * Copyright (c) 2026, the iterable_sync developers
 *-------------------------------------------------------------------------
 */
#include "hint.h"

#include "utils/builtins.h"
#include "utils/varlena.h"

#define MAX_DISTANCE 3
#define MAX_LENGTH 255			/* of varstr_levenshtein, in bytes */

const char *
is_hint_closest(const char *name, const char *const *candidates, int n)
{
	int			len = strlen(name);
	const char *closest = NULL;
	int			best;

	for (int i = 0; i < n; i++)
		if (pg_strcasecmp(name, candidates[i]) == 0)
			return candidates[i];

	if (len == 0 || len > MAX_LENGTH)
		return NULL;

	/* More than half of it mistyped means that something else was meant. */
	best = Min(MAX_DISTANCE, len / 2) + 1;
	for (int i = 0; i < n; i++)
	{
		int			candidate_len = strlen(candidates[i]);
		int			distance;

		if (candidate_len == 0 || candidate_len > MAX_LENGTH)
			continue;
		distance = varstr_levenshtein_less_equal(name, len,
												 candidates[i], candidate_len,
												 1, 1, 1, best - 1, true);
		if (distance < best)
		{
			best = distance;
			closest = candidates[i];
		}
	}
	return closest;
}
