/*-------------------------------------------------------------------------
 *
 * connection_options.h
 *	  The options of a connection: their names, what they may be, and what
 *	  they are when not given.
 *
 * Copyright (c) 2026, the iterable_sync developers
 *-------------------------------------------------------------------------
 */
#ifndef IS_CONNECTION_OPTIONS_H
#define IS_CONNECTION_OPTIONS_H

#include "postgres.h"

#include "nodes/pg_list.h"

#include "connection.h"

typedef struct IsServerOptions
{
	IsDataCenter data_center;
	IsProjectType project_type;
	char	   *base_url;		/* lower case, no slash at the end */
	bool		plain_http;
	double		rate[IS_ENDPOINT_COUNT];
	char	   *rate_group;		/* or NULL */
	bool		update_only;
	int			request_timeout_ms;
	int			connect_timeout_ms;
} IsServerOptions;

typedef struct IsMappingOptions
{
	char	   *api_key;		/* one of the two is NULL */
	char	   *api_key_file;
} IsMappingOptions;

/*
 * Read the options of a foreign server or a user mapping (DefElems).  Errors:
 * HV002 a required option is missing; 22023 a bad value, or values that do not
 * go together.  No error shows a key.
 */
extern void is_options_read_server(List *options, IsServerOptions *result);
extern void is_options_read_mapping(List *options, IsMappingOptions *result);

/*
 * Can this be sent as a key?  NULL if so, else why not (a clause that does
 * not repeat it).
 */
extern const char *is_options_check_key(const char *key);

/* Where the API of a data centre is. */
extern const char *is_options_official_url(IsDataCenter data_center);

#endif							/* IS_CONNECTION_OPTIONS_H */
