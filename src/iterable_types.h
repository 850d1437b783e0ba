/*-------------------------------------------------------------------------
 *
 * iterable_types.h
 *	  Which rows hold the value that Iterable refuses for its type?
 *
 * Copyright (c) 2026, the iterable_sync developers
 *-------------------------------------------------------------------------
 */
#ifndef IS_ITERABLE_TYPES_H
#define IS_ITERABLE_TYPES_H

#include "iterable_api.h"
#include "iterable_json.h"

/*
 * Find the rows whose payloads hold, in a field of validationErrors, the value
 * that the answer names, or another that contradicts the type of the field in
 * the same way.  culprits[i] becomes the member of validationErrors that rows[i]
 * is refused for, or NULL; returns how many there are.  Only rows of which it
 * is certain; 0 where the answer does not tell enough.
 */
extern int	is_types_find(IsEndpoint endpoint, const cJSON *errors,
						  const IsApiRow *rows, int nrows, const cJSON **culprits);

#endif							/* IS_ITERABLE_TYPES_H */
