/*-------------------------------------------------------------------------
 *
 * layout.c
 *	  From the mappings of a sync to the shape of its payloads.
 *
 * Copyright (c) 2026, the iterable_sync developers
 *-------------------------------------------------------------------------
 */
#include "layout.h"

#include "catalog/pg_type.h"
#include "utils/builtins.h"
#include "utils/lsyscache.h"

#include "compat.h"
#include "render.h"
#include "time_zone.h"

#define DATA_FIELDS "dataFields"

/* Iterable takes fields of such names for places. */
#define GEO_SUFFIX "_geo_location"

/* Names of the fields with a meaning, by IsField; the first two go with users. */
static const char *const field_names[] = {
	"email", "userId", "eventName", "id", "createdAt", "campaignId", "templateId"
};

/* ----------------------------------------------------------------
 * Mappings
 * ----------------------------------------------------------------
 */

static IsField
field_of(IsObject object, const char *destination)
{
	int			n = object == IS_OBJECT_EVENT ? lengthof(field_names) : 2;

	for (int i = 0; i < n; i++)
		if (strcmp(destination, field_names[i]) == 0)
			return (IsField) i;
	return IS_FIELD_DATA;
}

bool
is_layout_has_meaning(IsObject object, const char *destination)
{
	return field_of(object, destination) != IS_FIELD_DATA;
}

static bool
has_field(const IsSync *sync, IsField field)
{
	ListCell   *lc;

	foreach(lc, sync->mappings)
		if (field_of(sync->object, ((IsMapping *) lfirst(lc))->destination) == field)
			return true;
	return false;
}

bool
is_layout_has_time(const IsSync *sync)
{
	return has_field(sync, IS_FIELD_CREATED_AT);
}

List *
is_layout_mappings(const IsSync *sync, IsProjectType project_type)
{
	bool		email = has_field(sync, IS_FIELD_EMAIL);
	bool		user_id = has_field(sync, IS_FIELD_USER_ID);
	bool		fit = user_id || (email && project_type != IS_PROJECT_USERID);
	List	   *mappings = list_copy(sync->mappings);

	if (!fit && (sync->match_field == NULL || project_type == IS_PROJECT_HYBRID))
		ereport(ERROR,
				(errcode(ERRCODE_INVALID_PARAMETER_VALUE),
				 errmsg("sync \"%s\" has no identifier", sync->name),
				 sync->match_field ?
				 errdetail("In a hybrid project the match field may be either identifier.") : 0,
				 project_type == IS_PROJECT_USERID ?
				 errhint("Add a mapping to \"userId\", or create the sync with a match_field.") :
				 project_type == IS_PROJECT_HYBRID ?
				 errhint("Add a mapping to \"email\" or to \"userId\".") :
				 errhint("Add a mapping to \"email\" or to \"userId\", or create the sync with a match_field.")));
	if (!fit)
	{
		IsMapping  *mapping = palloc0_object(IsMapping);

		mapping->destination =
			pstrdup(field_names[project_type == IS_PROJECT_USERID ?
								IS_FIELD_USER_ID : IS_FIELD_EMAIL]);
		mapping->column_name = sync->match_field;
		mappings = lappend(mappings, mapping);
	}

	if (sync->object == IS_OBJECT_EVENT && !has_field(sync, IS_FIELD_EVENT_NAME))
		ereport(ERROR,
				(errcode(ERRCODE_INVALID_PARAMETER_VALUE),
				 errmsg("sync \"%s\" has no event name", sync->name),
				 errhint("Add a mapping to \"eventName\".")));

	if (sync->capture == IS_CAPTURE_VERSIONS && has_field(sync, IS_FIELD_EVENT_ID))
		ereport(ERROR,
				(errcode(ERRCODE_INVALID_PARAMETER_VALUE),
				 errmsg("sync \"%s\" gives its events ids of their own", sync->name),
				 errhint("Drop the mapping to \"id\", or use versions => false.")));

	/* It would find no event: those that this sync could know it never made. */
	if (sync->object == IS_OBJECT_EVENT && sync->mode == IS_MODE_UPDATE &&
		!has_field(sync, IS_FIELD_EVENT_ID))
		ereport(ERROR,
				(errcode(ERRCODE_INVALID_PARAMETER_VALUE),
				 errmsg("sync \"%s\" cannot update events without their ids", sync->name),
				 errhint("Add a mapping to \"id\", or use the mode upsert.")));
	return mappings;
}

