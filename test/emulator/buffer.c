/*
 * buffer.c
 *		A growing byte buffer, and how JSON strings are written into it.
 *
 * Running out of memory ends the process: a test server has nothing better
 * to do, and no caller has to check.
 */
#include "buffer.h"

#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static void *
checked(void *pointer)
{
	if (pointer == NULL)
	{
		fputs("iterable_emulator: out of memory\n", stderr);
		abort();
	}
	return pointer;
}

void *
xmalloc(size_t size)
{
	return checked(malloc(size > 0 ? size : 1));
}

void *
xcalloc(size_t count, size_t size)
{
	return checked(calloc(count > 0 ? count : 1, size > 0 ? size : 1));
}

void *
xrealloc(void *pointer, size_t size)
{
	return checked(realloc(pointer, size > 0 ? size : 1));
}

char *
xstrdup(const char *text)
{
	return checked(strdup(text));
}

char *
xstrndup(const char *text, size_t len)
{
	return checked(strndup(text, len));
}

void
buffer_free(Buffer *buffer)
{
	free(buffer->data);
	memset(buffer, 0, sizeof(*buffer));
}

void
buffer_clear(Buffer *buffer)
{
	buffer->len = 0;
	if (buffer->data != NULL)
		buffer->data[0] = '\0';
}

void
buffer_reserve(Buffer *buffer, size_t more)
{
	size_t		needed = buffer->len + more + 1;
	size_t		capacity = buffer->capacity;

	if (needed <= capacity)
		return;
	if (capacity == 0)
		capacity = 256;
	while (capacity < needed)
		capacity *= 2;
	buffer->data = xrealloc(buffer->data, capacity);
	buffer->capacity = capacity;
}

void
buffer_text(Buffer *buffer, const char *text)
{
	buffer_append(buffer, text, strlen(text));
}

void
buffer_printf(Buffer *buffer, const char *format, ...)
{
	va_list		arguments;
	int			needed;

	va_start(arguments, format);
	needed = vsnprintf(NULL, 0, format, arguments);
	va_end(arguments);
	if (needed < 0)
		abort();

	buffer_reserve(buffer, (size_t) needed);
	va_start(arguments, format);
	vsnprintf(buffer->data + buffer->len, (size_t) needed + 1, format, arguments);
	va_end(arguments);
	buffer->len += (size_t) needed;
}

void
buffer_json_escaped(Buffer *buffer, const char *text, size_t len)
{
	size_t		plain = 0;		/* start of what needs no escape */

	for (size_t i = 0; i < len; i++)
	{
		unsigned char c = (unsigned char) text[i];

		if (c >= 0x20 && c != '"' && c != '\\')
			continue;
		buffer_append(buffer, text + plain, i - plain);
		plain = i + 1;
		switch (c)
		{
			case '"':
				buffer_text(buffer, "\\\"");
				break;
			case '\\':
				buffer_text(buffer, "\\\\");
				break;
			case '\n':
				buffer_text(buffer, "\\n");
				break;
			case '\r':
				buffer_text(buffer, "\\r");
				break;
			case '\t':
				buffer_text(buffer, "\\t");
				break;
			default:
				buffer_printf(buffer, "\\u%04x", c);
		}
	}
	buffer_append(buffer, text + plain, len - plain);
}

void
buffer_json_string(Buffer *buffer, const char *text)
{
	if (text == NULL)
	{
		buffer_text(buffer, "null");
		return;
	}
	buffer_char(buffer, '"');
	buffer_json_escaped(buffer, text, strlen(text));
	buffer_char(buffer, '"');
}
