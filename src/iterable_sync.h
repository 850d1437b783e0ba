/*-------------------------------------------------------------------------
 *
 * iterable_sync.h
 *	  Settings and words that every module shares.
 *
 * Copyright (c) 2026, the iterable_sync developers
 *-------------------------------------------------------------------------
 */
#ifndef ITERABLE_SYNC_H
#define ITERABLE_SYNC_H

#include "postgres.h"

#define IS_SCHEMA "iterable"
#define IS_EXTENSION "iterable_sync"

/* Settings, defined and described in iterable_sync.c. */
extern bool is_allow_insecure_base_url;
extern bool is_keep_failed_payloads;
extern int	is_rescan_interval;		 /* s */
extern int	is_worker_idle_timeout;	 /* s */
extern int	is_max_databases;
extern char *is_environment;

#endif							/* ITERABLE_SYNC_H */
