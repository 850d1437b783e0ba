/*
 * fields.c
 *		The fields of a project and their types.
 */
#include "fields.h"

#include <stdlib.h>
#include <string.h>

#include "identifiers.h"

static Table fields;
static Table event_roots;
static Field *profile_root;
static Field *oldest_field;
static Field *newest_field;
static size_t profile_count;
static size_t event_count;

static const char *const type_names[] = {
	"unknown", "string", "boolean", "long", "double", "date", "geo_location",
	"object", "nested"
};

static const struct
{
	const char *name;
	FieldType	type;
}			builtin_fields[] = {
	{"email", FIELD_STRING},
	{"userId", FIELD_STRING},
	{"signupDate", FIELD_DATE},
	{"signupSource", FIELD_STRING},
	{"profileUpdatedAt", FIELD_DATE},
	{"emailListIds", FIELD_LONG},
	{"userListIds", FIELD_LONG},
	{"unsubscribedChannelIds", FIELD_LONG},
	{"unsubscribedMessageTypeIds", FIELD_LONG},
	{"subscribedMessageTypeIds", FIELD_LONG},
};

static void
link_newest(Field *field)
{
	field->older = newest_field;
	if (newest_field != NULL)
		newest_field->newer = field;
	else
		oldest_field = field;
	newest_field = field;
}

static void
unlink_field(Field *field)
{
	if (field->older != NULL)
		field->older->newer = field->newer;
	else
		oldest_field = field->newer;
	if (field->newer != NULL)
		field->newer->older = field->older;
	else
		newest_field = field->older;
}

static Field *
new_root(const char *name, bool is_event)
{
	size_t		len = strlen(name);
	Field	   *root = xcalloc(1, sizeof(Field) + len + 1);

	root->type = FIELD_OBJECT;
	root->is_event = is_event;
	root->name_len = len;
	memcpy(root->name, name, len);
	return root;
}

static Field *
new_field(Field *parent, const char *name, size_t len)
{
	Field	   *field = xcalloc(1, sizeof(Field) + len + 1);

	field->parent = parent;
	field->is_event = parent->is_event;
	field->name_len = len;
	memcpy(field->name, name, len);
	table_insert(&fields, &field->link,
				 table_hash((uintptr_t) parent, name, len));
	link_newest(field);
	return field;
}

static void
free_field(Link *link)
{
	free(table_owner(link, Field, link));
}

void
fields_reset(void)
{
	table_empty(&fields, free_field);
	table_empty(&event_roots, free_field);
	free(profile_root);
	oldest_field = NULL;
	newest_field = NULL;
	profile_count = 0;
	event_count = 0;
	profile_root = new_root("", false);
	for (size_t i = 0; i < sizeof(builtin_fields) / sizeof(builtin_fields[0]); i++)
	{
		const char *name = builtin_fields[i].name;
		Field	   *field = new_field(profile_root, name, strlen(name));

		field->type = builtin_fields[i].type;
		field->is_builtin = true;
	}
}

Field *
fields_profile_root(void)
{
	return profile_root;
}

Field *
fields_event_root(const char *event_name)
{
	uint64_t	hash = table_hash_text(event_name);
	Field	   *root;

	for (Link *link = table_first(&event_roots, hash); link != NULL;
		 link = table_next(link))
	{
		root = table_owner(link, Field, link);
		if (strcmp(root->name, event_name) == 0)
			return root;
	}
	root = new_root(event_name, true);
	table_insert(&event_roots, &root->link, hash);
	return root;
}

Field *
fields_oldest(void)
{
	return oldest_field;
}

Field *
field_lookup_escaped(const Field *parent, const char *name, size_t len)
{
	uint64_t	hash = table_hash((uintptr_t) parent, name, len);

	for (Link *link = table_first(&fields, hash); link != NULL;
		 link = table_next(link))
	{
		Field	   *field = table_owner(link, Field, link);

		if (field->parent == parent && field->name_len == len &&
			memcmp(field->name, name, len) == 0)
			return field;
	}
	return NULL;
}

/* the name as JSON has it; in scratch only if it differs */
static const char *
escaped_name(const char *name, Buffer *scratch, size_t *len)
{
	for (const char *c = name;; c++)
	{
		if (*c == '\0')
		{
			*len = (size_t) (c - name);
			return name;
		}
		if ((unsigned char) *c < 0x20 || *c == '"' || *c == '\\')
			break;
	}
	buffer_clear(scratch);
	buffer_json_escaped(scratch, name, strlen(name));
	*len = scratch->len;
	return scratch->data;
}

