/*-------------------------------------------------------------------------
 *
 * iterable_rows.c
 *	  The rows of a bulk request, found by what Iterable's answer names.
 *
 * Copyright (c) 2026, the iterable_sync developers
 *-------------------------------------------------------------------------
 */
#include "iterable_rows.h"

#include "common/hashfn.h"

typedef struct Identifier
{
	IsMatch		match;
	const char *text;
} Identifier;

/* e-mail addresses are compared without case, as Iterable does */
static Identifier
make_identifier(IsMatch match, const char *text)
{
	return (Identifier) {match, match == IS_BY_EMAIL ? is_api_fold_email(text) : text};
}

/* Lists of links; -1 is the end. */
typedef struct Entry
{
	Identifier	identifier;
	int			first_key;		/* rows that are known by it */
	int			first_new;		/* rows that would take it */
	uint32		hash;
	char		status;
} Entry;

typedef struct Link
{
	int			row;
	int			next;
} Link;

static uint32
identifier_hash(Identifier identifier)
{
	return hash_combine(identifier.match,
						hash_bytes((const unsigned char *) identifier.text,
								   strlen(identifier.text)));
}

#define SH_PREFIX entries
#define SH_ELEMENT_TYPE Entry
#define SH_KEY_TYPE Identifier
#define SH_KEY identifier
#define SH_HASH_KEY(tb, key) identifier_hash(key)
#define SH_EQUAL(tb, a, b) ((a).match == (b).match && strcmp((a).text, (b).text) == 0)
#define SH_STORE_HASH
#define SH_GET_HASH(tb, entry) (entry)->hash
#define SH_SCOPE static inline
#define SH_RAW_ALLOCATOR palloc0
#define SH_DECLARE
#define SH_DEFINE
#include "lib/simplehash.h"

struct IsRowIndex
{
	IsApiRow   *rows;
	int			nrows;
	bool	   *counted;		/* marked by a list that failCount includes */
	entries_hash *entries;
	Link	   *links;
	int			nlinks;
};

void
is_rows_reset(IsApiRow *rows, int nrows)
{
	for (int i = 0; i < nrows; i++)
	{
		rows[i].verdict = IS_VERDICT_UNKNOWN;
		rows[i].class = NULL;
		rows[i].message = NULL;
		rows[i].hint = NULL;
	}
}

static void
add_identifier(IsRowIndex *index, IsMatch match, const char *text, int row,
			   bool is_new)
{
	Entry	   *entry;
	int		   *first;
	bool		found;

	if (text == NULL)
		return;

	entry = entries_insert(index->entries, make_identifier(match, text), &found);
	if (!found)
		entry->first_key = entry->first_new = -1;

	first = is_new ? &entry->first_new : &entry->first_key;
	index->links[index->nlinks].row = row;
	index->links[index->nlinks].next = *first;
	*first = index->nlinks++;
}

IsRowIndex *
is_rows_index(IsApiRow *rows, int nrows)
{
	IsRowIndex *index = palloc0(sizeof(IsRowIndex));

	index->rows = rows;
	index->nrows = nrows;
	index->counted = palloc0(sizeof(bool) * (nrows + 1));
	index->links = palloc(sizeof(Link) * (5 * nrows + 1));
	index->entries = entries_create(2 * nrows + 1, NULL);

	for (int i = 0; i < nrows; i++)
	{
		add_identifier(index, IS_BY_EMAIL, rows[i].email, i, false);
		add_identifier(index, IS_BY_USER_ID, rows[i].user_id, i, false);
		add_identifier(index, IS_BY_EVENT_NAME, rows[i].event_name, i, false);
		add_identifier(index, IS_BY_EMAIL, rows[i].data_email, i, true);
		add_identifier(index, IS_BY_USER_ID, rows[i].data_user_id, i, true);
	}
	return index;
}

static void
mark_row(IsRowIndex *index, int i, const IsMeaning *meaning)
{
	IsApiRow   *row = &index->rows[i];

	/* A deprecated list repeats what a newer one has said better. */
	if (row->class != NULL && meaning->where == IS_DEPRECATED)
		return;

	if (meaning->counted)
		index->counted[i] = true;

	/* What needs a person outweighs what may heal by itself. */
	if (row->class != NULL &&
		(row->verdict == IS_VERDICT_REJECTED ||
		 meaning->verdict != IS_VERDICT_REJECTED))
		return;

	row->verdict = meaning->verdict;
	row->class = meaning->class;
	row->message = meaning->message;
	row->hint = meaning->hint;
}

static void
mark_links(IsRowIndex *index, int link, const IsMeaning *meaning)
{
	for (; link >= 0; link = index->links[link].next)
		mark_row(index, index->links[link].row, meaning);
}

bool
is_rows_mark(IsRowIndex *index, const char *text, const IsMeaning *meaning)
{
	Entry	   *entry = entries_lookup(index->entries, make_identifier(meaning->match, text));

	if (entry == NULL)
		return false;

	if (meaning->which != IS_NEW_FIRST || entry->first_new < 0)
		mark_links(index, entry->first_key, meaning);
	if (meaning->which != IS_KEY_FIRST || entry->first_key < 0)
		mark_links(index, entry->first_new, meaning);
	return true;
}

void
is_rows_count(const IsRowIndex *index, int *counted, int *perhaps)
{
	*counted = *perhaps = 0;
	for (int i = 0; i < index->nrows; i++)
	{
		if (index->rows[i].class == NULL)
			continue;
		if (index->counted[i])
			(*counted)++;
		else
			(*perhaps)++;
	}
}
