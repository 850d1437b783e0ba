/*
 * identifiers.h
 *		What is a well-formed e-mail or user id, and what is a date.
 */
#ifndef EMULATOR_IDENTIFIERS_H
#define EMULATOR_IDENTIFIERS_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

extern bool email_is_valid(const char *email);
extern bool user_id_is_valid(const char *user_id);
/* e-mails are stored in lower case; the result is the caller's to free */
extern char *email_fold(const char *email);

/* is this string one of the date formats, and which moment does it name */
extern bool date_parse(const char *text, size_t len, int64_t *seconds);
/* yyyy-MM-dd HH:mm:ss +00:00, as all answers have it */
#define DATE_TEXT_SIZE 48
extern void date_format(int64_t seconds, char *text);

#endif							/* EMULATOR_IDENTIFIERS_H */
