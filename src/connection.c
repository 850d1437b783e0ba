/*-------------------------------------------------------------------------
 *
 * connection.c
 *	  Connections as C structs, their keys, and making them.
 *
 * Copyright (c) 2026, the iterable_sync developers
 *-------------------------------------------------------------------------
 */
#include "connection.h"

#include <fcntl.h>
#include <sys/stat.h>
#include <unistd.h>

#include "access/xact.h"
#include "catalog/pg_foreign_server.h"
#include "catalog/pg_user_mapping.h"
#include "commands/defrem.h"
#include "foreign/foreign.h"
#include "miscadmin.h"
#include "nodes/makefuncs.h"
#include "storage/fd.h"
#include "tcop/utility.h"
#include "utils/acl.h"
#include "utils/builtins.h"
#include "utils/fmgrprotos.h"
#include "utils/syscache.h"

#include "compat.h"
#include "connection_options.h"

#define MAX_KEY_FILE_BYTES 4096

PG_FUNCTION_INFO_V1(iterable_create_connection);

/* ----------------------------------------------------------------
 * Keys
 * ----------------------------------------------------------------
 */

/* First 64 bits of the SHA-256: the same in every database and process. */
static uint64
digest(const char *kind, const char *first, const char *second)
{
	StringInfoData text;
	Datum		sha;
	uint64		result;

	initStringInfo(&text);
	appendBinaryStringInfo(&text, kind, strlen(kind) + 1);
	appendBinaryStringInfo(&text, first, strlen(first) + 1);
	appendStringInfoString(&text, second);
	sha = DirectFunctionCall1(sha256_bytea,
							  PointerGetDatum(cstring_to_text_with_len(text.data,
																	   text.len)));
	explicit_bzero(text.data, text.len);
	memcpy(&result, VARDATA_ANY(DatumGetByteaPP(sha)), sizeof(result));
	return result;
}

/*
 * The key in a file that only the server (or root, who may let the server's
 * group read it) can read or change: the rule for private keys of TLS.
 * Messages do not show the path, since whoever may use a connection sees them.
 */
static char *
read_key_file(const char *connection, const char *path)
{
	char		text[MAX_KEY_FILE_BYTES + 1];
	struct stat status;
	mode_t		forbidden;
	const char *problem;
	char	   *key = text;
	ssize_t		len;
	int			fd;

	/* O_NONBLOCK, so that a pipe without a writer does not hold us. */
	fd = OpenTransientFile(path, O_RDONLY | O_NONBLOCK | PG_BINARY);
	if (fd < 0 || fstat(fd, &status) != 0)
		ereport(ERROR,
				(errcode_for_file_access(),
				 errmsg("could not open the key file of connection \"%s\": %m",
						connection),
				 errdetail_log("The file is \"%s\".", path),
				 errhint("The option api_key_file of the user mapping must name a file that the server can read.")));

	if (!S_ISREG(status.st_mode))
		ereport(ERROR,
				(errcode(ERRCODE_CONFIG_FILE_ERROR),
				 errmsg("the key file of connection \"%s\" is not a regular file",
						connection),
				 errdetail_log("The file is \"%s\".", path)));

	forbidden = status.st_uid == 0 ?
		S_IWGRP | S_IXGRP | S_IRWXO : S_IRWXG | S_IRWXO;
	if ((status.st_uid != 0 && status.st_uid != geteuid()) ||
		(status.st_mode & forbidden) != 0)
		ereport(ERROR,
				(errcode(ERRCODE_CONFIG_FILE_ERROR),
				 errmsg("others can read or change the key file of connection \"%s\"",
						connection),
				 errdetail_log("The file is \"%s\".", path),
				 errhint("The file must be owned by the user that runs the server and have the mode 0600 or less, or be owned by root and have 0640 or less.")));

	len = read(fd, text, sizeof(text));
	if (len < 0)
		ereport(ERROR,
				(errcode_for_file_access(),
				 errmsg("could not read the key file of connection \"%s\": %m",
						connection),
				 errdetail_log("The file is \"%s\".", path)));
	CloseTransientFile(fd);

	if (len > MAX_KEY_FILE_BYTES)
		problem = "it is too large";
	else if (memchr(text, '\0', len) != NULL)
		problem = "it contains a null byte";
	else
	{
		while (len > 0 && strchr(" \t\r\n", text[len - 1]) != NULL)
			len--;
		text[len] = '\0';
		key += strspn(key, " \t\r\n");
		problem = is_options_check_key(key);
	}
	if (problem != NULL)
		ereport(ERROR,
				(errcode(ERRCODE_CONFIG_FILE_ERROR),
				 errmsg("the key file of connection \"%s\" holds no key: %s",
						connection, problem),
				 errdetail_log("The file is \"%s\".", path),
				 errhint("The file must contain the API key and nothing else.")));

	key = pstrdup(key);
	explicit_bzero(text, sizeof(text));
	return key;
}

