/*
 * json.c
 *		Reading JSON.
 *
 * cJSON makes doubles of numbers and is lenient: it takes control characters
 * in strings, broken UTF-8, numbers such as 01, and anything below a space as
 * white space.  A client that writes its own JSON must not get away with that
 * here, so the text is walked once more beside the tree: this checks the
 * grammar and notes where the text of each value is.
 */
#include "json.h"

#include <ctype.h>
#include <stdlib.h>
#include <string.h>

#include "buffer.h"

#define ARENA_BLOCK ((size_t) 1 << 20)
#define ARENA_SPARE_BLOCKS 64

typedef struct ArenaBlock
{
	struct ArenaBlock *older;
	size_t		used;
	size_t		size;
	max_align_t bytes[];
} ArenaBlock;

static _Thread_local ArenaBlock *arena;
static _Thread_local ArenaBlock *spare; /* of the usual size, for reuse */
static _Thread_local int spare_count;

typedef struct Scanner
{
	const char *start;
	const char *at;
	const char *end;
} Scanner;

static bool scan_value(Scanner *scanner, cJSON *node);

static void *
arena_alloc(size_t size)
{
	void	   *result;

	size = (size + sizeof(max_align_t) - 1) & ~(sizeof(max_align_t) - 1);
	if (arena == NULL || arena->size - arena->used < size)
	{
		size_t		room = size > ARENA_BLOCK ? size : ARENA_BLOCK;
		ArenaBlock *block = spare;

		if (room == ARENA_BLOCK && block != NULL)
		{
			spare = block->older;
			spare_count--;
		}
		else
			block = xmalloc(sizeof(ArenaBlock) + room);
		block->older = arena;
		block->used = 0;
		block->size = room;
		arena = block;
	}
	result = (char *) arena->bytes + arena->used;
	arena->used += size;
	return result;
}

void *
json_scratch(size_t size)
{
	return arena_alloc(size);
}

static void
arena_ignore(void *pointer)
{
	(void) pointer;
}

void
json_setup(void)
{
	/* a tree of a full batch is 50,000 allocations: never free one by one */
	cJSON_Hooks hooks = {.malloc_fn = arena_alloc,.free_fn = arena_ignore};

	cJSON_InitHooks(&hooks);
}

void
json_close(void)
{
	while (arena != NULL)
	{
		ArenaBlock *block = arena;

		arena = block->older;
		/* fresh pages from the kernel cost more than all the parsing */
		if (block->size == ARENA_BLOCK && spare_count < ARENA_SPARE_BLOCKS)
		{
			block->older = spare;
			spare = block;
			spare_count++;
		}
		else
			free(block);
	}
}

void
json_thread_end(void)
{
	json_close();
	while (spare != NULL)
	{
		ArenaBlock *block = spare;

		spare = block->older;
		free(block);
	}
	spare_count = 0;
}

static void
skip_space(Scanner *scanner)
{
	while (scanner->at < scanner->end &&
		   (*scanner->at == ' ' || *scanner->at == '\n' ||
			*scanner->at == '\r' || *scanner->at == '\t'))
		scanner->at++;
}

static bool
take(Scanner *scanner, char c)
{
	skip_space(scanner);
	if (scanner->at >= scanner->end || *scanner->at != c)
		return false;
	scanner->at++;
	return true;
}

/* the length of the UTF-8 sequence at p, 0 if it is broken */
static size_t
utf8_length(const unsigned char *p, const unsigned char *end)
{
	size_t		len;
	unsigned	least;
	unsigned	code;

	if (*p < 0x80)
		return 1;
	if ((*p & 0xe0) == 0xc0)
		len = 2, least = 0x80, code = *p & 0x1f;
	else if ((*p & 0xf0) == 0xe0)
		len = 3, least = 0x800, code = *p & 0x0f;
	else if ((*p & 0xf8) == 0xf0)
		len = 4, least = 0x10000, code = *p & 0x07;
	else
		return 0;
	if ((size_t) (end - p) < len)
		return 0;
	for (size_t i = 1; i < len; i++)
	{
		if ((p[i] & 0xc0) != 0x80)
			return 0;
		code = code << 6 | (p[i] & 0x3f);
	}
	if (code < least || code > 0x10ffff || (code >= 0xd800 && code < 0xe000))
		return 0;
	return len;
}

bool
json_text_is_utf8(const char *text, size_t len)
{
	const unsigned char *p = (const unsigned char *) text;
	const unsigned char *end = p + len;

	while (p < end)
	{
		size_t		step = utf8_length(p, end);

		if (step == 0)
			return false;
		p += step;
	}
	return true;
}

void
json_repair_utf8(char *text, size_t len)
{
	if (json_text_is_utf8(text, len))
		return;
	for (size_t i = 0; i < len; i++)
		if ((unsigned char) text[i] >= 0x80)
			text[i] = '?';
}

static bool
scan_escape(Scanner *scanner)
{
	if (scanner->end - scanner->at < 2)
		return false;
	if (scanner->at[1] != 'u')
	{
		scanner->at += 2;
		return strchr("\"\\/bfnrt", scanner->at[-1]) != NULL;
	}
	if (scanner->end - scanner->at < 6)
		return false;
	for (int i = 2; i < 6; i++)
		if (!isxdigit((unsigned char) scanner->at[i]))
			return false;
	scanner->at += 6;
	return true;
}

