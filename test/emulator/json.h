/*
 * json.h
 *		Reading JSON: cJSON's tree, strict about the grammar, and every value
 *		with the text that was sent for it.
 */
#ifndef EMULATOR_JSON_H
#define EMULATOR_JSON_H

#include <cjson/cJSON.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

/*
 * The nodes of a tree live in an arena of the thread, until json_close.
 * After json_open a node's valuedouble and valueint hold the place and the
 * length of its text, not a number: use json_raw, json_integer, json_real.
 * Its prev is not a node either, but NULL or what json_set_note has put there.
 */
typedef struct Document
{
	const char *text;
	cJSON	   *root;
} Document;

extern void json_setup(void);

/* one document at a time and thread; NULL root when the text is not JSON */
extern Document json_open(const char *text, size_t len);
extern void json_close(void);
/* gives back what the thread holds */
extern void json_thread_end(void);

/* memory that lives as long as the document */
extern void *json_scratch(size_t size);

/* the last member of that name; for small objects only, it is linear */
extern cJSON *json_member(const cJSON *object, const char *name);
extern const char *json_raw(const Document *document, const cJSON *node,
							size_t *len);
/* cJSON's own tests are calls into the library, too slow for each value */
static inline bool
json_is(const cJSON *node, int type)
{
	return node != NULL && (node->type & 0xff) == type;
}

static inline void
json_set_note(const cJSON *node, void *note)
{
	((cJSON *) (uintptr_t) node)->prev = note;
}

static inline void *
json_note(const cJSON *node)
{
	return node->prev;
}

extern bool json_is_integer(const Document *document, const cJSON *node);
extern int64_t json_integer(const Document *document, const cJSON *node);
extern double json_real(const Document *document, const cJSON *node);

extern bool json_text_is_utf8(const char *text, size_t len);
/* what a client has sent must not make our JSON invalid: high bytes become ? */
extern void json_repair_utf8(char *text, size_t len);

/* the end of the value at text, which is known to be valid and compact */
extern const char *json_skip(const char *text);

#endif							/* EMULATOR_JSON_H */
