/*-------------------------------------------------------------------------
 *
 * mapping.h
 *	  Checking and writing the mappings of a sync.
 *
 * Copyright (c) 2026, the iterable_sync developers
 *-------------------------------------------------------------------------
 */
#ifndef IS_MAPPING_H
#define IS_MAPPING_H

#include "postgres.h"

#include "catalog.h"
#include "config.h"

/* The word for a null policy: is it "clear"?  Error 22023 with a hint. */
extern bool is_mapping_parse_null_policy(const char *null_policy);

/*
 * May the mapping be added to those of the sync?  Its expression gets the form
 * in which it is kept.  Errors: 22023 not exactly one of column, constant and
 * expression, a bad destination, one inside another's, an unfit constant, an
 * unknown time zone; 42710 the destination is mapped already; 42703 unknown
 * column; 0A000, 42804 an expression or a type that can't be sent; those of
 * is_source_resolve() and is_expression_check().
 */
extern void is_mapping_check(const IsSync *sync, IsMapping *mapping);

/* Do the mappings of the sync fit its source and object?  Errors as above. */
extern void is_mapping_check_all(const IsSync *sync);

extern void is_mapping_insert(const IsSync *sync, const IsMapping *mapping);
extern void is_mapping_delete_all(const IsSync *sync);

/*
 * Mappings are about to change: error 22023 if "apply" does not say what
 * happens to the rows that were sent with the old ones, and there can be any.
 * Then they have changed: what follows.  If they read more columns than before
 * the triggers must watch these; else they may go on capturing a bit more than
 * is needed.
 */
extern void is_mapping_begin_change(const IsSync *sync, IsApply apply);
extern void is_mapping_end_change(const IsSync *sync, IsApply apply,
								  bool reads_more);

#endif							/* IS_MAPPING_H */