static bool
scan_string(Scanner *scanner)
{
	if (!take(scanner, '"'))
		return false;
	for (;;)
	{
		const char *at = scanner->at;
		unsigned char c = 0;
		size_t		len;

		while (at < scanner->end)
		{
			c = (unsigned char) *at;
			if (c < 0x20 || c >= 0x80 || c == '"' || c == '\\')
				break;
			at++;
		}
		scanner->at = at;
		if (at == scanner->end || c < 0x20)
			return false;
		if (c == '"')
		{
			scanner->at++;
			return true;
		}
		if (c == '\\')
		{
			if (!scan_escape(scanner))
				return false;
			continue;
		}
		len = utf8_length((const unsigned char *) scanner->at,
						  (const unsigned char *) scanner->end);
		if (len == 0)
			return false;
		scanner->at += len;
	}
}

static bool
scan_digits(Scanner *scanner)
{
	const char *start = scanner->at;

	while (scanner->at < scanner->end &&
		   *scanner->at >= '0' && *scanner->at <= '9')
		scanner->at++;
	return scanner->at > start;
}

static bool
scan_number(Scanner *scanner)
{
	if (*scanner->at == '-')
		scanner->at++;
	if (scanner->at < scanner->end && *scanner->at == '0')
		scanner->at++;
	else if (!scan_digits(scanner))
		return false;
	if (scanner->at < scanner->end && *scanner->at == '.')
	{
		scanner->at++;
		if (!scan_digits(scanner))
			return false;
	}
	if (scanner->at < scanner->end &&
		(*scanner->at == 'e' || *scanner->at == 'E'))
	{
		scanner->at++;
		if (scanner->at < scanner->end &&
			(*scanner->at == '+' || *scanner->at == '-'))
			scanner->at++;
		if (!scan_digits(scanner))
			return false;
	}
	return true;
}

static bool
scan_container(Scanner *scanner, cJSON *node, bool is_object)
{
	scanner->at++;
	for (cJSON *child = node->child; child != NULL; child = child->next)
	{
		if (child != node->child && !take(scanner, ','))
			return false;
		if (is_object && (!scan_string(scanner) || !take(scanner, ':')))
			return false;
		if (!scan_value(scanner, child))
			return false;
	}
	return take(scanner, is_object ? '}' : ']');
}

static bool
scan_word(Scanner *scanner, const char *word)
{
	size_t		len = strlen(word);

	if ((size_t) (scanner->end - scanner->at) < len ||
		memcmp(scanner->at, word, len) != 0)
		return false;
	scanner->at += len;
	return true;
}

static bool
scan_value(Scanner *scanner, cJSON *node)
{
	const char *start;
	bool		ok;

	skip_space(scanner);
	if (scanner->at >= scanner->end)
		return false;
	start = scanner->at;
	switch (node->type & 0xff)
	{
		case cJSON_Object:
			ok = scan_container(scanner, node, true);
			break;
		case cJSON_Array:
			ok = scan_container(scanner, node, false);
			break;
		case cJSON_String:
			ok = scan_string(scanner);
			break;
		case cJSON_Number:
			ok = scan_number(scanner);
			break;
		case cJSON_True:
			ok = scan_word(scanner, "true");
			break;
		case cJSON_False:
			ok = scan_word(scanner, "false");
			break;
		default:
			ok = scan_word(scanner, "null");
	}
	/* backward links are of no use here; fields.c keeps the field there */
	node->prev = NULL;
	node->valuedouble = (double) (start - scanner->start);
	node->valueint = (int) (scanner->at - start);
	return ok;
}

Document
json_open(const char *text, size_t len)
{
	Document	document = {.text = text};
	Scanner		scanner = {.start = text,.at = text,.end = text + len};

	if (len == 0)
		return document;
	document.root = cJSON_ParseWithLength(text, len);
	if (document.root == NULL || !scan_value(&scanner, document.root))
	{
		document.root = NULL;
		return document;
	}
	skip_space(&scanner);
	if (scanner.at != scanner.end)
		document.root = NULL;
	return document;
}

cJSON *
json_member(const cJSON *object, const char *name)
{
	cJSON	   *found = NULL;

	if (!cJSON_IsObject(object))
		return NULL;
	for (cJSON *child = object->child; child != NULL; child = child->next)
		if (strcmp(child->string, name) == 0)
			found = child;
	return found;
}

const char *
json_raw(const Document *document, const cJSON *node, size_t *len)
{
	*len = (size_t) node->valueint;
	return document->text + (size_t) node->valuedouble;
}

bool
json_is_integer(const Document *document, const cJSON *node)
{
	size_t		len;
	const char *raw = json_raw(document, node, &len);

	if (!cJSON_IsNumber(node))
		return false;
	for (size_t i = 0; i < len; i++)
		if (raw[i] == '.' || raw[i] == 'e' || raw[i] == 'E')
			return false;
	return true;
}

int64_t
json_integer(const Document *document, const cJSON *node)
{
	size_t		len;

	/* the text always goes on after a number, if only with a NUL */
	return strtoll(json_raw(document, node, &len), NULL, 10);
}

double
json_real(const Document *document, const cJSON *node)
{
	size_t		len;

	return strtod(json_raw(document, node, &len), NULL);
}

static const char *
skip_string(const char *text)
{
	for (text++; *text != '"'; text++)
		if (*text == '\\')
			text++;
	return text + 1;
}

const char *
json_skip(const char *text)
{
	int			depth = 0;

	if (*text == '"')
		return skip_string(text);
	if (*text != '{' && *text != '[')
		return text + strcspn(text, ",]}");
	for (;;)
	{
		if (*text == '"')
		{
			text = skip_string(text);
			continue;
		}
		if (*text == '{' || *text == '[')
			depth++;
		else if ((*text == '}' || *text == ']') && --depth == 0)
			return text + 1;
		text++;
	}
}
