/*
 * merge.h
 *		Stored dataFields: merging what is sent into what is there.
 */
#ifndef EMULATOR_MERGE_H
#define EMULATOR_MERGE_H

#include "fields.h"
#include "json.h"

/*
 * The JSON text of existing (NULL is nothing) with the members of incoming
 * put over it.  Null deletes.  With merge_nested, objects at the top are
 * merged too, one level deep.  Incoming has been through fields_check, and
 * values that have no field as their note are left out.  The result is the
 * caller's to free.
 */
extern char *merge_data(const char *existing, const Document *document,
						const cJSON *incoming, const Field *root,
						bool merge_nested);

/* dates in answers all have one form, whatever was sent */
extern void write_data_with_dates(Buffer *out, const Document *document,
								  const cJSON *object, const Field *root);

#endif							/* EMULATOR_MERGE_H */
