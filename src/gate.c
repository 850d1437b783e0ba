/*-------------------------------------------------------------------------
 *
 * gate.c
 *	  Connections that Iterable has refused.
 *
 * Copyright (c) 2026, the iterable_sync developers
 *-------------------------------------------------------------------------
 */
#include "gate.h"

#include "catalog/pg_type.h"
#include "utils/builtins.h"
#include "utils/memutils.h"
#include "utils/timestamp.h"

#include "query.h"

#define PROBE_INTERVAL_US (60 * INT64CONST(1000000))

typedef struct Gate
{
	struct Gate *next;
	NameData	connection;
	bool		stopped;
	uint64		refused_key;
	int64		next_probe;		/* µs, like now_us */
} Gate;

static Gate *gates = NULL;

static Gate *
find_gate(const IsConnection *connection)
{
	Gate	   *gate;

	for (gate = gates; gate != NULL; gate = gate->next)
		if (strcmp(NameStr(gate->connection), connection->name) == 0)
			return gate;
	return NULL;
}

int64
is_gate_ask(const IsConnection *connection, int64 now_us)
{
	Gate	   *gate = find_gate(connection);

	if (gate == NULL || !gate->stopped)
		return 0;
	if (gate->refused_key != connection->key_digest ||
		now_us >= gate->next_probe)
		return 0;
	return gate->next_probe - now_us;
}

void
is_gate_pass(const IsConnection *connection, int64 now_us)
{
	Gate	   *gate = find_gate(connection);

	if (gate == NULL || !gate->stopped)
		return;
	gate->refused_key = connection->key_digest;
	gate->next_probe = now_us + PROBE_INTERVAL_US;
}

bool
is_gate_stopped(const IsConnection *connection)
{
	Gate	   *gate = find_gate(connection);

	return gate != NULL && gate->stopped;
}

void
is_gate_load(const IsConnection *connection)
{
	static IsQuery query = IS_QUERY(
		"SELECT refused_key FROM iterable.connection_state "
		"WHERE connection OPERATOR(pg_catalog.=) $1",
		1, NAMEOID);
	Gate	   *gate = find_gate(connection);
	NameData	name;
	Datum		value;
	bool		stopped;

	if (gate == NULL)
	{
		gate = MemoryContextAllocZero(TopMemoryContext, sizeof(Gate));
		namestrcpy(&gate->connection, connection->name);
		gate->next = gates;
		gates = gate;
	}

	/* Another session may have stopped or opened it meanwhile. */
	namestrcpy(&name, connection->name);
	value = NameGetDatum(&name);
	SPI_connect();
	stopped = is_query_run(&query, &value, NULL) == 1;
	if (stopped && !gate->stopped)
	{
		bool		isnull;

		gate->refused_key = (uint64) DatumGetInt64(is_query_value(0, 1, &isnull));
		gate->next_probe = 0;
	}
	gate->stopped = stopped;
	SPI_finish();
}

char *
is_gate_reason(const IsConnection *connection)
{
	static IsQuery query = IS_QUERY(
		"SELECT reason FROM iterable.connection_state "
		"WHERE connection OPERATOR(pg_catalog.=) $1 "
		"AND refused_key OPERATOR(pg_catalog.=) $2",
		2, NAMEOID, INT8OID);
	MemoryContext context = CurrentMemoryContext;
	NameData	name;
	Datum		values[2];
	char	   *reason = NULL;

	namestrcpy(&name, connection->name);
	values[0] = NameGetDatum(&name);
	values[1] = Int64GetDatum((int64) connection->key_digest);
	SPI_connect();
	if (is_query_run(&query, values, NULL) == 1)
		reason = is_query_text(0, 1, context);
	SPI_finish();
	return reason;
}

void
is_gate_stop(const IsConnection *connection, const char *reason, int64 now_us)
{
	static IsQuery query = IS_QUERY(
		"INSERT INTO iterable.connection_state AS c (connection, stopped_at, reason, refused_key) "
		"VALUES ($1, pg_catalog.now(), $2, $3) ON CONFLICT (connection) "
		"DO UPDATE SET reason = EXCLUDED.reason, refused_key = EXCLUDED.refused_key",
		3, NAMEOID, TEXTOID, INT8OID);
	Gate	   *gate;
	NameData	name;
	Datum		values[3];

	is_gate_load(connection);
	gate = find_gate(connection);
	if (!gate->stopped)
		ereport(LOG,
				(errmsg("connection \"%s\" is stopped: %s", connection->name, reason)));
	gate->stopped = true;
	gate->refused_key = connection->key_digest;
	gate->next_probe = now_us + PROBE_INTERVAL_US;

	namestrcpy(&name, connection->name);
	values[0] = NameGetDatum(&name);
	values[1] = CStringGetTextDatum(reason);
	values[2] = Int64GetDatum((int64) connection->key_digest);
	SPI_connect();
	(void) is_query_run(&query, values, NULL);
	SPI_finish();
}

void
is_gate_open(const IsConnection *connection)
{
	static IsQuery query = IS_QUERY(
		"DELETE FROM iterable.connection_state "
		"WHERE connection OPERATOR(pg_catalog.=) $1",
		1, NAMEOID);
	Gate	   *gate = find_gate(connection);
	NameData	name;
	Datum		value;

	if (gate == NULL || !gate->stopped)
		return;
	namestrcpy(&name, connection->name);
	value = NameGetDatum(&name);
	SPI_connect();
	(void) is_query_run(&query, &value, NULL);
	SPI_finish();
	gate->stopped = false;
	ereport(LOG,
			(errmsg("connection \"%s\" is open again", connection->name)));
}
