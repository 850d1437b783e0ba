/*
 * body.h
 *		Reading the members of a request's body, where a wrong type anywhere
 *		refuses the whole request and names the place.
 */
#ifndef EMULATOR_BODY_H
#define EMULATOR_BODY_H

#include "api.h"

/* where a row is: obj.<list>[<index>].<member>, or obj.<member> */
typedef struct BodyPlace
{
	const char *list;
	size_t		index;
} BodyPlace;

typedef struct BodyErrors
{
	Buffer		params;			/* as the members of a JSON object */
	size_t		count;
} BodyErrors;

typedef enum BodyErrorKind
{
	EXPECTED_STRING,
	EXPECTED_BOOLEAN,
	EXPECTED_NUMBER,
	EXPECTED_OBJECT,
	EXPECTED_ARRAY,
	MISSING
} BodyErrorKind;

extern void body_error(BodyErrors *errors, BodyPlace place, const char *member,
					   BodyErrorKind kind);

/* null counts as absent */
extern void body_string(BodyErrors *errors, BodyPlace place,
						const cJSON *member, const char **value);
extern void body_boolean(BodyErrors *errors, BodyPlace place,
						 const cJSON *member, bool *value);
extern void body_object(BodyErrors *errors, BodyPlace place,
						const cJSON *member, const cJSON **value);
extern void body_integer(BodyErrors *errors, BodyPlace place,
						 const Document *document, const cJSON *member,
						 bool *is_set, int64_t *value);

/* the members of the list at the top of a bulk request; NULL after an error */
extern const cJSON *body_list(BodyErrors *errors, const Document *document,
							  const char *name);

/* answers 400 BadJsonBody */
extern void body_answer(const ApiCall *call, BodyErrors *errors,
						Answer *answer);

/* can Iterable store these values (length, range, shape of locations)? */
extern bool body_data_is_valid(const Document *document, const cJSON *data);

#endif							/* EMULATOR_BODY_H */
