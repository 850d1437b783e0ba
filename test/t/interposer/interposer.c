/*-------------------------------------------------------------------------
 *
 * interposer.c
 *	  Preloaded into a test's server: a resolver that hangs for the host
 *	  "hangs.test", and another store of trusted certificates.
 *
 * Copyright (c) 2026, the iterable_sync developers
 *-------------------------------------------------------------------------
 */
#define _GNU_SOURCE

#include <dlfcn.h>
#include <netdb.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

typedef int (*GetAddrInfo) (const char *, const char *, const struct addrinfo *,
							struct addrinfo **);
typedef FILE *(*FOpen) (const char *, const char *);

int
getaddrinfo(const char *node, const char *service, const struct addrinfo *hints,
			struct addrinfo **res)
{
	if (node && strcmp(node, "hangs.test") == 0)
		for (;;)
			sleep(60);
	return ((GetAddrInfo) dlsym(RTLD_NEXT, "getaddrinfo")) (node, service, hints, res);
}

static const char *
store_of(const char *path)
{
	const char *mine = getenv("TEST_TRUSTED_CERTIFICATES");

	return mine && strstr(path, "ca-certificates.crt") ? mine : path;
}

FILE *
fopen(const char *path, const char *mode)
{
	return ((FOpen) dlsym(RTLD_NEXT, "fopen")) (store_of(path), mode);
}

FILE *
fopen64(const char *path, const char *mode)
{
	return ((FOpen) dlsym(RTLD_NEXT, "fopen64")) (store_of(path), mode);
}
