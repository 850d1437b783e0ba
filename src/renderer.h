/*-------------------------------------------------------------------------
 *
 * renderer.h
 *	  The renderer, for the files that it is made of: render.c, payload.c,
 *	  walk.c, pass.c.
 *
 * Copyright (c) 2026, the iterable_sync developers
 *-------------------------------------------------------------------------
 */
#ifndef IS_RENDERER_H
#define IS_RENDERER_H

#include "postgres.h"

#include "nodes/parsenodes.h"

#include "layout.h"
#include "render.h"
#include "source.h"

struct IsRenderer
{
	MemoryContext context;
	const IsSync *sync;
	IsProjectType project_type;
	Oid			relid;			/* that was read last */
	bool		mixed;			/* and others before */
	int			max_payload;	/* bytes */
	const char *suffix;			/* what every payload ends with */
	List	   *mappings;		/* of IsMapping * */
	bool		captured;		/* of the source, when this was made */

	MemoryContext layout_context;	/* holds the three below */
	IsLayout   *layout;
	Oid		   *types;			/* of the mapped columns, for which it was made */
	int			ntypes;

	MemoryContext work_context; /* of one call */
};

/* The query of the rows, of all or by key, and analyzing it. */
extern char *is_renderer_query(const IsRenderer *renderer,
							   const IsRelation *relation, bool by_key);
extern Query *is_renderer_analyze(IsRenderer *renderer, const IsRelation *relation,
								  const char *sql, bool by_key);

/* Type of a parameter that is compared with a key column. */
extern Oid	is_renderer_key_type(const IsKeyColumn *key);

/* This relation is being read now. */
extern void is_renderer_note(IsRenderer *renderer, const IsRelation *relation);

#endif							/* IS_RENDERER_H */