Field *
field_lookup(const Field *parent, const char *name)
{
	static Buffer scratch;
	size_t		len;
	const char *escaped = escaped_name(name, &scratch, &len);

	return field_lookup_escaped(parent, escaped, len);
}

const char *
field_type_name(FieldType type)
{
	return type_names[type];
}

void
field_path(const Field *field, Buffer *out)
{
	if (field->parent->parent != NULL)
	{
		field_path(field->parent, out);
		buffer_char(out, '.');
	}
	buffer_append(out, field->name, field->name_len);
}

/* geo locations are known by their name */
static bool
is_geo_name(const Field *field)
{
	static const char suffix[] = "_geo_location";
	size_t		len = sizeof(suffix) - 1;

	return field->name_len >= len &&
		memcmp(field->name + field->name_len - len, suffix, len) == 0;
}

static FieldType
type_of(const Document *document, const Field *field, const cJSON *value)
{
	size_t		len;
	int64_t		seconds;
	FieldType	type = FIELD_UNKNOWN;

	switch (value->type & 0xff)
	{
		case cJSON_String:
			if (value->valuestring[0] < '0' || value->valuestring[0] > '9')
				return FIELD_STRING;
			len = strlen(value->valuestring);
			return date_parse(value->valuestring, len, &seconds)
				? FIELD_DATE : FIELD_STRING;
		case cJSON_True:
		case cJSON_False:
			return FIELD_BOOLEAN;
		case cJSON_Number:
			return json_is_integer(document, value)
				? FIELD_LONG : FIELD_DOUBLE;
		case cJSON_Object:
			return is_geo_name(field) ? FIELD_GEO_LOCATION : FIELD_OBJECT;
		case cJSON_Array:
			for (const cJSON *item = value->child; item != NULL; item = item->next)
			{
				FieldType	of_item = type_of(document, field, item);

				if (type == FIELD_UNKNOWN)
					type = of_item == FIELD_OBJECT ? FIELD_NESTED : of_item;
				else if (type == FIELD_LONG && of_item == FIELD_DOUBLE)
					type = FIELD_DOUBLE;
			}
			return type;
		default:
			return FIELD_UNKNOWN;
	}
}

/* the first value in there that a field of this type cannot hold, or NULL */
static const cJSON *
find_offender(const Document *document, const Field *field, const cJSON *value)
{
	FieldType	type;
	bool		fits;

	if (json_is(value, cJSON_Array))
	{
		for (const cJSON *item = value->child; item != NULL; item = item->next)
		{
			const cJSON *offender = find_offender(document, field, item);

			if (offender != NULL)
				return offender;
		}
		return NULL;
	}
	type = type_of(document, field, value);
	switch (field->type)
	{
		case FIELD_STRING:
			fits = type == FIELD_STRING || type == FIELD_DATE;
			break;
		case FIELD_DOUBLE:
			fits = type == FIELD_DOUBLE || type == FIELD_LONG;
			break;
		case FIELD_OBJECT:
		case FIELD_NESTED:
			fits = type == FIELD_OBJECT || type == FIELD_NESTED;
			break;
		default:
			fits = type == field->type;
	}
	return fits || type == FIELD_UNKNOWN ? NULL : value;
}

static void
report_mismatch(FieldCheck *check, const Field *field, const cJSON *offender)
{
	FieldType	type = type_of(check->document, field, offender);
	Buffer		path = {0};
	const char *category = check->is_event ? "customEvent" : "user";
	const char *first = type_names[type];
	const char *second = NULL;
	const char *raw;
	size_t		raw_len;

	if (type == FIELD_STRING)
		second = "keyword";
	else if (type == FIELD_DATE)
		second = "string";
	else if (type == FIELD_LONG)
		second = "double";

	field_path(field, &path);
	if (!set_has(&check->mismatched, path.data))
	{
		Buffer	   *out = &check->mismatches;

		set_add(&check->mismatched, path.data);
		buffer_printf(out, "%s\"%s\":{\"incomingTypes\":[\"%s\"",
					  out->len > 0 ? "," : "", path.data, first);
		if (second != NULL)
			buffer_printf(out, ",\"%s\"", second);
		buffer_printf(out, "],\"expectedType\":\"%s\",\"category\":\"%s\","
					  "\"offendingValue\":", type_names[field->type], category);
		raw = json_raw(check->document, offender, &raw_len);
		buffer_append(out, raw, raw_len);
		buffer_text(out, ",\"_type\":\"UnexpectedType\"}");
		if (check->mismatch_text.len == 0)
			buffer_printf(&check->mismatch_text,
						  "Field '%s' already exists for type '%s' and has a "
						  "data type of '%s' but possible types '%s%s%s' in "
						  "the request.", path.data, category,
						  type_names[field->type], first,
						  second != NULL ? ", " : "",
						  second != NULL ? second : "");
	}
	buffer_free(&path);
}

