/*-------------------------------------------------------------------------
 *
 * row_version.c
 *	  Versions of rows as they were committed.
 *
 * Copyright (c) 2026, the iterable_sync developers
 *-------------------------------------------------------------------------
 */
#include "row_version.h"

#include "access/htup_details.h"
#include "catalog/pg_class.h"
#include "catalog/pg_type.h"
#include "common/hashfn.h"
#include "miscadmin.h"
#include "utils/lsyscache.h"
#include "utils/rel.h"
#include "utils/syscache.h"

#include "compat.h"

typedef struct Header
{
	uint32		nshapes;
	uint32		nversions;
} Header;

#define FIRST_COLUMN(shape) \
	((IsShapeColumn *) ((char *) (shape) + sizeof(IsShape)))
#define NEXT_COLUMN(column) \
	((IsShapeColumn *) ((char *) (column) + (column)->size))

StaticAssertDecl(sizeof(Header) == MAXALIGN(sizeof(Header)) &&
				 sizeof(IsShape) == MAXALIGN(sizeof(IsShape)) &&
				 sizeof(IsStoredVersion) == MAXALIGN(sizeof(IsStoredVersion)),
				 "the parts of what is packed must be aligned");

/* ----------------------------------------------------------------
 * Shapes
 * ----------------------------------------------------------------
 */

static uint64 hash_composites(Oid type);

static uint64
hash_attributes(Oid relid)
{
	HeapTuple	tuple = SearchSysCache1(RELOID, ObjectIdGetDatum(relid));
	uint64		hash = 1;
	int			natts;

	if (!HeapTupleIsValid(tuple))
		return hash;
	natts = ((Form_pg_class) GETSTRUCT(tuple))->relnatts;
	ReleaseSysCache(tuple);
	for (int i = 1; i <= natts; i++)
	{
		Form_pg_attribute att;
		Oid			type;

		tuple = SearchSysCache2(ATTNUM, ObjectIdGetDatum(relid), Int16GetDatum(i));
		if (!HeapTupleIsValid(tuple))
			continue;
		att = (Form_pg_attribute) GETSTRUCT(tuple);
		type = att->attisdropped ? InvalidOid : att->atttypid;
		ReleaseSysCache(tuple);
		hash = hash_combine64(hash, hash_bytes_uint32_extended(type, i));
		if (OidIsValid(type))
			hash = hash_combine64(hash, hash_composites(type));
	}
	return hash;
}

/*
 * What the composite types in a type are made of, 0 if there are none.  The
 * attributes of a type in use can be added to and dropped, and of one that is
 * not in use any more they can be anything: values of before would be read as
 * what they are not.
 */
static uint64
hash_composites(Oid type)
{
	Oid			part = InvalidOid;

	check_stack_depth();
	type = getBaseType(type);
	switch (get_typtype(type))
	{
		case TYPTYPE_COMPOSITE:
			return hash_attributes(get_typ_typrelid(type));
		case TYPTYPE_RANGE:
			part = get_range_subtype(type);
			break;
		case TYPTYPE_MULTIRANGE:
			part = get_multirange_range(type);
			break;
		default:
			part = get_element_type(type);
			break;
	}
	return OidIsValid(part) ? hash_composites(part) : 0;
}

static Size
column_size(const char *name)
{
	return MAXALIGN(offsetof(IsShapeColumn, name) + strlen(name) + 1);
}

IsShape *
is_version_shape(Relation rel, const AttrNumber *attnums, int n)
{
	TupleDesc	desc = RelationGetDescr(rel);
	Size		size = sizeof(IsShape);
	IsShape    *shape;
	IsShapeColumn *column;

	for (int i = 0; i < n; i++)
		size += column_size(NameStr(TupleDescAttr(desc, attnums[i] - 1)->attname));
	shape = palloc0(size);
	shape->size = size;
	shape->relid = RelationGetRelid(rel);
	shape->owner = rel->rd_rel->relowner;
	shape->ncolumns = n;
	column = FIRST_COLUMN(shape);
	for (int i = 0; i < n; i++)
	{
		Form_pg_attribute att = TupleDescAttr(desc, attnums[i] - 1);

		column->composites = hash_composites(att->atttypid);
		column->type = att->atttypid;
		column->typmod = att->atttypmod;
		column->collation = att->attcollation;
		column->attlen = att->attlen;
		column->attnum = att->attnum;
		column->size = column_size(NameStr(att->attname));
		column->attbyval = att->attbyval;
		column->attalign = att->attalign;
		strcpy(column->name, NameStr(att->attname));
		column = NEXT_COLUMN(column);
	}
	return shape;
}

