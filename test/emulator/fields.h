/*
 * fields.h
 *		The fields of a project and their types, which the first value of a
 *		field decides for ever.
 *
 * Everything here is guarded by the lock of the project.
 */
#ifndef EMULATOR_FIELDS_H
#define EMULATOR_FIELDS_H

#include "buffer.h"
#include "json.h"
#include "table.h"

typedef enum FieldType
{
	FIELD_UNKNOWN,				/* only seen without a value, as in [] */
	FIELD_STRING,
	FIELD_BOOLEAN,
	FIELD_LONG,
	FIELD_DOUBLE,
	FIELD_DATE,
	FIELD_GEO_LOCATION,
	FIELD_OBJECT,
	FIELD_NESTED
} FieldType;

/*
 * A field of the profile, of the events of one name, or within an object.
 * The roots are fields too: one for profiles, one for each event name.
 */
typedef struct Field
{
	Link		link;
	struct Field *parent;
	struct Field *newer;		/* all fields, in the order of creation */
	struct Field *older;
	FieldType	type;
	bool		is_event;
	bool		is_builtin;		/* Iterable's own: not counted as the user's */
	uint64_t	mark;			/* scratch of whoever merges objects */
	size_t		mark_index;
	size_t		name_len;
	char		name[];			/* escaped as in JSON */
} Field;

/* what one request means for the fields */
typedef struct FieldCheck
{
	const Document *document;
	bool		is_event;
	Field	  **created;
	size_t		created_count;
	size_t		created_room;
	Field	  **typed;			/* existed, but had no type yet */
	size_t		typed_count;
	size_t		typed_room;
	StringSet	filtered;
	Buffer		filtered_list;	/* as the members of a JSON array */
	StringSet	mismatched;
	Buffer		mismatches;		/* as the members of validationErrors */
	Buffer		mismatch_text;	/* what the message says of the first one */
} FieldCheck;

extern void fields_reset(void);
extern Field *fields_profile_root(void);
extern Field *fields_event_root(const char *event_name);

/* name is not escaped */
extern Field *field_lookup(const Field *parent, const char *name);
/* name is escaped */
extern Field *field_lookup_escaped(const Field *parent, const char *name,
								   size_t len);
extern const char *field_type_name(FieldType type);
/* the dotted path, escaped as in JSON */
extern void field_path(const Field *field, Buffer *out);
extern Field *fields_oldest(void);

/*
 * Learns the fields of one dataFields object; false when a value contradicts
 * the type of its field.  What is learnt stays unless it is rolled back.
 * Each value gets its field as its note, or NULL if it is to be dropped.
 */
extern bool fields_check(FieldCheck *check, Field *root, const cJSON *object,
						 bool create);
/* would the new fields pass the limit?  then how many there would be */
extern bool fields_over_limit(const FieldCheck *check, size_t limit,
							  size_t *total);
extern void fields_created_list(const FieldCheck *check, Buffer *out);
extern void fields_roll_back(FieldCheck *check);
extern void fields_check_free(FieldCheck *check);

#endif							/* EMULATOR_FIELDS_H */
