/*
 * merge.c
 *		Stored dataFields: merging what is sent into what is there.
 *
 * The text of scalars is kept as it was sent, so numbers stay exact.  Members
 * are matched by their fields (an interned name), which costs one hash look-up
 * a member however many there are.
 */
#include "merge.h"

#include <stdlib.h>
#include <string.h>

#include "identifiers.h"

typedef struct Incoming
{
	const cJSON *value;
	Field	   *field;
	bool		done;
} Incoming;

typedef struct Merge
{
	const Document *document;
	uint64_t	mark;			/* fields with this mark are in incoming */
	Incoming   *incoming;
	size_t		count;
	size_t		guess;			/* which of them may be the next stored one */
	Buffer	   *out;
} Merge;

static uint64_t last_mark;

static void write_value(Buffer *out, const Document *document,
						const cJSON *value, const Field *field);
static void merge_into(Buffer *out, const char *existing,
					   const Document *document, const cJSON *incoming,
					   const Field *root, bool merge_nested);

static void
write_name(Buffer *out, const Field *field)
{
	if (out->data[out->len - 1] != '{')
		buffer_char(out, ',');
	buffer_char(out, '"');
	buffer_append(out, field->name, field->name_len);
	buffer_text(out, "\":");
}

/* the members of a geo location have no fields of their own */
static void
write_geo(Buffer *out, const Document *document, const cJSON *object)
{
	buffer_char(out, '{');
	for (const cJSON *value = object->child; value != NULL; value = value->next)
	{
		if (value != object->child)
			buffer_char(out, ',');
		buffer_json_string(out, value->string);
		buffer_char(out, ':');
		write_value(out, document, value, NULL);
	}
	buffer_char(out, '}');
}

static void
write_object(Buffer *out, const Document *document, const cJSON *object)
{
	buffer_char(out, '{');
	for (const cJSON *value = object->child; value != NULL; value = value->next)
	{
		Field	   *field = json_note(value);

		/* null is the absence of a value, inside of objects too */
		if (field == NULL || json_is(value, cJSON_NULL))
			continue;
		write_name(out, field);
		write_value(out, document, value, field);
	}
	buffer_char(out, '}');
}

static void
write_value(Buffer *out, const Document *document, const cJSON *value,
			const Field *field)
{
	const char *raw;
	size_t		len;

	if (json_is(value, cJSON_Object))
	{
		if (field == NULL || field->type == FIELD_GEO_LOCATION)
			write_geo(out, document, value);
		else
			write_object(out, document, value);
	}
	else if (json_is(value, cJSON_Array))
	{
		buffer_char(out, '[');
		for (const cJSON *item = value->child; item != NULL; item = item->next)
		{
			if (item != value->child)
				buffer_char(out, ',');
			write_value(out, document, item, field);
		}
		buffer_char(out, ']');
	}
	else
	{
		raw = json_raw(document, value, &len);
		buffer_append(out, raw, len);
	}
}

/* e-mail and user id are the user's identity, not data of the profile */
static bool
is_identity(const Field *root, const Field *field)
{
	return root == fields_profile_root() &&
		(strcmp(field->name, "email") == 0 ||
		 strcmp(field->name, "userId") == 0);
}

static void
collect_incoming(Merge *merge, const cJSON *object, const Field *root)
{
	size_t		room = 0;

	for (const cJSON *value = object->child; value != NULL; value = value->next)
		room++;
	merge->incoming = json_scratch(room * sizeof(Incoming));
	for (const cJSON *value = object->child; value != NULL; value = value->next)
	{
		/* null may delete a field, but it has none noted */
		Field	   *field = json_is(value, cJSON_NULL)
			? field_lookup(root, value->string) : json_note(value);

		if (field == NULL || is_identity(root, field))
			continue;
		if (field->mark == merge->mark)
		{
			/* the same name twice: the last one counts */
			merge->incoming[field->mark_index].value = value;
			continue;
		}
		field->mark = merge->mark;
		field->mark_index = merge->count;
		merge->incoming[merge->count++] = (Incoming) {
			.value = value,.field = field
		};
	}
}