bool
is_version_has_composites(const IsShape *shape)
{
	const IsShapeColumn *column = FIRST_COLUMN(shape);

	for (uint32 i = 0; i < shape->ncolumns; i++, column = NEXT_COLUMN(column))
		if (column->composites != 0)
			return true;
	return false;
}

/* ----------------------------------------------------------------
 * Packing
 * ----------------------------------------------------------------
 */

/* Which shapes do n versions refer to? */
static bool *
used_shapes(int nshapes, const char *versions, int n)
{
	bool	   *used = palloc0_array(bool, nshapes);
	const char *p = versions;

	for (int i = 0; i < n; i++)
	{
		const IsStoredVersion *stored = (const IsStoredVersion *) p;

		if (stored->size > sizeof(IsStoredVersion))
			used[stored->shape] = true;
		p += stored->size;
	}
	return used;
}

bytea *
is_version_pack(IsShape *const *shapes, int nshapes, const char *versions,
				Size len, int n)
{
	Size		size = VARHDRSZ + sizeof(Header) + len;
	bool	   *used = used_shapes(nshapes, versions, n);
	uint32	   *numbers = palloc_array(uint32, nshapes);
	Header		header = {.nversions = n};
	bytea	   *packed;
	char	   *p;

	for (int i = 0; i < nshapes; i++)
		if (used[i])
		{
			numbers[i] = header.nshapes++;
			size += shapes[i]->size;
		}
	packed = palloc(size);
	SET_VARSIZE(packed, size);
	p = VARDATA(packed);
	memcpy(p, &header, sizeof(header));
	p += sizeof(header);
	for (int i = 0; i < nshapes; i++)
		if (used[i])
		{
			memcpy(p, shapes[i], shapes[i]->size);
			p += shapes[i]->size;
		}
	memcpy(p, versions, len);
	for (int i = 0; i < n && header.nshapes < (uint32) nshapes; i++)
	{
		IsStoredVersion stored;

		/* there is a gap of 4 bytes in front: nothing here is aligned */
		memcpy(&stored, p, sizeof(stored));
		if (stored.size > sizeof(stored))
		{
			stored.shape = numbers[stored.shape];
			memcpy(p, &stored, sizeof(stored));
		}
		p += stored.size;
	}
	pfree(used);
	pfree(numbers);
	return packed;
}

IsVersion *
is_version_copy(const IsVersion *version)
{
	IsVersion  *copy = palloc_object(IsVersion);

	copy->tag = pstrdup(version->tag);
	copy->shape = memcpy(palloc(version->shape->size), version->shape,
						 version->shape->size);
	copy->tuple = memcpy(palloc_extended(version->tuple->t_len, MCXT_ALLOC_HUGE),
						 version->tuple, version->tuple->t_len);
	return copy;
}

bytea *
is_version_pack_one(const IsVersion *version)
{
	IsShape    *shape = unconstify(IsShape *, version->shape);
	Size		size = MAXALIGN(sizeof(IsStoredVersion) + version->tuple->t_len);
	IsStoredVersion *stored = palloc0(size);

	stored->size = size;
	memcpy(IS_VERSION_TUPLE(stored), version->tuple, version->tuple->t_len);
	return is_version_pack(&shape, 1, (char *) stored, size, 1);
}

/* The next part, which starts with its size, or an error if it can't be one. */
static char *
take_part(char **p, const char *end, Size least)
{
	char	   *part = *p;
	Size		left = end - part;
	uint32		size = 0;

	if (left >= least)
		memcpy(&size, part, sizeof(size));
	if (size < least || size > left || size != MAXALIGN(size))
		ereport(ERROR,
				(errcode(ERRCODE_DATA_CORRUPTED),
				 errmsg("stored versions in the change log are damaged")));
	*p += size;
	return part;
}

