/*-------------------------------------------------------------------------
 *
 * preview.h
 *	  Walking over the rows of a source to look at what a sync makes of them.
 *
 * Copyright (c) 2026, the iterable_sync developers
 *-------------------------------------------------------------------------
 */
#ifndef IS_PREVIEW_H
#define IS_PREVIEW_H

#include "postgres.h"

#include "render.h"

/*
 * Render all rows in the order of is_render_walk_keys(), chunk by chunk, the
 * first of at most "first" rows.  Each chunk is given to "see" in a context
 * that is reset after it, until it returns false.  Can be cancelled.
 */
typedef IsRenderSee IsPreviewSee;
extern void is_preview_walk(IsRenderer *renderer, int first, IsPreviewSee see,
							void *arg);

/*
 * The same for who wants all rows, in any order: in one pass where the order
 * is dear, which is as is_render_pass() says.
 */
extern void is_preview_all(IsRenderer *renderer, int first, IsPreviewSee see,
						   void *arg);

#endif							/* IS_PREVIEW_H */