/* most often the stored members come in the same order as the incoming ones */
static Field *
find_stored(Merge *merge, const Field *root, const char *name, size_t len)
{
	if (merge->guess < merge->count)
	{
		Field	   *field = merge->incoming[merge->guess++].field;

		if (field->name_len == len && memcmp(field->name, name, len) == 0)
			return field;
	}
	return field_lookup_escaped(root, name, len);
}

/* text is a stored member: "name":value; gives its end */
static const char *
merge_stored(Merge *merge, const char *text, const Field *root,
			 bool merge_nested)
{
	const char *name_end = json_skip(text);
	const char *value = name_end + 1;
	const char *end = json_skip(value);
	Field	   *field = find_stored(merge, root, text + 1,
									(size_t) (name_end - text) - 2);
	Incoming   *incoming;

	if (field == NULL || field->mark != merge->mark)
	{
		if (merge->out->data[merge->out->len - 1] != '{')
			buffer_char(merge->out, ',');
		buffer_append(merge->out, text, (size_t) (end - text));
		return end;
	}
	incoming = &merge->incoming[field->mark_index];
	incoming->done = true;
	if (json_is(incoming->value, cJSON_NULL))
		return end;
	write_name(merge->out, field);
	if (merge_nested && *value == '{' && json_is(incoming->value, cJSON_Object) &&
		field->type != FIELD_GEO_LOCATION)
		merge_into(merge->out, value, merge->document, incoming->value, field,
				   false);
	else
		write_value(merge->out, merge->document, incoming->value, field);
	return end;
}

static void
merge_into(Buffer *out, const char *existing, const Document *document,
		   const cJSON *incoming, const Field *root, bool merge_nested)
{
	Merge		merge = {.document = document,.mark = ++last_mark,.out = out};

	if (incoming != NULL)
		collect_incoming(&merge, incoming, root);
	buffer_char(out, '{');
	if (existing != NULL && existing[1] != '}')
	{
		const char *text = existing;

		/* the end of the object, which other text may follow, is a brace */
		do
			text = merge_stored(&merge, text + 1, root, merge_nested);
		while (*text == ',');
	}
	for (size_t i = 0; i < merge.count; i++)
	{
		Incoming   *member = &merge.incoming[i];

		if (member->done || json_is(member->value, cJSON_NULL))
			continue;
		write_name(out, member->field);
		write_value(out, document, member->value, member->field);
	}
	buffer_char(out, '}');
}

char *
merge_data(const char *existing, const Document *document,
		   const cJSON *incoming, const Field *root, bool merge_nested)
{
	static Buffer out;

	buffer_clear(&out);
	merge_into(&out, existing, document, incoming, root, merge_nested);
	return memcpy(xmalloc(out.len + 1), out.data, out.len + 1);
}

static void
write_with_dates(Buffer *out, const Document *document, const cJSON *value,
				 const Field *field)
{
	int64_t		seconds;
	char		text[DATE_TEXT_SIZE];

	if (field != NULL && field->type == FIELD_DATE && json_is(value, cJSON_String) &&
		date_parse(value->valuestring, strlen(value->valuestring), &seconds))
	{
		date_format(seconds, text);
		buffer_json_string(out, text);
	}
	else if (json_is(value, cJSON_Object) && field != NULL)
		write_data_with_dates(out, document, value, field);
	else if (json_is(value, cJSON_Array))
	{
		buffer_char(out, '[');
		for (const cJSON *item = value->child; item != NULL; item = item->next)
		{
			if (item != value->child)
				buffer_char(out, ',');
			write_with_dates(out, document, item, field);
		}
		buffer_char(out, ']');
	}
	else
		write_value(out, document, value, field);
}

void
write_data_with_dates(Buffer *out, const Document *document,
					  const cJSON *object, const Field *root)
{
	buffer_char(out, '{');
	for (const cJSON *value = object->child; value != NULL; value = value->next)
	{
		if (value != object->child)
			buffer_char(out, ',');
		buffer_json_string(out, value->string);
		buffer_char(out, ':');
		write_with_dates(out, document, value,
						 field_lookup(root, value->string));
	}
	buffer_char(out, '}');
}