IsVersion **
is_version_unpack(const bytea *packed, int *n)
{
	Size		len = VARSIZE_ANY_EXHDR(packed);

	/* a copy, since what is in a bytea is not aligned */
	char	   *p = memcpy(palloc_extended(len + 1, MCXT_ALLOC_HUGE), VARDATA_ANY(packed), len);
	const char *end = p + len;
	Header	   *header = (Header *) p;
	IsShape   **shapes;
	IsVersion **versions;

	if (len < sizeof(Header) || header->nshapes > len || header->nversions > len)
		ereport(ERROR,
				(errcode(ERRCODE_DATA_CORRUPTED),
				 errmsg("stored versions in the change log are damaged")));
	p += sizeof(Header);
	shapes = palloc_array(IsShape *, header->nshapes + 1);
	for (uint32 i = 0; i < header->nshapes; i++)
		shapes[i] = (IsShape *) take_part(&p, end, sizeof(IsShape));
	versions = palloc0_array(IsVersion *, header->nversions + 1);
	for (uint32 i = 0; i < header->nversions; i++)
	{
		IsStoredVersion *stored =
			(IsStoredVersion *) take_part(&p, end, sizeof(IsStoredVersion));

		if (stored->size == sizeof(IsStoredVersion) || stored->shape >= header->nshapes)
			continue;
		versions[i] = palloc0_object(IsVersion);
		versions[i]->shape = shapes[stored->shape];
		versions[i]->tuple = IS_VERSION_TUPLE(stored);
	}
	*n = header->nversions;
	return versions;
}

/* ----------------------------------------------------------------
 * Describing
 * ----------------------------------------------------------------
 */

/* The name that a column has now; NULL if it has gone. */
static char *
name_now(Oid relid, AttrNumber attnum)
{
	HeapTuple	tuple = SearchSysCache2(ATTNUM, ObjectIdGetDatum(relid),
										Int16GetDatum(attnum));
	char	   *name = NULL;

	if (!HeapTupleIsValid(tuple))
		return NULL;
	if (!((Form_pg_attribute) GETSTRUCT(tuple))->attisdropped)
		name = pstrdup(NameStr(((Form_pg_attribute) GETSTRUCT(tuple))->attname));
	ReleaseSysCache(tuple);
	return name;
}

static bool
is_readable(const IsShapeColumn *column)
{
	return SearchSysCacheExists1(TYPEOID, ObjectIdGetDatum(column->type)) &&
		column->composites == hash_composites(column->type);
}

/* Has a column that is there taken the name of one that has gone? */
static bool
is_name_taken(const IsShape *shape, const char *name)
{
	const IsShapeColumn *column = FIRST_COLUMN(shape);

	for (uint32 i = 0; i < shape->ncolumns; i++, column = NEXT_COLUMN(column))
	{
		const char *now = name_now(shape->relid, column->attnum);

		if (now && strcmp(now, name) == 0)
			return true;
	}
	return false;
}

TupleDesc
is_version_describe(const IsShape *shape, int more)
{
	TupleDesc	desc = CreateTemplateTupleDesc(shape->ncolumns + more);
	const IsShapeColumn *column = FIRST_COLUMN(shape);

	for (uint32 i = 0; i < shape->ncolumns; i++, column = NEXT_COLUMN(column))
	{
		const char *now = name_now(shape->relid, column->attnum);
		bool		gone = now == NULL && is_name_taken(shape, column->name);

		if (!gone && is_readable(column))
		{
			TupleDescInitEntry(desc, i + 1, now ? now : column->name,
							   column->type, column->typmod, 0);
			TupleDescInitEntryCollation(desc, i + 1, column->collation);
		}
		else
		{
			Form_pg_attribute att;

			TupleDescInitEntry(desc, i + 1, now ? now : column->name, INT4OID, -1, 0);
			att = TupleDescAttr(desc, i);
			att->atttypid = InvalidOid;
			att->attlen = column->attlen;
			att->attbyval = column->attbyval;
			att->attalign = column->attalign;
			att->attisdropped = true;
			is_tuple_desc_changed(desc, i);
		}
	}
	return desc;
}

bool
is_version_has_column(const IsShape *shape, TupleDesc desc, const char *name)
{
	for (uint32 i = 0; i < shape->ncolumns; i++)
		if (strcmp(NameStr(TupleDescAttr(desc, i)->attname), name) == 0)
			return true;
	return false;
}
