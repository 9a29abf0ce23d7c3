/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* See json.h. */
#include "json.h"

#include <string.h>

static void put(struct json *j, char c)
{
	j->length++;
	if (j->room <= 1)
		return;
	*j->at++ = c;
	*j->at = '\0';
	j->room--;
}

void json_raw(struct json *j, const char *text)
{
	while (*text)
		put(j, *text++);
}

void json_raw_number(struct json *j, uint64_t value)
{
	char digits[24];
	char *at = digits + sizeof(digits) - 1;

	*at = '\0';
	do {
		*--at = (char)('0' + value % 10);
		value /= 10;
	} while (value);
	json_raw(j, at);
}

/* Of a sequence of UTF-8 that is not ASCII (RFC 3629); 0: it is none. */
static unsigned utf8_length(const char *text)
{
	static const uint32_t least[] = { 0, 0, 0x80, 0x800, 0x10000 };
	unsigned char first = (unsigned char)*text;
	unsigned length = first >= 0xf0 ? 4 : first >= 0xe0 ? 3 : 2;
	uint32_t code = first & (0x7fu >> length);

	if (first < 0xc0 || first >= 0xf8)
		return 0;
	for (unsigned i = 1; i < length; i++) {
		unsigned char c = (unsigned char)text[i];

		if ((c & 0xc0) != 0x80)	/* the terminating zero, too */
			return 0;
		code = code << 6 | (c & 0x3f);
	}
	if (code < least[length] || code > 0x10ffff ||
	    (code >= 0xd800 && code <= 0xdfff))
		return 0;
	return length;
}

static void put_ascii(struct json *j, char c)
{
	static const char hex[] = "0123456789abcdef";

	if (c == '"' || c == '\\')
		put(j, '\\');
	if (c >= 0x20 && c < 0x7f) {
		put(j, c);
		return;
	}
	json_raw(j, "\\u00");
	put(j, hex[c >> 4]);
	put(j, hex[c & 15]);
}

/* UTF-8 as it is; each byte of anything else is U+FFFD. */
static const char *put_sequence(struct json *j, const char *text)
{
	unsigned length = utf8_length(text);

	if (!length) {
		json_raw(j, "\\ufffd");
		return text + 1;
	}
	while (length--)
		put(j, *text++);
	return text;
}

static void put_quoted(struct json *j, const char *text)
{
	put(j, '"');
	while (*text) {
		if ((unsigned char)*text < 0x80)
			put_ascii(j, *text++);
		else
			text = put_sequence(j, text);
	}
	put(j, '"');
}

static void put_key(struct json *j, const char *key)
{
	if (j->comma)
		put(j, ',');
	j->comma = true;
	if (!key)
		return;
	put_quoted(j, key);
	put(j, ':');
}

void json_begin(struct json *j, char *buffer, size_t bytes)
{
	*j = (struct json){ .at = buffer, .room = bytes };
	if (bytes)
		*buffer = '\0';
}

void json_open(struct json *j, const char *key, char bracket)
{
	put_key(j, key);
	put(j, bracket);
	j->comma = false;
}

void json_close(struct json *j, char bracket)
{
	put(j, bracket);
	j->comma = true;
}

void json_number(struct json *j, const char *key, uint64_t value)
{
	put_key(j, key);
	json_raw_number(j, value);
}

void json_signed(struct json *j, const char *key, int64_t value)
{
	put_key(j, key);
	if (value < 0)
		put(j, '-');
	json_raw_number(j, value < 0 ? -(uint64_t)value : (uint64_t)value);
}

void json_string(struct json *j, const char *key, const char *value)
{
	put_key(j, key);
	if (value)
		put_quoted(j, value);
	else
		json_raw(j, "null");
}

void json_fields(struct json *j, const struct json_field *fields,
		 const void *object)
{
	uint64_t value;

	for (; fields->name; fields++) {
		memcpy(&value, (const char *)object + fields->offset,
		       sizeof(value));
		json_number(j, fields->name, value);
	}
}

int json_end(struct json *j)
{
	return (int)j->length;
}
