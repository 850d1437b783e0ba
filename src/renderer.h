/*-------------------------------------------------------------------------
 *
 * renderer.h
 *	  The renderer, for the files that it is made of: render.c,
 *	  render_error.c, payload.c, walk.c, pass.c, fit.c.
 *
 * Copyright (c) 2026, the iterable_sync developers
 *-------------------------------------------------------------------------
 */
#ifndef IS_RENDERER_H
#define IS_RENDERER_H

#include "postgres.h"

#include "lib/stringinfo.h"
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
	bool		only_hashes;	/* nobody wants the payloads */

	MemoryContext layout_context;	/* holds the three below */
	IsLayout   *layout;
	Oid		   *types;			/* of the mapped columns, for which it was made */
	int			ntypes;

	MemoryContext work_context; /* of one call */
};

/*
 * The query of the rows, of all or by key: the key columns, then what is
 * mapped.  Analyze a query that begins so.
 */
extern char *is_renderer_query(const IsRenderer *renderer,
							   const IsRelation *relation, bool by_key);
extern Query *is_renderer_analyze(IsRenderer *renderer, const IsRelation *relation,
								  const char *sql, const Oid *types, int ntypes);

/* ", column, (expression)" for all that is mapped. */
extern void is_renderer_append_mapped(StringInfo sql, const IsRenderer *renderer);

/* Lay the payloads out for a query whose first columns are not mapped ones. */
extern void is_renderer_lay_out(IsRenderer *renderer, const Query *query, int others);

/*
 * May rows be sent as they were committed?  Error 42809 if their changes are
 * not captured, 0A000 if policies hide rows from their owner.
 */
extern void is_renderer_check_versions(const IsRelation *relation);

/* Type of a parameter that is compared with a key column. */
extern Oid	is_renderer_key_type(const IsKeyColumn *key);

/*
 * This relation is being read now; error 55000 if it is one that is captured
 * and the renderer was made for one that is not, or the reverse.
 */
extern void is_renderer_note(IsRenderer *renderer, const IsRelation *relation);

/*
 * fit.c, a body of is_reading_run(): lay the payloads out for the relation as
 * it is.  Errors of what does not fit name the mapping, or the filter.
 */
extern void is_renderer_fit(const IsRelation *relation, void *renderer);

/* ----------------------------------------------------------------
 * render_error.c
 * ----------------------------------------------------------------
 */

/*
 * Is an error about the sync as a whole, or about its surroundings, and not
 * about the values of a row?
 */
extern bool is_renderer_blames_sync(const ErrorData *error);

/* The problem of the row that has raised an error, in CurrentMemoryContext. */
extern void is_renderer_report_row(IsRow *row, const ErrorData *error);

/* As it was before it was rendered. */
extern void is_renderer_reset_row(IsRow *row);

/* Rows that are rendered together, of which each may raise an error. */
typedef struct IsTrial
{
	/* given */
	IsRow	   *rows;
	int		   *members;		/* which of them; NULL: from the first on */
	void		(*try_rows) (void *arg);	/* renders those from "first" on */
	void		(*report_row) (void *arg, IsRow *row, const ErrorData *error);	/* or NULL */
	void	   *arg;
	MemoryContext result_context;	/* of report_row() */

	/* while they are tried */
	int			first;
	int			count;
	MemoryContext try_context;	/* of try_rows() */
	MemoryContext row_context;	/* for use in it, row by row */
} IsTrial;

/*
 * Render so many rows; where that fails, halve them to spare the others.
 * Raises errors that blame the sync.
 */
extern void is_renderer_try(IsTrial *trial, int count);

#endif							/* IS_RENDERER_H */
