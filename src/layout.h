/*-------------------------------------------------------------------------
 *
 * layout.h
 *	  From the mappings of a sync to the shape of its payloads.
 *
 * Copyright (c) 2026, the iterable_sync developers
 *-------------------------------------------------------------------------
 */
#ifndef IS_LAYOUT_H
#define IS_LAYOUT_H

#include "postgres.h"

#include "catalog.h"
#include "iterable_api.h"
#include "json.h"

/*
 * Where a value goes.  Fields with a meaning of their own come first, in the
 * order in which they stand in the payload.
 */
typedef enum IsField
{
	IS_FIELD_EMAIL,
	IS_FIELD_USER_ID,
	IS_FIELD_EVENT_NAME,
	IS_FIELD_EVENT_ID,
	IS_FIELD_CREATED_AT,
	IS_FIELD_CAMPAIGN_ID,
	IS_FIELD_TEMPLATE_ID,
	IS_FIELD_DATA,				/* dataFields, or something in it */
	IS_FIELD_DATA_EMAIL,		/* dataFields.email of a user: its new identity */
	IS_FIELD_DATA_USER_ID
} IsField;

/* A member of a payload, or of an object in it. */
typedef struct IsMember
{
	IsField		field;
	const char *destination;	/* of the mapping */
	char	   *name;
	char	   *label;			/* "name": as JSON in UTF-8 */
	int			label_len;

	/* exactly one of: */
	struct IsMember *members;	/* an object's first member */
	char	   *constant;		/* in UTF-8 */
	int			column;			/* number among the mapped columns, or -1 */

	char	   *constant_json;
	bool		clear_null;
	IsJsonType	type;			/* of the column */
	struct IsMember *next;
} IsMember;

typedef struct IsLayout
{
	IsMember   *fields[IS_FIELD_DATA + 1];	/* by IsField; NULL: none */
} IsLayout;

/*
 * The mappings that fill a payload (List of IsMapping *): those of the sync,
 * and one of its match field if that is what holds the identifier.  Error
 * 22023: there is no identifier, no event name, or no id of the events that
 * are to be updated.
 */
extern List *is_layout_mappings(const IsSync *sync, IsProjectType project_type);

/* Does a sync of events say when they happened? */
extern bool is_layout_has_time(const IsSync *sync);

/* Has a destination of this name a meaning of its own at Iterable? */
extern bool is_layout_has_meaning(IsObject object, const char *destination);

/*
 * Lay out the payload.  types are those of the mappings of columns and
 * expressions, in their order; of a mapping that has no value at all only the
 * place is looked at.  In CurrentMemoryContext.  Errors: 22023
 * destinations that exclude each other, unfit constants, a time zone without a
 * use; 42804, 0A000 types.
 */
extern IsLayout *is_layout_build(const IsSync *sync, const List *mappings,
								 const Oid *types);

/*
 * Look at composite types again: their OIDs do not tell that they were
 * altered.  Error 0A000 if they can't be sent now.
 */
extern void is_layout_refresh(IsLayout *layout);

#endif							/* IS_LAYOUT_H */
