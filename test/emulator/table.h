/*
 * table.h
 *		A hash table of links that live inside their owners, where several
 *		owners may have the same key, and a set of strings made of it.
 *
 * E-mails and user ids need not be unique (that depends on the type of the
 * project), which the usual hash libraries do not allow for.
 */
#ifndef EMULATOR_TABLE_H
#define EMULATOR_TABLE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

typedef struct Link
{
	struct Link *next;
	uint64_t	hash;
} Link;

typedef struct Table
{
	Link	  **buckets;
	size_t		size;			/* a power of two, or 0 */
	size_t		count;
} Table;

/* the structure that a link lives in */
#define table_owner(link, type, member) \
	((type *) (void *) ((char *) (link) - offsetof(type, member)))

extern uint64_t table_hash(uint64_t seed, const char *bytes, size_t len);
extern uint64_t table_hash_text(const char *text);
extern void table_insert(Table *table, Link *link, uint64_t hash);
extern void table_remove(Table *table, Link *link);
/* all links with this hash, in turn; the caller compares the keys */
extern Link *table_first(const Table *table, uint64_t hash);
extern Link *table_next(const Link *link);
/* calls what for each link, which may free its owner, then empties the table */
extern void table_empty(Table *table, void (*what) (Link *link));

typedef struct StringSet
{
	Table		table;
} StringSet;

extern void set_add(StringSet *set, const char *text);
extern bool set_has(const StringSet *set, const char *text);
extern void set_clear(StringSet *set);

#endif							/* EMULATOR_TABLE_H */
