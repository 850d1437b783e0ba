/*
 * settings.h
 *		Changing the settings of the project.  Network thread only.
 */
#ifndef EMULATOR_SETTINGS_H
#define EMULATOR_SETTINGS_H

#include "json.h"
#include "project.h"

extern void settings_defaults(void);
/* a key of the command line, which must stay where it is */
extern void settings_add_key(const char *key);
/* takes the present settings as those to go back to, and goes back */
extern void settings_remember(void);
extern void settings_restore(void);
extern bool settings_project_type(const char *name, ProjectType *type);
/* the members of an object that there are; an error message, or NULL */
extern const char *settings_apply(const Document *document);

#endif							/* EMULATOR_SETTINGS_H */
