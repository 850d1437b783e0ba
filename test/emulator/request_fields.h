/*
 * request_fields.h
 *		What the fields of a request mean for its answer.
 */
#ifndef EMULATOR_REQUEST_FIELDS_H
#define EMULATOR_REQUEST_FIELDS_H

#include "answer.h"
#include "fields.h"

/* answers 400 and forgets the new fields if they cannot be taken */
extern bool request_fields_refuse(FieldCheck *check, int limit,
								  Answer *answer);
/* "createdFields":[…],"filteredOutFields":[…] */
extern void request_fields_write(const FieldCheck *check, Buffer *out);

#endif							/* EMULATOR_REQUEST_FIELDS_H */
