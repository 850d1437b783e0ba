/*-------------------------------------------------------------------------
 *
 * connection_options.c
 *	  The options of a connection, and the validator of the wrapper.
 *
 * The validator and is_connection_get() read options by the same functions,
 * so what was permitted when a server was made is checked again whenever it
 * is used.
 *
 * Copyright (c) 2026, the iterable_sync developers
 *-------------------------------------------------------------------------
 */
#include "connection_options.h"

#include <math.h>

#include "access/reloptions.h"
#include "catalog/pg_foreign_server.h"
#include "catalog/pg_foreign_table.h"
#include "catalog/pg_user_mapping.h"
#include "commands/defrem.h"
#include "miscadmin.h"
#include "utils/builtins.h"
#include "utils/formatting.h"
#include "utils/guc.h"

#include "hint.h"
#include "iterable_sync.h"

#define MAX_KEY_LENGTH 256

/* Below, the pacer would take it for this. */
#define LEAST_RATE 0.001
#define MAX_RATE 1000.0

#define LEAST_TIMEOUT_MS 100
#define MAX_REQUEST_TIMEOUT_MS (600 * 1000)
#define MAX_CONNECT_TIMEOUT_MS (60 * 1000)

/* Look-ups are not worth an option: this is Iterable's limit. */
#define LOOKUP_RATE 100.0

static const struct
{
	const char *name;
	Oid			catalog;		/* where it may be given */
}			known_options[] = {
	{"data_center", ForeignServerRelationId},
	{"project_type", ForeignServerRelationId},
	{"base_url", ForeignServerRelationId},
	{"users_rate", ForeignServerRelationId},
	{"events_rate", ForeignServerRelationId},
	{"rate_group", ForeignServerRelationId},
	{"update_only", ForeignServerRelationId},
	{"request_timeout", ForeignServerRelationId},
	{"connect_timeout", ForeignServerRelationId},
	{"api_key", UserMappingRelationId},
	{"api_key_file", UserMappingRelationId},
};

/* In the order of their enums. */
static const char *const data_centers[] = {"us", "eu"};
static const char *const project_types[] = {"email", "userid", "hybrid"};
static const char *const official_urls[] = {
	"https://api.iterable.com",
	"https://api.eu.iterable.com",
};

PG_FUNCTION_INFO_V1(iterable_connection_validator);

const char *
is_options_official_url(IsDataCenter data_center)
{
	return official_urls[data_center];
}

/* ----------------------------------------------------------------
 * Values
 *
 * No message repeats a value: it may be a key that got into the wrong place,
 * or a URL with a password.
 * ----------------------------------------------------------------
 */

static int
read_word(DefElem *option, const char *const *words, int n)
{
	const char *value = defGetString(option);
	const char *closest;
	StringInfoData valid;

	for (int i = 0; i < n; i++)
		if (strcmp(value, words[i]) == 0)
			return i;

	closest = is_hint_closest(value, words, n);
	initStringInfo(&valid);
	for (int i = 0; i < n; i++)
		appendStringInfo(&valid, "%s\"%s\"", i == 0 ? "" : ", ", words[i]);
	ereport(ERROR,
			(errcode(ERRCODE_INVALID_PARAMETER_VALUE),
			 errmsg("invalid value for option \"%s\"", option->defname),
			 closest ?
			 errhint("Perhaps you meant \"%s\".", closest) :
			 errhint("Valid values are: %s.", valid.data)));
}

static bool
read_bool(DefElem *option)
{
	bool		value;

	if (!parse_bool(defGetString(option), &value))
		ereport(ERROR,
				(errcode(ERRCODE_INVALID_PARAMETER_VALUE),
				 errmsg("invalid value for option \"%s\"", option->defname),
				 errhint("Valid values are: \"true\", \"false\".")));
	return value;
}

static double
read_rate(DefElem *option)
{
	double		rate;

	/* parse_real() refuses NaN, and infinity is out of the range. */
	if (!parse_real(defGetString(option), &rate, 0, NULL) ||
		rate < LEAST_RATE || rate > MAX_RATE)
		ereport(ERROR,
				(errcode(ERRCODE_INVALID_PARAMETER_VALUE),
				 errmsg("invalid value for option \"%s\"", option->defname),
				 errhint("Give a number of requests per second from %g to %g.",
						 LEAST_RATE, MAX_RATE)));
	return rate;
}

