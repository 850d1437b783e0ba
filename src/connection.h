/*-------------------------------------------------------------------------
 *
 * connection.h
 *	  A connection is one Iterable project: a foreign server of the wrapper
 *	  "iterable", with the key in a user mapping.
 *
 * Copyright (c) 2026, the iterable_sync developers
 *-------------------------------------------------------------------------
 */
#ifndef IS_CONNECTION_H
#define IS_CONNECTION_H

#include "postgres.h"

#include "iterable_api.h"

#define IS_WRAPPER "iterable"

typedef enum IsDataCenter
{
	IS_DATA_CENTER_US,
	IS_DATA_CENTER_EU
} IsDataCenter;

typedef struct IsConnection
{
	Oid			server;
	char	   *name;
	char	   *base_url;		/* lower case, no slash at the end */
	IsDataCenter data_center;
	IsProjectType project_type;
	char	   *api_key;
	bool		key_from_file;
	double		rate[IS_ENDPOINT_COUNT];	/* requests/s */
	uint64		rate_group;		/* digest of the option rate_group, or of base
								 * URL and key */
	bool		update_only;	/* the account has the flag updateOnly */
	uint64		key_digest;		/* tells a changed key from the refused one */
	int			request_timeout_ms;
	int			connect_timeout_ms;
	bool		allow_http;		/* base_url is plain http and permitted */
} IsConnection;

/*
 * Look a connection up for a role, in CurrentMemoryContext, with its key.  A
 * key file is read every time, so a key that was replaced counts from the
 * next call on.  Errors: 42704 no such server, or it is not of the wrapper
 * iterable; 42501 the role lacks USAGE; 42704 no user mapping; 58P01/42501
 * the key file can't be read; F0000 it is no file that only the server can
 * read, or holds no key; 22023 a base_url whose permission was withdrawn.
 * Needs a transaction.
 */
extern IsConnection *is_connection_get(const char *name, Oid role);

/* Same without reading the key (api_key NULL, rate_group 0), for checks. */
extern IsConnection *is_connection_describe(const char *name, Oid role);

#endif							/* IS_CONNECTION_H */
