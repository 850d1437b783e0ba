/*-------------------------------------------------------------------------
 *
 * capture_row.c
 *	  The versions of rows in the buffer of the capture trigger.
 *
 * Values are copied as they are in the row, also compressed ones; only what is
 * out of line must be fetched.
 *
 * Copyright (c) 2026, the iterable_sync developers
 *-------------------------------------------------------------------------
 */
#include "capture_row.h"

#include "access/detoast.h"
#include "access/htup_details.h"
#include "utils/memutils.h"
#include "utils/rel.h"

#include "compat.h"

/*
 * A row that is larger than this is not stored: its payload could hardly be
 * sent, and the user's transaction must not fail for want of memory.
 */
#define MAX_VERSION_BYTES (64 * 1024 * 1024)

IsStoredColumns *
is_capture_row_resolve(Relation rel, const AttrNumber *attnums, int n)
{
	TupleDesc	desc = RelationGetDescr(rel);
	IsStoredColumns *columns = palloc0_object(IsStoredColumns);

	columns->attnums = palloc_array(AttrNumber, (n < 0 ? desc->natts : n) + 1);
	for (int i = 0; i < (n < 0 ? desc->natts : n); i++)
	{
		AttrNumber	attnum = n < 0 ? i + 1 : attnums[i];
		Form_pg_attribute att = TupleDescAttr(desc, attnum - 1);

		if (att->attisdropped || att->attgenerated == ATTRIBUTE_GENERATED_VIRTUAL)
			continue;
		columns->attnums[columns->n++] = attnum;
		columns->last = Max(columns->last, attnum);
	}

	columns->desc = CreateTemplateTupleDesc(columns->n);
	for (int i = 0; i < columns->n; i++)
		TupleDescCopyEntry(columns->desc, i + 1, desc, columns->attnums[i]);
	columns->shape = is_version_shape(rel, columns->attnums, columns->n);
	columns->composites = is_version_has_composites(columns->shape);
	columns->values = palloc_array(Datum, columns->n + 1);
	columns->nulls = palloc_array(bool, columns->n + 1);
	return columns;
}

/* What is out of line must be read from another table. */
bool
is_capture_row_may_fail(IsStoredColumns *columns, TupleTableSlot *slot)
{
	slot_getsomeattrs(slot, columns->last);
	for (int i = 0; i < columns->n; i++)
	{
		AttrNumber	attnum = columns->attnums[i];

		if (!slot->tts_isnull[attnum - 1] &&
			TupleDescAttr(columns->desc, i)->attlen == -1 &&
			VARATT_IS_EXTERNAL(DatumGetPointer(slot->tts_values[attnum - 1])))
			return true;
	}
	return false;
}

/* The number of a shape in the buffer; the one used last is at the end. */
static int
shape_number(IsVersionBuffer *buffer, const IsShape *shape)
{
	MemoryContext old;

	for (int i = buffer->nshapes - 1; i >= 0; i--)
		if (buffer->shapes[i]->size == shape->size &&
			memcmp(buffer->shapes[i], shape, shape->size) == 0)
			return i;

	old = MemoryContextSwitchTo(TopTransactionContext);
	if (buffer->nshapes == buffer->shapes_size)
	{
		buffer->shapes_size = Max(4, 2 * buffer->shapes_size);
		buffer->shapes = buffer->shapes ?
			repalloc(buffer->shapes, buffer->shapes_size * sizeof(IsShape *)) :
			palloc(buffer->shapes_size * sizeof(IsShape *));
	}
	buffer->shapes[buffer->nshapes] = memcpy(palloc(shape->size), shape, shape->size);
	MemoryContextSwitchTo(old);
	return buffer->nshapes++;
}

/* Room for one more; returns where it begins, all zero. */
static IsStoredVersion *
reserve(IsVersionBuffer *buffer, Size size)
{
	IsStoredVersion *stored;

	if (buffer->len + size > buffer->size)
	{
		Size		new_size = Max(Max(buffer->size * 2, 1024), buffer->len + size);

		buffer->data = buffer->data ? repalloc_huge(buffer->data, new_size) :
			MemoryContextAllocHuge(TopTransactionContext, new_size);
		buffer->size = new_size;
	}
	stored = (IsStoredVersion *) (buffer->data + buffer->len);
	memset(stored, 0, size);
	stored->size = size;
	buffer->len += size;
	return stored;
}

/*
 * Take the values of the columns out of the row, none of them out of line.
 * False if they are too large.
 */
static bool
take_values(IsStoredColumns *columns, TupleTableSlot *slot, bool *has_null)
{
	Size		size = 0;

	slot_getsomeattrs(slot, columns->last);
	*has_null = false;
	for (int i = 0; i < columns->n; i++)
	{
		AttrNumber	attnum = columns->attnums[i];

		columns->values[i] = slot->tts_values[attnum - 1];
		columns->nulls[i] = slot->tts_isnull[attnum - 1];
		if (columns->nulls[i])
			*has_null = true;
		else if (TupleDescAttr(columns->desc, i)->attlen == -1)
			size += toast_datum_size(columns->values[i]);
	}
	if (size > MAX_VERSION_BYTES)
		return false;

	for (int i = 0; i < columns->n; i++)
		if (!columns->nulls[i] && TupleDescAttr(columns->desc, i)->attlen == -1 &&
			VARATT_IS_EXTERNAL(DatumGetPointer(columns->values[i])))
			columns->values[i] =
				PointerGetDatum(detoast_external_attr((struct varlena *)
													  DatumGetPointer(columns->values[i])));
	return true;
}

void
is_capture_row_append(IsVersionBuffer *buffer, IsStoredColumns *columns,
					  TupleTableSlot *slot)
{
	bool		has_null;
	Size		hoff;
	Size		data_len;
	IsStoredVersion *stored;
	MinimalTuple tuple;

	if (columns == NULL || !take_values(columns, slot, &has_null))
	{
		(void) reserve(buffer, sizeof(IsStoredVersion));
		return;
	}

	/* as heap_form_minimal_tuple() does it, but in place */
	hoff = MAXALIGN(SizeofMinimalTupleHeader + (has_null ? BITMAPLEN(columns->n) : 0));
	data_len = heap_compute_data_size(columns->desc, columns->values, columns->nulls);
	stored = reserve(buffer, MAXALIGN(sizeof(IsStoredVersion) + hoff + data_len));
	stored->shape = shape_number(buffer, columns->shape);
	tuple = IS_VERSION_TUPLE(stored);
	tuple->t_len = hoff + data_len;
	HeapTupleHeaderSetNatts(tuple, columns->n);
	tuple->t_hoff = hoff + MINIMAL_TUPLE_OFFSET;
	heap_fill_tuple(columns->desc, columns->values, columns->nulls,
					(char *) tuple + hoff, data_len, &tuple->t_infomask,
					has_null ? tuple->t_bits : NULL);
}

bytea *
is_capture_row_pack(const IsVersionBuffer *buffer, Size from, int n)
{
	return is_version_pack(buffer->shapes, buffer->nshapes, buffer->data + from,
						   buffer->len - from, n);
}
