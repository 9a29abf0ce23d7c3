/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* Whether a text is one JSON value (RFC 8259), and what stands in it. */
#ifndef SEG_TESTS_JSON_CHECK_H
#define SEG_TESTS_JSON_CHECK_H

#include <ctype.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

static inline bool json_value(const char **at, int depth);

static inline bool json_eat(const char **at, char c)
{
	if (**at != c)
		return false;
	(*at)++;
	return true;
}

static inline bool json_escape(const char **at)
{
	if (json_eat(at, 'u')) {
		for (int i = 0; i < 4; i++)
			if (!isxdigit((unsigned char)*(*at)++))
				return false;
		return true;
	}
	return **at && strchr("\"\\/bfnrt", *(*at)++) != NULL;
}

static inline bool json_text(const char **at)
{
	if (!json_eat(at, '"'))
		return false;
	while (!json_eat(at, '"')) {
		if ((unsigned char)**at < 0x20)
			return false;
		if (*(*at)++ == '\\' && !json_escape(at))
			return false;
	}
	return true;
}

/* Integers are all that is written. */
static inline bool json_integer(const char **at)
{
	json_eat(at, '-');
	if (json_eat(at, '0'))
		return !isdigit((unsigned char)**at);
	if (!isdigit((unsigned char)**at))
		return false;
	while (isdigit((unsigned char)**at))
		(*at)++;
	return true;
}

static inline bool json_members(const char **at, char end, int depth)
{
	if (json_eat(at, end))
		return true;
	do {
		if (end == '}' && (!json_text(at) || !json_eat(at, ':')))
			return false;
		if (!json_value(at, depth + 1))
			return false;
	} while (json_eat(at, ','));
	return json_eat(at, end);
}

static inline bool json_value(const char **at, int depth)
{
	if (depth > 16)
		return false;
	if (json_eat(at, '{'))
		return json_members(at, '}', depth);
	if (json_eat(at, '['))
		return json_members(at, ']', depth);
	if (**at == '"')
		return json_text(at);
	if (strncmp(*at, "null", 4) == 0) {
		*at += 4;
		return true;
	}
	return json_integer(at);
}

static inline bool json_is_valid(const char *text)
{
	return json_value(&text, 0) && *text == '\0';
}

/* The first number under that key; UINT64_MAX: there is none. */
static inline uint64_t json_find(const char *text, const char *key)
{
	size_t length = strlen(key);

	for (const char *at = text; (at = strstr(at, key)) != NULL; at++)
		if (at > text && at[-1] == '"' && at[length] == '"' &&
		    at[length + 1] == ':')
			return strtoull(at + length + 2, NULL, 10);
	return UINT64_MAX;
}

#endif