/* ----------------------------------------------------------------
 * Types
 * ----------------------------------------------------------------
 */

static void
refuse_type(Oid type, const char *destination, const char *wanted)
{
	ereport(ERROR,
			(errcode(ERRCODE_DATATYPE_MISMATCH),
			 errmsg("a value of type %s cannot be sent as \"%s\"",
					format_type_be(type), destination),
			 errhint("Map %s.", wanted)));
}

/* refused: the type itself, or the one in it that can't be sent. */
static void
report_refused(Oid type, Oid refused, const char *destination)
{
	const char *hint;

	switch (getBaseType(refused))
	{
		case MONEYOID:
			hint = "Map an expression instead that casts it to numeric.";
			break;
		case POINTOID:
			hint = refused == type ?
				"Let the name of the field end in \"" GEO_SUFFIX "\" if the point is a place (longitude, latitude), or map an expression that gives another type." :
				"Map the point alone to a field whose name ends in \"" GEO_SUFFIX "\" if it is a place (longitude, latitude), or map an expression that gives another type.";
			break;
		default:
			hint = "Map an expression instead that gives another type, for example a cast to text.";
			break;
	}
	ereport(ERROR,
			(errcode(ERRCODE_FEATURE_NOT_SUPPORTED),
			 errmsg("a value of type %s cannot be sent to Iterable",
					format_type_be(type)),
			 refused == type ?
			 errdetail("It is mapped to \"%s\".", destination) :
			 errdetail("It is mapped to \"%s\", and has a value of type %s in it.",
					   destination, format_type_be(refused)),
			 errhint("%s", hint)));
}

/*
 * The source's whole row, which is kept as name.*: in a query's list that would
 * be several columns.
 */
static void
refuse_whole_row(const IsMapping *mapping, Oid type)
{
	Size		len = mapping->expression ? strlen(mapping->expression) : 0;

	if (len > 2 && strcmp(mapping->expression + len - 2, ".*") == 0)
		ereport(ERROR,
				(errcode(ERRCODE_FEATURE_NOT_SUPPORTED),
				 errmsg("a value of type %s cannot be sent to Iterable",
						format_type_be(type)),
				 errdetail("It is mapped to \"%s\", and is the whole row of the source.",
						   mapping->destination),
				 errhint("Map the columns one by one, for example with iterable_map_columns().")));
}

/* Would Iterable take a field of this name for a place? */
static bool
is_geo(const IsMember *member)
{
	Size		len = strlen(member->name);

	return member->field == IS_FIELD_DATA && len >= strlen(GEO_SUFFIX) &&
		strcmp(member->name + len - strlen(GEO_SUFFIX), GEO_SUFFIX) == 0;
}

/* Look up the type of a member and see whether it fits. */
static void
set_type(IsMember *member, Oid type, pg_tz *zone)
{
	const char *destination = member->destination;
	IsJsonKind	kind;
	Oid			refused = is_json_init(&member->type, type, zone);

	if (!OidIsValid(refused) && member->type.kind == IS_JSON_POINT && !is_geo(member))
		refused = type;
	if (OidIsValid(refused))
		report_refused(type, refused, destination);

	kind = member->type.kind;
	switch (member->field)
	{
		case IS_FIELD_DATA:
			if (is_geo(member) && kind != IS_JSON_POINT &&
				kind != IS_JSON_JSON && kind != IS_JSON_JSONB)
				refuse_type(type, destination,
							"a point (longitude, latitude), or json or jsonb such as {\"lat\": 59.9, \"lon\": 10.7}");
			break;
		case IS_FIELD_CREATED_AT:
			if (kind != IS_JSON_TIMESTAMP && kind != IS_JSON_TIMESTAMPTZ &&
				kind != IS_JSON_DATE && kind != IS_JSON_INT2 &&
				kind != IS_JSON_INT4 && kind != IS_JSON_INT8)
				refuse_type(type, destination,
							"a timestamp, a date, or an integer of seconds since 1970");
			break;
		case IS_FIELD_CAMPAIGN_ID:
		case IS_FIELD_TEMPLATE_ID:
			if (!is_json_is_text(kind) || kind == IS_JSON_STRING)
				refuse_type(type, destination, "an integer");
			break;
		default:
			if (!is_json_is_text(kind))
				refuse_type(type, destination, "a text, an integer or a uuid");
			break;
	}
}

