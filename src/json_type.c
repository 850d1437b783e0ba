/*-------------------------------------------------------------------------
 *
 * json_type.c
 *	  Which types can be written as JSON, and what writing them needs.
 *
 * Only the catalogs are read here: no code of a type or of its owner runs.
 *
 * Copyright (c) 2026, the iterable_sync developers
 *-------------------------------------------------------------------------
 */
#include "json_internal.h"

#include "access/htup_details.h"
#include "catalog/dependency.h"
#include "catalog/pg_type.h"
#include "commands/extension.h"
#include "miscadmin.h"
#include "utils/builtins.h"
#include "utils/lsyscache.h"
#include "utils/memutils.h"
#include "utils/syscache.h"
#include "utils/typcache.h"

#include "compat.h"

static Oid	init_type(IsJsonType *json_type, Oid type, pg_tz *zone, bool inside);

/* ----------------------------------------------------------------
 * Kinds
 * ----------------------------------------------------------------
 */

/*
 * The type hstore of the extension of this name.  Anybody may own an extension
 * and add types to it, but base types are made by superusers only.
 */
static bool
is_hstore(Oid type)
{
	HeapTuple	tuple = SearchSysCache1(TYPEOID, ObjectIdGetDatum(type));
	bool		named;
	Oid			extension;
	char	   *name;

	if (!HeapTupleIsValid(tuple))
		return false;
	named = strcmp(NameStr(((Form_pg_type) GETSTRUCT(tuple))->typname), "hstore") == 0;
	ReleaseSysCache(tuple);
	if (!named)
		return false;
	extension = getExtensionOfObject(TypeRelationId, type);
	name = OidIsValid(extension) ? get_extension_name(extension) : NULL;
	return name != NULL && strcmp(name, "hstore") == 0;
}

/* The kind of a type that is no domain; false: there is none. */
static bool
get_kind(Oid type, IsJsonKind *kind)
{
	char		category;
	bool		preferred;

	switch (type)
	{
		case INT2OID:
			*kind = IS_JSON_INT2;
			return true;
		case INT4OID:
			*kind = IS_JSON_INT4;
			return true;
		case INT8OID:
			*kind = IS_JSON_INT8;
			return true;
		case NUMERICOID:
			*kind = IS_JSON_NUMERIC;
			return true;
		case FLOAT4OID:
			*kind = IS_JSON_FLOAT4;
			return true;
		case FLOAT8OID:
			*kind = IS_JSON_FLOAT8;
			return true;
		case BOOLOID:
			*kind = IS_JSON_BOOL;
			return true;
		case TEXTOID:
		case VARCHAROID:
			*kind = IS_JSON_TEXT;
			return true;
		case BPCHAROID:
			*kind = IS_JSON_BPCHAR;
			return true;
		case NAMEOID:
		case CHAROID:
		case UUIDOID:
			*kind = IS_JSON_STRING;
			return true;
		case TIMEOID:
		case TIMETZOID:
		case INETOID:
		case CIDROID:
		case MACADDROID:
		case MACADDR8OID:
		case BITOID:
		case VARBITOID:
		case XMLOID:
			*kind = IS_JSON_WORD;
			return true;
		case DATEOID:
			*kind = IS_JSON_DATE;
			return true;
		case TIMESTAMPOID:
			*kind = IS_JSON_TIMESTAMP;
			return true;
		case TIMESTAMPTZOID:
			*kind = IS_JSON_TIMESTAMPTZ;
			return true;
		case INTERVALOID:
			*kind = IS_JSON_INTERVAL;
			return true;
		case JSONOID:
			*kind = IS_JSON_JSON;
			return true;
		case JSONBOID:
			*kind = IS_JSON_JSONB;
			return true;
		case BYTEAOID:
			*kind = IS_JSON_BYTEA;
			return true;
		case POINTOID:
			*kind = IS_JSON_POINT;
			return true;
	}

	if (OidIsValid(get_element_type(type)))
	{
		*kind = IS_JSON_ARRAY;
		return true;
	}
	switch (get_typtype(type))
	{
		case TYPTYPE_ENUM:
			*kind = IS_JSON_STRING;
			return true;
		case TYPTYPE_RANGE:
			*kind = IS_JSON_RANGE;
			return true;
		case TYPTYPE_MULTIRANGE:
			*kind = IS_JSON_MULTIRANGE;
			return true;
		case TYPTYPE_COMPOSITE:
			*kind = IS_JSON_ROW;
			return true;
		case TYPTYPE_BASE:
			break;
		default:
			return false;
	}

	if (is_hstore(type))
	{
		*kind = IS_JSON_HSTORE;
		return true;
	}

	/* citext and its like; base types are made by superusers only */
	get_type_category_preferred(type, &category, &preferred);
	*kind = IS_JSON_STRING;
	return category == TYPCATEGORY_STRING;
}

/* ----------------------------------------------------------------
 * What is inside
 * ----------------------------------------------------------------
 */

static Oid
init_element(IsJsonType *json_type, Oid element, pg_tz *zone)
{
	Oid			refused;

	json_type->element = palloc_object(IsJsonType);
	refused = init_type(json_type->element, element, zone, true);
	json_type->has_local_time = json_type->element->has_local_time;
	return refused;
}