static int
read_timeout(DefElem *option, int max_ms)
{
	double		seconds;
	double		ms = 0;

	if (parse_real(defGetString(option), &seconds, GUC_UNIT_S, NULL))
		ms = rint(seconds * 1000);
	if (ms < LEAST_TIMEOUT_MS || ms > max_ms)
		ereport(ERROR,
				(errcode(ERRCODE_INVALID_PARAMETER_VALUE),
				 errmsg("invalid value for option \"%s\"", option->defname),
				 errhint("Give a time from %d ms to %d s, such as \"500ms\" or \"30s\"; a number without a unit means seconds.",
						 LEAST_TIMEOUT_MS, max_ms / 1000)));
	return (int) ms;
}

/*
 * Take a base URL apart: scheme, host and port are all it may have, so that
 * nothing in it can disguise another host or carry a password.  Returns what
 * is wrong with it, or NULL.
 */
static const char *
parse_base_url(const char *url, bool *plain, bool *iterable_host)
{
	static const char domain[] = ".iterable.com";
	const char *host;
	const char *p;
	Size		len;

	*plain = pg_strncasecmp(url, "http://", 7) == 0;
	if (*plain)
		host = url + 7;
	else if (pg_strncasecmp(url, "https://", 8) == 0)
		host = url + 8;
	else
		return "It does not begin with \"https://\".";

	if (host[0] == '[')
	{
		len = 1 + strspn(host + 1, "0123456789abcdefABCDEF:.");
		if (len < 3 || host[len] != ']')
			return "It has no valid host.";
		len++;
	}
	else
	{
		for (len = 0; (host[len] >= 'a' && host[len] <= 'z') ||
			 (host[len] >= 'A' && host[len] <= 'Z') ||
			 (host[len] >= '0' && host[len] <= '9') ||
			 (host[len] != '\0' && strchr(".-_", host[len]) != NULL); len++)
			;
		if (len == 0 || len > 253 || host[0] == '.')
			return "It has no valid host.";
	}

	*iterable_host =
		(len == strlen(domain) - 1 &&
		 pg_strncasecmp(host, domain + 1, len) == 0) ||
		(len > strlen(domain) &&
		 pg_strncasecmp(host + len - strlen(domain), domain, strlen(domain)) == 0);

	p = host + len;
	if (*p == ':')
	{
		Size		digits = strspn(++p, "0123456789");

		if (digits == 0 || digits > 5 || atoi(p) < 1 || atoi(p) > 65535)
			return "It has no valid port.";
		p += digits;
	}
	if (*p == '/')
		p++;
	if (*p != '\0')
		return "It has more than a scheme, a host and a port.";
	return NULL;
}

static void
read_base_url(DefElem *option, IsServerOptions *result)
{
	char	   *url = defGetString(option);
	bool		iterable_host = false;
	const char *problem = parse_base_url(url, &result->plain_http,
										 &iterable_host);

	if (problem != NULL)
		ereport(ERROR,
				(errcode(ERRCODE_INVALID_PARAMETER_VALUE),
				 errmsg("invalid value for option \"%s\"", option->defname),
				 errdetail_internal("%s", problem),
				 errhint("Give an address such as \"%s\".",
						 official_urls[IS_DATA_CENTER_US])));

	if ((result->plain_http || !iterable_host) && !is_allow_insecure_base_url)
		ereport(ERROR,
				(errcode(ERRCODE_INVALID_PARAMETER_VALUE),
				 errmsg("option \"%s\" must be https and a host under iterable.com",
						option->defname),
				 errdetail("The key and the data of the connection would go elsewhere, or in clear."),
				 errhint("A superuser can permit other addresses, for tests, with the setting iterable_sync.allow_insecure_base_url.")));

	result->base_url = asc_tolower(url, strlen(url));
	if (result->base_url[strlen(url) - 1] == '/')
		result->base_url[strlen(url) - 1] = '\0';
}

const char *
is_options_check_key(const char *key)
{
	if (key[0] == '\0')
		return "it is empty";
	if (strlen(key) > MAX_KEY_LENGTH)
		return "it is longer than 256 characters";

	/* It becomes part of an HTTP header. */
	for (const char *p = key; *p != '\0'; p++)
		if (*p <= ' ' || *p > '~')
			return "it contains a blank or a character that is not printable ASCII";
	return NULL;
}