void
is_render_check_type(Oid type, const char *destination)
{
	IsMember	member = {
		.field = field_of(IS_OBJECT_USER, destination), /* both objects have these */
		.destination = destination,
		.name = unconstify(char *, destination),
	};

	set_type(&member, type, NULL);
}

/* A time zone must have something to do. */
static void
check_time_zone(const IsMember *member)
{
	if (member->constant == NULL &&
		(member->type.has_local_time ||
		 (member->field == IS_FIELD_CREATED_AT && member->type.kind == IS_JSON_DATE)))
		return;
	ereport(ERROR,
			(errcode(ERRCODE_INVALID_PARAMETER_VALUE),
			 errmsg("mapping to \"%s\" cannot have a time zone", member->destination),
			 member->constant ?
			 errdetail("A constant is no time.") :
			 errdetail("There is no timestamp without time zone in a value of type %s.",
					   format_type_be(member->type.type)),
			 errhint("Leave the time zone out.")));
}

/* ----------------------------------------------------------------
 * Members
 * ----------------------------------------------------------------
 */

static char *
to_utf8(const char *text, const char *destination)
{
	int			len;
	char	   *utf8 = is_json_to_utf8(text, strlen(text), &len);

	if (utf8 == NULL)
		ereport(ERROR,
				(errcode(ERRCODE_CHARACTER_NOT_IN_REPERTOIRE),
				 errmsg("mapping to \"%s\" is not valid in UTF-8", destination)));
	return utf8 == text ? pstrdup(text) : utf8;
}

static char *
to_json_string(const char *utf8)
{
	StringInfoData json;

	initStringInfo(&json);
	is_json_append_utf8(&json, utf8, strlen(utf8));
	return json.data;
}

static IsMember *
make_member(const char *name, const char *destination)
{
	IsMember   *member = palloc0_object(IsMember);

	member->field = IS_FIELD_DATA;
	member->column = -1;
	member->destination = destination;
	member->name = pstrdup(name);
	member->label = psprintf("%s:", to_json_string(to_utf8(name, destination)));
	member->label_len = strlen(member->label);
	return member;
}

static void
set_constant(IsMember *member, const char *constant)
{
	int64		number;
	char	   *end;

	member->constant = to_utf8(constant, member->destination);
	switch (member->field)
	{
		case IS_FIELD_CREATED_AT:
		case IS_FIELD_CAMPAIGN_ID:
		case IS_FIELD_TEMPLATE_ID:
			errno = 0;
			number = strtoi64(constant, &end, 10);
			if (errno != 0 || end == constant || *end != '\0')
				ereport(ERROR,
						(errcode(ERRCODE_INVALID_PARAMETER_VALUE),
						 errmsg("constant for \"%s\" is not an integer",
								member->destination)));
			member->constant_json = psprintf(INT64_FORMAT, number);
			break;
		case IS_FIELD_EVENT_NAME:
			if (constant[0] == '\0')
				ereport(ERROR,
						(errcode(ERRCODE_INVALID_PARAMETER_VALUE),
						 errmsg("constant for \"%s\" is empty",
								member->destination)));
			pg_fallthrough;
		default:
			if (is_geo(member))
				ereport(ERROR,
						(errcode(ERRCODE_INVALID_PARAMETER_VALUE),
						 errmsg("constant for \"%s\" is not a place",
								member->destination),
						 errhint("Map a point (longitude, latitude), or json or jsonb such as {\"lat\": 59.9, \"lon\": 10.7}.")));
			member->constant_json = to_json_string(member->constant);
			break;
	}
}

