/*
 * script.h
 *		Faults that a test has ordered, in turn.  Network thread only.
 */
#ifndef EMULATOR_SCRIPT_H
#define EMULATOR_SCRIPT_H

#include "api.h"

typedef enum Action
{
	ACTION_APPLY,				/* as always, perhaps late */
	ACTION_ANSWER,
	ACTION_DROP,
	ACTION_APPLY_THEN_DROP,
	ACTION_HANG,
	ACTION_APPLY_THEN_HANG,
	ACTION_APPLY_THEN_ANSWER,
	ACTION_TRUNCATE,
	ACTION_GARBAGE,
	ACTION_SLOW,
	ACTION_CLOSE
} Action;

typedef struct ScriptHeader
{
	char	   *name;
	char	   *value;
} ScriptHeader;

typedef struct Step
{
	struct Step *next;
	char	   *path;			/* prefix, or NULL for any */
	int			times;			/* left; 0 is for ever */
	bool		is_forever;
	int			users;			/* requests that hold it, and the script */
	Action		action;
	int			status;
	int			delay_ms;
	char	   *body;
	ScriptHeader *headers;
	size_t		header_count;
	FailRows   *fail_rows;
} Step;

extern const char *action_name(Action action);
/* is the request applied to the project at all? */
extern bool action_applies(Action action);

/* adds steps from an array; an error message, or NULL */
extern const char *script_add(const Document *document, const cJSON *steps);
/* the step for this request, which is used up by it; or NULL */
extern Step *script_take(const char *path);
extern void step_release(Step *step);
extern size_t script_left(void);
extern void script_reset(void);

#endif							/* EMULATOR_SCRIPT_H */
