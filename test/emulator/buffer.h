/*
 * buffer.h
 *		A growing byte buffer, and how JSON strings are written into it.
 */
#ifndef EMULATOR_BUFFER_H
#define EMULATOR_BUFFER_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

typedef struct Buffer
{
	char	   *data;			/* NUL-terminated as soon as it is not NULL */
	size_t		len;
	size_t		capacity;
} Buffer;

extern void buffer_free(Buffer *buffer);
extern void buffer_clear(Buffer *buffer);
extern void buffer_reserve(Buffer *buffer, size_t more);
extern void buffer_text(Buffer *buffer, const char *text);
extern void buffer_printf(Buffer *buffer, const char *format, ...)
			__attribute__((format(printf, 2, 3)));

/* these two are called for every value there is */
static inline void
buffer_append(Buffer *buffer, const char *bytes, size_t len)
{
	if (buffer->capacity - buffer->len <= len)
		buffer_reserve(buffer, len);
	if (len > 0)
		memcpy(buffer->data + buffer->len, bytes, len);
	buffer->len += len;
	buffer->data[buffer->len] = '\0';
}

static inline void
buffer_char(Buffer *buffer, char c)
{
	if (buffer->capacity - buffer->len <= 1)
		buffer_reserve(buffer, 1);
	buffer->data[buffer->len++] = c;
	buffer->data[buffer->len] = '\0';
}

/* the characters of a JSON string, without the quotes */
extern void buffer_json_escaped(Buffer *buffer, const char *text, size_t len);
/* a whole JSON string, or null */
extern void buffer_json_string(Buffer *buffer, const char *text);

extern void *xmalloc(size_t size);
extern void *xcalloc(size_t count, size_t size);
extern void *xrealloc(void *pointer, size_t size);
extern char *xstrdup(const char *text);
extern char *xstrndup(const char *text, size_t len);

#endif							/* EMULATOR_BUFFER_H */