/* ----------------------------------------------------------------
 * Servers and user mappings
 * ----------------------------------------------------------------
 */

void
is_options_read_server(List *options, IsServerOptions *result)
{
	bool		has_data_center = false;
	bool		has_project_type = false;
	ListCell   *lc;

	memset(result, 0, sizeof(*result));
	result->rate[IS_ENDPOINT_USERS_BULK_UPDATE] = 5;
	result->rate[IS_ENDPOINT_EVENTS_TRACK_BULK] = 10;
	result->rate[IS_ENDPOINT_USER_LOOKUP] = LOOKUP_RATE;
	result->request_timeout_ms = 30 * 1000;
	result->connect_timeout_ms = 5 * 1000;

	foreach(lc, options)
	{
		DefElem    *option = lfirst_node(DefElem, lc);
		const char *name = option->defname;

		if (strcmp(name, "data_center") == 0)
		{
			result->data_center = (IsDataCenter)
				read_word(option, data_centers, lengthof(data_centers));
			has_data_center = true;
		}
		else if (strcmp(name, "project_type") == 0)
		{
			result->project_type = (IsProjectType)
				read_word(option, project_types, lengthof(project_types));
			has_project_type = true;
		}
		else if (strcmp(name, "base_url") == 0)
			read_base_url(option, result);
		else if (strcmp(name, "users_rate") == 0)
			result->rate[IS_ENDPOINT_USERS_BULK_UPDATE] = read_rate(option);
		else if (strcmp(name, "events_rate") == 0)
			result->rate[IS_ENDPOINT_EVENTS_TRACK_BULK] = read_rate(option);
		else if (strcmp(name, "rate_group") == 0)
		{
			result->rate_group = defGetString(option);
			if (result->rate_group[0] == '\0')
				ereport(ERROR,
						(errcode(ERRCODE_INVALID_PARAMETER_VALUE),
						 errmsg("option \"%s\" must not be empty", name)));
		}
		else if (strcmp(name, "update_only") == 0)
			result->update_only = read_bool(option);
		else if (strcmp(name, "request_timeout") == 0)
			result->request_timeout_ms =
				read_timeout(option, MAX_REQUEST_TIMEOUT_MS);
		else if (strcmp(name, "connect_timeout") == 0)
			result->connect_timeout_ms =
				read_timeout(option, MAX_CONNECT_TIMEOUT_MS);
	}

	if (!has_data_center)
		ereport(ERROR,
				(errcode(ERRCODE_FDW_DYNAMIC_PARAMETER_VALUE_NEEDED),
				 errmsg("option \"%s\" is required", "data_center"),
				 errhint("It says where the Iterable project is: \"us\" or \"eu\".")));
	if (!has_project_type)
		ereport(ERROR,
				(errcode(ERRCODE_FDW_DYNAMIC_PARAMETER_VALUE_NEEDED),
				 errmsg("option \"%s\" is required", "project_type"),
				 errhint("It says what identifies a user of the Iterable project: \"email\", \"userid\" or \"hybrid\" (both).")));
	if (result->data_center == IS_DATA_CENTER_EU &&
		result->project_type == IS_PROJECT_EMAIL)
		ereport(ERROR,
				(errcode(ERRCODE_INVALID_PARAMETER_VALUE),
				 errmsg("there are no e-mail-based projects in the data center \"eu\""),
				 errhint("Set the option project_type to \"userid\" or \"hybrid\", whichever the Iterable project is.")));

	if (result->base_url == NULL)
		result->base_url = pstrdup(official_urls[result->data_center]);
}