static void
read_key(IsConnection *connection, Oid role)
{
	IsMappingOptions options;

	/* GetUserMapping() would say so without a hint. */
	if (!SearchSysCacheExists2(USERMAPPINGUSERSERVER, ObjectIdGetDatum(role),
							   ObjectIdGetDatum(connection->server)) &&
		!SearchSysCacheExists2(USERMAPPINGUSERSERVER,
							   ObjectIdGetDatum(InvalidOid),
							   ObjectIdGetDatum(connection->server)))
		ereport(ERROR,
				(errcode(ERRCODE_UNDEFINED_OBJECT),
				 errmsg("connection \"%s\" has no key for role \"%s\"",
						connection->name, GetUserNameFromId(role, false)),
				 errhint("Create a user mapping for PUBLIC with the option api_key_file or api_key.")));

	is_options_read_mapping(GetUserMapping(role, connection->server)->options,
							&options);
	connection->key_from_file = options.api_key_file != NULL;
	connection->api_key = connection->key_from_file ?
		read_key_file(connection->name, options.api_key_file) :
		pstrdup(options.api_key);
	connection->key_digest = digest("key", connection->api_key, "");
}

/* ----------------------------------------------------------------
 * Connections
 * ----------------------------------------------------------------
 */

static IsConnection *
describe(const char *name, Oid role, IsServerOptions *options)
{
	IsConnection *connection;
	ForeignServer *server;
	ForeignDataWrapper *wrapper;
	AclResult	aclresult;

	server = GetForeignServerByName(name, true);
	if (server == NULL)
		ereport(ERROR,
				(errcode(ERRCODE_UNDEFINED_OBJECT),
				 errmsg("connection \"%s\" does not exist", name),
				 errhint("Create it with iterable_create_connection().")));

	/*
	 * The name tells that it is the wrapper of our extension: it is unique,
	 * and only superusers create wrappers.
	 */
	wrapper = GetForeignDataWrapper(server->fdwid);
	if (strcmp(wrapper->fdwname, IS_WRAPPER) != 0)
		ereport(ERROR,
				(errcode(ERRCODE_UNDEFINED_OBJECT),
				 errmsg("server \"%s\" is not a connection", name),
				 errdetail("It belongs to the foreign-data wrapper \"%s\", not \"%s\".",
						   wrapper->fdwname, IS_WRAPPER)));

	aclresult = is_foreign_server_aclcheck(server->serverid, role, ACL_USAGE);
	if (aclresult != ACLCHECK_OK)
		aclcheck_error(aclresult, OBJECT_FOREIGN_SERVER, server->servername);

	is_options_read_server(server->options, options);

	connection = palloc0(sizeof(IsConnection));
	connection->server = server->serverid;
	connection->name = server->servername;
	connection->base_url = options->base_url;
	connection->data_center = options->data_center;
	connection->project_type = options->project_type;
	memcpy(connection->rate, options->rate, sizeof(connection->rate));
	connection->request_timeout_ms = options->request_timeout_ms;
	connection->connect_timeout_ms = options->connect_timeout_ms;
	connection->allow_http = options->plain_http;
	connection->update_only = options->update_only;
	return connection;
}

IsConnection *
is_connection_describe(const char *name, Oid role)
{
	IsServerOptions options;

	return describe(name, role, &options);
}

IsConnection *
is_connection_get(const char *name, Oid role)
{
	IsServerOptions options;
	IsConnection *connection = describe(name, role, &options);

	read_key(connection, role);

	/* Iterable counts per project, and a key belongs to one project. */
	connection->rate_group = options.rate_group != NULL ?
		digest("rate_group", options.rate_group, "") :
		digest("project", connection->base_url, connection->api_key);
	return connection;
}

