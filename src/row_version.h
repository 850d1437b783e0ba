/*-------------------------------------------------------------------------
 *
 * row_version.h
 *	  Versions of rows as they were committed: the form in which the change
 *	  log keeps them, and taking that apart.
 *
 * A version is a tuple of some columns of its relation, with values as they
 * are on disk, none of them out of line.  So nobody's code runs to write it,
 * no setting has a say, and nothing is lost.  What the columns were stands
 * once for all versions of a row of the log, in their shape.
 *
 *		bytea:	header | shapes ... | versions ...
 *
 * All parts are aligned as tuples are, and start with their own size.
 *
 * Copyright (c) 2026, the iterable_sync developers
 *-------------------------------------------------------------------------
 */
#ifndef IS_ROW_VERSION_H
#define IS_ROW_VERSION_H

#include "postgres.h"

#include "access/htup.h"
#include "access/tupdesc.h"
#include "utils/relcache.h"

typedef struct IsShapeColumn
{
	uint64		composites;		/* hash of what its type is made of; 0: no
								 * composite types */
	Oid			type;
	int32		typmod;
	Oid			collation;
	int16		attlen;
	AttrNumber	attnum;			/* in the relation */
	uint16		size;			/* of this, with the name */
	bool		attbyval;
	char		attalign;
	char		name[FLEXIBLE_ARRAY_MEMBER];
} IsShapeColumn;

typedef struct IsShape
{
	uint32		size;			/* of this, with the columns */
	Oid			relid;			/* that the rows were in, maybe a partition */
	uint32		ncolumns;
	Oid			owner;			/* of that relation, when the rows were captured */
	/* IsShapeColumn ... */
} IsShape;

typedef struct IsStoredVersion
{
	uint32		size;			/* of this, with the tuple; of this alone: the
								 * change has no version */
	uint32		shape;			/* number of its shape */
	/* MinimalTuple */
} IsStoredVersion;

/* A version that was taken out of what was packed. */
typedef struct IsVersion
{
	const char *tag;			/* names it for good: the same whenever it is sent */
	const IsShape *shape;
	MinimalTuple tuple;
} IsVersion;

#define IS_VERSION_TUPLE(stored) \
	((MinimalTuple) ((char *) (stored) + sizeof(IsStoredVersion)))

/*
 * The shape of these columns of a relation, in CurrentMemoryContext.  Looks up
 * types and nothing else, so a trigger may call it.
 */
extern IsShape *is_version_shape(Relation rel, const AttrNumber *attnums, int n);

/*
 * Does what composite types are made of have a say in it?  Then the shape is
 * out of date when any of these changes.
 */
extern bool is_version_has_composites(const IsShape *shape);

/* Pack n versions that follow one another, with the shapes they refer to. */
extern bytea *is_version_pack(IsShape *const *shapes, int nshapes,
							  const char *versions, Size len, int n);

/* A copy in CurrentMemoryContext. */
extern IsVersion *is_version_copy(const IsVersion *version);

/* One version, packed by itself. */
extern bytea *is_version_pack_one(const IsVersion *version);

/*
 * Take apart what was packed: as many versions, NULL for changes that have
 * none; tags are not set.  All is in CurrentMemoryContext, and none of it in
 * packed.  Error XX001 if it has another form.
 */
extern IsVersion **is_version_unpack(const bytea *packed, int *n);

/*
 * What the tuples of a shape look like now, with more attributes behind, left
 * to the caller.  A column has the name that it has now, as long as its
 * relation is there, and else the one that it had.  One whose type is gone or
 * is made of other things counts as dropped: its values can't be read.
 */
extern TupleDesc is_version_describe(const IsShape *shape, int more);

/* Is there a column of this name in the shape, be it readable or not? */
extern bool is_version_has_column(const IsShape *shape, TupleDesc desc,
								  const char *name);

#endif							/* IS_ROW_VERSION_H */
