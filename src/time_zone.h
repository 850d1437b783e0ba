/*-------------------------------------------------------------------------
 *
 * time_zone.h
 *	  Time zones by name.
 *
 * Copyright (c) 2026, the iterable_sync developers
 *-------------------------------------------------------------------------
 */
#ifndef IS_TIME_ZONE_H
#define IS_TIME_ZONE_H

#include "postgres.h"

#include "pgtime.h"

/*
 * The zone of this name, as the setting TimeZone takes it; error 22023 with a
 * hint if there is none.
 */
extern pg_tz *is_time_zone_get(const char *name);

#endif							/* IS_TIME_ZONE_H */