static void
report_conflict(const char *destination, const char *other)
{
	ereport(ERROR,
			(errcode(ERRCODE_INVALID_PARAMETER_VALUE),
			 errmsg("mapping to \"%s\" conflicts with the mapping to \"%s\"",
					destination, other)));
}

/* The member of this name in an object, made at its end if there is none. */
static IsMember *
get_member(IsMember *object, const char *name, const char *destination, bool leaf)
{
	IsMember  **place = &object->members;

	while (*place != NULL && strcmp((*place)->name, name) != 0)
		place = &(*place)->next;
	if (*place == NULL)
		*place = make_member(name, destination);
	else if (leaf || (*place)->members == NULL)
		report_conflict(destination, (*place)->destination);
	return *place;
}

/* The place of a path in dataFields. */
static IsMember *
get_place(IsMember *data, const IsSync *sync, const char *destination)
{
	char	   *name = pstrdup(destination);
	IsMember   *object = data;
	bool		nested = false;

	if (strncmp(name, DATA_FIELDS ".", strlen(DATA_FIELDS ".")) == 0)
		name += strlen(DATA_FIELDS ".");
	for (;;)
	{
		char	   *dot = strchr(name, '.');
		IsMember   *member;

		if (dot)
			*dot = '\0';
		if (*name == '\0' || strcmp(destination, DATA_FIELDS) == 0)
			ereport(ERROR,
					(errcode(ERRCODE_INVALID_PARAMETER_VALUE),
					 errmsg("invalid destination \"%s\"", destination),
					 errhint("Write a field such as \"plan\", or a path such as \"address.city\".")));
		member = get_member(object, name, destination, dot == NULL);
		if (dot == NULL)
		{
			if (!nested && sync->object == IS_OBJECT_USER)
			{
				IsField		field = field_of(IS_OBJECT_USER, name);

				if (field == IS_FIELD_EMAIL)
					member->field = IS_FIELD_DATA_EMAIL;
				else if (field == IS_FIELD_USER_ID)
					member->field = IS_FIELD_DATA_USER_ID;
			}
			return member;
		}
		object = member;
		nested = true;
		name = dot + 1;
	}
}

IsLayout *
is_layout_build(const IsSync *sync, const List *mappings, const Oid *types)
{
	IsLayout   *layout = palloc0_object(IsLayout);
	IsMember   *data = make_member(DATA_FIELDS, DATA_FIELDS);
	int			ncolumns = 0;
	ListCell   *lc;

	foreach(lc, mappings)
	{
		const IsMapping *mapping = lfirst(lc);
		const char *destination = mapping->destination;
		IsField		field = field_of(sync->object, destination);
		IsMember   *member;

		if (field == IS_FIELD_DATA)
			member = get_place(data, sync, destination);
		else
		{
			if (layout->fields[field] != NULL)
				report_conflict(destination, destination);
			member = make_member(destination, destination);
			member->field = field;
			layout->fields[field] = member;
		}

		member->clear_null = mapping->clear_null;
		if (mapping->constant)
			set_constant(member, mapping->constant);
		else if (mapping->column_name || mapping->expression)
		{
			member->column = ncolumns++;
			refuse_whole_row(mapping, types[member->column]);
			set_type(member, types[member->column],
					 mapping->time_zone ? is_time_zone_get(mapping->time_zone) : NULL);
		}
		if (mapping->time_zone)
			check_time_zone(member);
	}

	if (data->members)
		layout->fields[IS_FIELD_DATA] = data;
	return layout;
}

static void
refresh_member(IsMember *member)
{
	if (member->column >= 0)
		is_json_refresh(&member->type);
	for (IsMember *m = member->members; m; m = m->next)
		refresh_member(m);
}

void
is_layout_refresh(IsLayout *layout)
{
	for (int i = 0; i < (int) lengthof(layout->fields); i++)
		if (layout->fields[i])
			refresh_member(layout->fields[i]);
}
