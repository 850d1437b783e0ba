/*
 * noop.c
 *		A trigger in C that does nothing: what firing costs.
 */
#include "postgres.h"

#include "fmgr.h"

PG_MODULE_MAGIC;
PG_FUNCTION_INFO_V1(noop);

Datum		noop(PG_FUNCTION_ARGS);

Datum
noop(PG_FUNCTION_ARGS)
{
	return PointerGetDatum(NULL);
}