void
is_options_read_mapping(List *options, IsMappingOptions *result)
{
	const char *problem = NULL;
	ListCell   *lc;

	result->api_key = NULL;
	result->api_key_file = NULL;

	foreach(lc, options)
	{
		DefElem    *option = lfirst_node(DefElem, lc);

		if (strcmp(option->defname, "api_key") == 0)
			result->api_key = defGetString(option);
		else if (strcmp(option->defname, "api_key_file") == 0)
			result->api_key_file = defGetString(option);
	}

	/*
	 * From here on, the statement may hold a key: it must not be logged with
	 * the error.
	 */
	if ((result->api_key == NULL) == (result->api_key_file == NULL))
		ereport(ERROR,
				(errcode(result->api_key == NULL ?
						 ERRCODE_FDW_DYNAMIC_PARAMETER_VALUE_NEEDED :
						 ERRCODE_INVALID_PARAMETER_VALUE),
				 errmsg("exactly one of the options \"%s\" and \"%s\" must be given",
						"api_key", "api_key_file"),
				 errhidestmt(true)));

	if (result->api_key != NULL)
		problem = is_options_check_key(result->api_key);
	if (problem != NULL)
		ereport(ERROR,
				(errcode(ERRCODE_INVALID_PARAMETER_VALUE),
				 errmsg("invalid value for option \"%s\": %s", "api_key", problem),
				 errhidestmt(true)));

	if (result->api_key_file != NULL &&
		!is_absolute_path(result->api_key_file))
		ereport(ERROR,
				(errcode(ERRCODE_INVALID_PARAMETER_VALUE),
				 errmsg("option \"%s\" must be an absolute path", "api_key_file"),
				 errhidestmt(true)));
}

/* ----------------------------------------------------------------
 * Validator
 * ----------------------------------------------------------------
 */

static void
check_name(const char *name, Oid catalog)
{
	const char *valid[lengthof(known_options)];
	int			nvalid = 0;
	const char *closest;
	StringInfoData list;

	for (Size i = 0; i < lengthof(known_options); i++)
	{
		if (known_options[i].catalog == catalog)
		{
			if (strcmp(name, known_options[i].name) == 0)
				return;
			valid[nvalid++] = known_options[i].name;
		}
	}

	/* The statement is not logged: perhaps it is api_key that was mistyped. */
	for (Size i = 0; i < lengthof(known_options); i++)
		if (strcmp(name, known_options[i].name) == 0)
			ereport(ERROR,
					(errcode(ERRCODE_FDW_INVALID_OPTION_NAME),
					 errmsg("invalid option \"%s\"", name),
					 known_options[i].catalog == UserMappingRelationId ?
					 errhint("It is an option of the user mapping.") :
					 errhint("It is an option of the server."),
					 errhidestmt(true)));

	closest = is_hint_closest(name, valid, nvalid);
	initStringInfo(&list);
	for (int i = 0; i < nvalid; i++)
		appendStringInfo(&list, "%s%s", i == 0 ? "" : ", ", valid[i]);
	ereport(ERROR,
			(errcode(ERRCODE_FDW_INVALID_OPTION_NAME),
			 errmsg("invalid option \"%s\"", name),
			 closest ?
			 errhint("Perhaps you meant the option \"%s\".", closest) :
			 nvalid > 0 ?
			 errhint("Valid options in this context are: %s", list.data) :
			 errhint("There are no valid options in this context."),
			 errhidestmt(true)));
}

Datum
iterable_connection_validator(PG_FUNCTION_ARGS)
{
	List	   *options = untransformRelOptions(PG_GETARG_DATUM(0));
	Oid			catalog = PG_GETARG_OID(1);
	ListCell   *lc;

	if (catalog == ForeignTableRelationId)
		ereport(ERROR,
				(errcode(ERRCODE_FEATURE_NOT_SUPPORTED),
				 errmsg("foreign-data wrapper \"%s\" has no foreign tables",
						IS_WRAPPER),
				 errhint("Its servers are connections, over which syncs send rows to Iterable.")));

	foreach(lc, options)
		check_name(lfirst_node(DefElem, lc)->defname, catalog);

	if (catalog == ForeignServerRelationId)
	{
		IsServerOptions server;

		is_options_read_server(options, &server);
	}
	else if (catalog == UserMappingRelationId)
	{
		IsMappingOptions mapping;

		is_options_read_mapping(options, &mapping);

		/*
		 * The server reads the file with its own rights.  (A mapping that has
		 * the option can be dropped by its owner, but not altered.)
		 */
		if (mapping.api_key_file != NULL && !superuser())
			ereport(ERROR,
					(errcode(ERRCODE_INSUFFICIENT_PRIVILEGE),
					 errmsg("permission denied to set option \"%s\"", "api_key_file"),
					 errdetail("Only superusers may have a key read from a file of the server."),
					 errhint("Use the option api_key, or ask a superuser."),
					 errhidestmt(true)));
	}

	PG_RETURN_VOID();
}