static void
push_field(Field ***list, size_t *count, size_t *room, Field *field)
{
	if (*count == *room)
	{
		*room = *room == 0 ? 16 : *room * 2;
		*list = xrealloc(*list, *room * sizeof(Field *));
	}
	(*list)[(*count)++] = field;
}

static void
filter_out(FieldCheck *check, Field *parent, const char *name, size_t len)
{
	Buffer		path = {0};

	if (parent->parent != NULL)
	{
		field_path(parent, &path);
		buffer_char(&path, '.');
	}
	buffer_append(&path, name, len);
	if (!set_has(&check->filtered, path.data))
	{
		set_add(&check->filtered, path.data);
		buffer_printf(&check->filtered_list, "%s\"%s\"",
					  check->filtered_list.len > 0 ? "," : "", path.data);
	}
	buffer_free(&path);
}

/* objects in the value have fields of their own */
static bool
check_inside(FieldCheck *check, Field *field, const cJSON *value, bool create)
{
	bool		ok = true;

	if (json_is(value, cJSON_Object) && field->type != FIELD_GEO_LOCATION)
		return fields_check(check, field, value, create);
	if (json_is(value, cJSON_Array))
		for (const cJSON *item = value->child; item != NULL; item = item->next)
			ok &= check_inside(check, field, item, create);
	return ok;
}

bool
fields_check(FieldCheck *check, Field *root, const cJSON *object, bool create)
{
	bool		ok = true;

	for (const cJSON *value = object->child; value != NULL; value = value->next)
	{
		Buffer		scratch = {0};
		size_t		len;
		const char *name;
		Field	   *field;
		const cJSON *offender;

		if (json_is(value, cJSON_NULL))
			continue;
		name = escaped_name(value->string, &scratch, &len);
		field = field_lookup_escaped(root, name, len);
		if (field == NULL && create)
		{
			field = new_field(root, name, len);
			if (field->is_event)
				event_count++;
			else
				profile_count++;
			field->type = type_of(check->document, field, value);
			push_field(&check->created, &check->created_count,
					   &check->created_room, field);
		}
		else if (field == NULL)
			filter_out(check, root, name, len);
		buffer_free(&scratch);
		if (field == NULL)
			continue;
		json_set_note(value, field);

		if (field->type == FIELD_UNKNOWN)
		{
			field->type = type_of(check->document, field, value);
			if (field->type != FIELD_UNKNOWN)
				push_field(&check->typed, &check->typed_count,
						   &check->typed_room, field);
		}
		offender = find_offender(check->document, field, value);
		if (offender != NULL)
		{
			report_mismatch(check, field, offender);
			ok = false;
		}
		else
			ok &= check_inside(check, field, value, create);
	}
	return ok;
}

bool
fields_over_limit(const FieldCheck *check, size_t limit, size_t *total)
{
	*total = check->is_event ? event_count : profile_count;
	return limit > 0 && check->created_count > 0 && *total > limit;
}

void
fields_created_list(const FieldCheck *check, Buffer *out)
{
	StringSet	listed = {0};
	Buffer		path = {0};
	size_t		start = out->len;

	for (size_t i = 0; i < check->created_count; i++)
	{
		buffer_clear(&path);
		field_path(check->created[i], &path);
		/* events of two names may have brought a field of the same name */
		if (set_has(&listed, path.data))
			continue;
		set_add(&listed, path.data);
		buffer_printf(out, "%s\"%s\"", out->len > start ? "," : "", path.data);
	}
	buffer_free(&path);
	set_clear(&listed);
}

void
fields_roll_back(FieldCheck *check)
{
	for (size_t i = 0; i < check->typed_count; i++)
		check->typed[i]->type = FIELD_UNKNOWN;
	/* the newest first: children before their parents */
	for (size_t i = check->created_count; i > 0; i--)
	{
		Field	   *field = check->created[i - 1];

		if (field->is_event)
			event_count--;
		else
			profile_count--;
		table_remove(&fields, &field->link);
		unlink_field(field);
		free(field);
	}
	check->created_count = 0;
	check->typed_count = 0;
}

void
fields_check_free(FieldCheck *check)
{
	free(check->created);
	free(check->typed);
	set_clear(&check->filtered);
	set_clear(&check->mismatched);
	buffer_free(&check->filtered_list);
	buffer_free(&check->mismatches);
	buffer_free(&check->mismatch_text);
}