static char *
make_label(const char *name)
{
	StringInfoData label;
	int			len;
	char	   *utf8 = is_json_to_utf8(name, strlen(name), &len);

	if (utf8 == NULL)
		ereport(ERROR,
				(errcode(ERRCODE_CHARACTER_NOT_IN_REPERTOIRE),
				 errmsg("name of an attribute is not valid in UTF-8")));
	initStringInfo(&label);
	is_json_append_utf8(&label, utf8, len);
	appendStringInfoChar(&label, ':');
	return label.data;
}

static Oid
init_row(IsJsonType *json_type, Oid type, pg_tz *zone)
{
	TypeCacheEntry *entry = lookup_type_cache(type, TYPECACHE_TUPDESC);
	IsJsonRow  *row = palloc_object(IsJsonRow);

	row->type = type;
	row->identifier = entry->tupDesc_identifier;
	row->desc = CreateTupleDescCopyConstr(entry->tupDesc);
	row->attributes = palloc0_array(IsJsonAttribute, row->desc->natts);
	for (int i = 0; i < row->desc->natts; i++)
	{
		Form_pg_attribute attribute = TupleDescAttr(row->desc, i);
		IsJsonAttribute *target = &row->attributes[i];
		Oid			refused;

		if (attribute->attisdropped)
			continue;
		refused = init_type(&target->type, attribute->atttypid, zone, true);
		if (OidIsValid(refused))
			return refused;
		target->label = make_label(NameStr(attribute->attname));
		target->label_len = strlen(target->label);
		json_type->has_local_time |= target->type.has_local_time;
	}
	json_type->row = row;
	return InvalidOid;
}

/* inside: it is part of another type. */
static Oid
init_type(IsJsonType *json_type, Oid type, pg_tz *zone, bool inside)
{
	Oid			base = getBaseType(type);
	Oid			output;

	check_stack_depth();
	memset(json_type, 0, sizeof(*json_type));
	json_type->type = type;
	json_type->zone = zone;
	if (!get_kind(base, &json_type->kind) ||
		(inside && json_type->kind == IS_JSON_POINT))
		return type;

	switch (json_type->kind)
	{
		case IS_JSON_STRING:
		case IS_JSON_WORD:
		case IS_JSON_HSTORE:
			getTypeOutputInfo(base, &output, &json_type->is_varlena);
			fmgr_info(output, &json_type->output);
			break;
		case IS_JSON_TIMESTAMP:
			json_type->has_local_time = true;
			break;
		case IS_JSON_ARRAY:
			get_typlenbyvalalign(get_element_type(base), &json_type->element_len,
								 &json_type->element_byval,
								 &json_type->element_align);
			return init_element(json_type, get_element_type(base), zone);
		case IS_JSON_RANGE:
			json_type->range = lookup_type_cache(base, TYPECACHE_RANGE_INFO);
			return init_element(json_type, json_type->range->rngelemtype->type_id,
								zone);
		case IS_JSON_MULTIRANGE:
			json_type->range =
				lookup_type_cache(base, TYPECACHE_MULTIRANGE_INFO)->rngtype;
			return init_element(json_type, json_type->range->rngelemtype->type_id,
								zone);
		case IS_JSON_ROW:
			return init_row(json_type, base, zone);
		default:
			break;
	}
	return InvalidOid;
}

Oid
is_json_init(IsJsonType *json_type, Oid type, pg_tz *zone)
{
	return init_type(json_type, type, zone, false);
}

/* ----------------------------------------------------------------
 * Changes
 * ----------------------------------------------------------------
 */

void
is_json_refresh_row(IsJsonType *json_type)
{
	IsJsonRow  *row = json_type->row;
	TypeCacheEntry *entry = lookup_type_cache(row->type, TYPECACHE_TUPDESC);
	MemoryContext old;
	IsJsonType	now;
	Oid			refused;

	if (likely(entry->tupDesc_identifier == row->identifier))
		return;

	/* Of a table it is another one also after VACUUM. */
	if (equalTupleDescs(entry->tupDesc, row->desc))
	{
		row->identifier = entry->tupDesc_identifier;
		return;
	}

	/* what it was goes with the layout */
	old = MemoryContextSwitchTo(GetMemoryChunkContext(row));
	refused = is_json_init(&now, json_type->type, json_type->zone);
	MemoryContextSwitchTo(old);
	if (OidIsValid(refused))
		ereport(ERROR,
				(errcode(ERRCODE_FEATURE_NOT_SUPPORTED),
				 errmsg("a value of type %s cannot be sent to Iterable",
						format_type_be(json_type->type)),
				 errdetail("It has a value of type %s in it.",
						   format_type_be(refused)),
				 errhint("Map an expression instead that gives another type, for example a cast to text.")));
	*json_type = now;
}

void
is_json_refresh(IsJsonType *json_type)
{
	if (json_type->element)
		is_json_refresh(json_type->element);
	if (json_type->row == NULL)
		return;
	is_json_refresh_row(json_type);
	for (int i = 0; i < json_type->row->desc->natts; i++)
		if (json_type->row->attributes[i].label)
			is_json_refresh(&json_type->row->attributes[i].type);
}
