/*
 * table.c
 *		A hash table of links that live inside their owners.
 */
#include "table.h"

#include <stdlib.h>
#include <string.h>

#include "buffer.h"

#define SMALLEST_TABLE 64

typedef struct SetMember
{
	Link		link;
	char		text[];
} SetMember;

uint64_t
table_hash(uint64_t seed, const char *bytes, size_t len)
{
	uint64_t	hash = seed ^ UINT64_C(0xcbf29ce484222325);

	for (size_t i = 0; i < len; i++)
	{
		hash ^= (unsigned char) bytes[i];
		hash *= UINT64_C(0x100000001b3);
	}
	/* buckets are chosen by the low bits, so let the high ones matter */
	hash ^= hash >> 32;
	hash *= UINT64_C(0x9e3779b97f4a7c15);
	return hash ^ (hash >> 29);
}

uint64_t
table_hash_text(const char *text)
{
	return table_hash(0, text, strlen(text));
}

static void
grow(Table *table)
{
	size_t		size = table->size == 0 ? SMALLEST_TABLE : table->size * 2;
	Link	  **buckets = xcalloc(size, sizeof(Link *));

	for (size_t i = 0; i < table->size; i++)
	{
		Link	   *link = table->buckets[i];

		while (link != NULL)
		{
			Link	   *next = link->next;
			Link	  **bucket = &buckets[link->hash & (size - 1)];

			link->next = *bucket;
			*bucket = link;
			link = next;
		}
	}
	free(table->buckets);
	table->buckets = buckets;
	table->size = size;
}

void
table_insert(Table *table, Link *link, uint64_t hash)
{
	Link	  **bucket;

	if (table->count >= table->size)
		grow(table);
	bucket = &table->buckets[hash & (table->size - 1)];
	link->hash = hash;
	link->next = *bucket;
	*bucket = link;
	table->count++;
}

void
table_remove(Table *table, Link *link)
{
	Link	  **place = &table->buckets[link->hash & (table->size - 1)];

	while (*place != link)
		place = &(*place)->next;
	*place = link->next;
	link->next = NULL;
	table->count--;
}

Link *
table_first(const Table *table, uint64_t hash)
{
	Link	   *link;

	if (table->size == 0)
		return NULL;
	link = table->buckets[hash & (table->size - 1)];
	while (link != NULL && link->hash != hash)
		link = link->next;
	return link;
}

Link *
table_next(const Link *link)
{
	uint64_t	hash = link->hash;
	Link	   *next = link->next;

	while (next != NULL && next->hash != hash)
		next = next->next;
	return next;
}

void
table_empty(Table *table, void (*what) (Link *link))
{
	for (size_t i = 0; what != NULL && i < table->size; i++)
	{
		Link	   *link = table->buckets[i];

		while (link != NULL)
		{
			Link	   *next = link->next;

			what(link);
			link = next;
		}
	}
	free(table->buckets);
	memset(table, 0, sizeof(*table));
}

void
set_add(StringSet *set, const char *text)
{
	size_t		len = strlen(text);
	SetMember  *member;

	if (set_has(set, text))
		return;
	member = xmalloc(sizeof(SetMember) + len + 1);
	memcpy(member->text, text, len + 1);
	table_insert(&set->table, &member->link, table_hash_text(text));
}

bool
set_has(const StringSet *set, const char *text)
{
	if (set->table.count == 0)
		return false;
	for (Link *link = table_first(&set->table, table_hash_text(text));
		 link != NULL; link = table_next(link))
		if (strcmp(table_owner(link, SetMember, link)->text, text) == 0)
			return true;
	return false;
}

static void
free_member(Link *link)
{
	free(table_owner(link, SetMember, link));
}

void
set_clear(StringSet *set)
{
	table_empty(&set->table, free_member);
}
