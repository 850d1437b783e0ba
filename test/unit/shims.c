/*-------------------------------------------------------------------------
 *
 * shims.c
 *	  What the tested modules use of a server process and the libraries for
 *	  client programs do not have: errors.  Any error ends the test.
 *
 * Copyright (c) 2026, the iterable_sync developers
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

sigjmp_buf *PG_exception_stack = NULL;
ErrorContextCallback *error_context_stack = NULL;

bool
errstart(int elevel, const char *domain)
{
	return true;
}

#if defined(HAVE__BUILTIN_CONSTANT_P)
bool
errstart_cold(int elevel, const char *domain)
{
	return true;
}
#endif

int
errmsg_internal(const char *fmt,...)
{
	fprintf(stderr, "error: %s\n", fmt);
	return 0;
}

void
errfinish(const char *filename, int lineno, const char *funcname)
{
	fprintf(stderr, "raised at %s:%d\n", filename, lineno);
	abort();
}

void
pg_re_throw(void)
{
	abort();
}

#ifdef USE_ASSERT_CHECKING
void
ExceptionalCondition(const char *conditionName, const char *errorType,
					 const char *fileName, int lineNumber)
{
	fprintf(stderr, "failed assertion %s at %s:%d\n", conditionName, fileName,
			lineNumber);
	abort();
}
#endif