/* ----------------------------------------------------------------
 * iterable_create_connection()
 * ----------------------------------------------------------------
 */

static List *
add_option(List *options, const char *name, FunctionCallInfo fcinfo, int arg,
		   bool numeric)
{
	char	   *value;

	if (PG_ARGISNULL(arg))
		return options;
	value = numeric ?
		DatumGetCString(DirectFunctionCall1(numeric_out, PG_GETARG_DATUM(arg))) :
		text_to_cstring(PG_GETARG_TEXT_PP(arg));
	return lappend(options,
				   makeDefElem(pstrdup(name), (Node *) makeString(value), -1));
}

/*
 * Run a statement as if its text had been sent, so that hooks and event
 * triggers see it; but there is no text that would hold the key.
 */
static void
run_statement(Node *statement, const char *words)
{
	PlannedStmt *planned = makeNode(PlannedStmt);

	planned->commandType = CMD_UTILITY;
	planned->utilityStmt = statement;
	planned->stmt_location = -1;
	ProcessUtility(planned, words, false, PROCESS_UTILITY_QUERY, NULL, NULL,
				   None_Receiver, NULL);
	CommandCounterIncrement();
}

static void
hide_statement(void *arg)
{
	errhidestmt(true);
}

Datum
iterable_create_connection(PG_FUNCTION_ARGS)
{
	CreateForeignServerStmt *server = makeNode(CreateForeignServerStmt);
	CreateUserMappingStmt *mapping = makeNode(CreateUserMappingStmt);
	ErrorContextCallback callback = {0};
	char	   *name;

	/* When this fails, the caller's statement is not logged with its key. */
	callback.callback = hide_statement;
	callback.previous = error_context_stack;
	error_context_stack = &callback;

	if (PG_ARGISNULL(0))
		ereport(ERROR,
				(errcode(ERRCODE_NULL_VALUE_NOT_ALLOWED),
				 errmsg("argument \"%s\" must not be null", "name")));
	name = text_to_cstring(PG_GETARG_TEXT_PP(0));
	if (name[0] == '\0')
		ereport(ERROR,
				(errcode(ERRCODE_INVALID_NAME),
				 errmsg("name of a connection must not be empty")));
	if (strlen(name) >= NAMEDATALEN)
		ereport(ERROR,
				(errcode(ERRCODE_NAME_TOO_LONG),
				 errmsg("name of a connection is too long"),
				 errdetail("It may have %d bytes.", NAMEDATALEN - 1)));

	server->servername = name;
	server->fdwname = pstrdup(IS_WRAPPER);
	server->options = add_option(NIL, "data_center", fcinfo, 1, false);
	server->options = add_option(server->options, "project_type", fcinfo, 2, false);
	server->options = add_option(server->options, "base_url", fcinfo, 5, false);
	server->options = add_option(server->options, "users_rate", fcinfo, 6, true);
	server->options = add_option(server->options, "events_rate", fcinfo, 7, true);
	server->options = add_option(server->options, "rate_group", fcinfo, 8, false);
	server->options = add_option(server->options, "request_timeout", fcinfo, 9, false);
	server->options = add_option(server->options, "connect_timeout", fcinfo, 10, false);
	if (!PG_ARGISNULL(11))
		server->options = lappend(server->options,
								  makeDefElem("update_only",
											  (Node *) makeString(PG_GETARG_BOOL(11) ? "true" : "false"),
											  -1));

	mapping->user = makeNode(RoleSpec);
	mapping->user->roletype = ROLESPEC_PUBLIC;
	mapping->user->location = -1;
	mapping->servername = name;
	mapping->options = add_option(NIL, "api_key", fcinfo, 3, false);
	mapping->options = add_option(mapping->options, "api_key_file", fcinfo, 4, false);

	run_statement((Node *) server,
				  "CREATE SERVER by iterable_create_connection()");
	run_statement((Node *) mapping,
				  "CREATE USER MAPPING by iterable_create_connection()");

	error_context_stack = callback.previous;
	PG_RETURN_VOID();
}
