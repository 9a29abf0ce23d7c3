/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * Writes JSON into a buffer of a given size, as snprintf() does: what does not
 * fit is left out and counted.  No memory of its own, no locale.
 */
#ifndef SEG_JSON_H
#define SEG_JSON_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

struct json {
	char *at;		/* where the next byte goes */
	size_t room;		/* bytes there, with the terminating zero */
	size_t length;		/* so far, whether it fitted or not */
	bool comma;		/* before the next member */
};

/* A uint64_t member of a struct; the name NULL ends a list. */
struct json_field {
	const char *name;
	size_t offset;
};

#define JSON_FIELD(type, member) { #member, offsetof(struct type, member) }
#define JSON_END { NULL, 0 }

void json_begin(struct json *j, char *buffer, size_t bytes);

/* key NULL: in a list.  bracket is one of { and [. */
void json_open(struct json *j, const char *key, char bracket);
void json_close(struct json *j, char bracket);

void json_number(struct json *j, const char *key, uint64_t value);
void json_signed(struct json *j, const char *key, int64_t value);
/* UTF-8 up to the zero, what is none as U+FFFD; NULL is null. */
void json_string(struct json *j, const char *key, const char *value);
void json_fields(struct json *j, const struct json_field *fields,
		 const void *object);

/* Text as it is, and a number: for what is no JSON. */
void json_raw(struct json *j, const char *text);
void json_raw_number(struct json *j, uint64_t value);

/* The length of the whole. */
int json_end(struct json *j);

#endif
