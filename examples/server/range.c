/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "range.h"

#include <stdbool.h>
#include <string.h>
#include <strings.h>

/* Whether there was a number; one that is too large is the largest. */
static bool number(const char **at, uint64_t *ret)
{
	const char *begin = *at;
	uint64_t n = 0;

	for (; **at >= '0' && **at <= '9'; (*at)++) {
		uint64_t digit = (uint64_t)(**at - '0');

		n = n > (UINT64_MAX - digit) / 10 ? UINT64_MAX : n * 10 + digit;
	}
	*ret = n;
	return *at != begin;
}

enum range range_parse(const char *value, uint64_t size, uint64_t *ret_offset,
		       uint64_t *ret_bytes)
{
	static const char unit[] = "bytes=";
	uint64_t first, last;
	bool from, to;

	if (!value || strncasecmp(value, unit, strlen(unit)))
		return RANGE_WHOLE;
	value += strlen(unit);
	from = number(&value, &first);
	if (*value++ != '-')
		return RANGE_WHOLE;
	to = number(&value, &last);
	if (*value || (!from && !to) || (from && to && last < first))
		return RANGE_WHOLE;
	if (!from) {		/* the last so many bytes */
		first = last < size ? size - last : 0;
		last = last ? UINT64_MAX : 0;
		if (!last)
			return RANGE_NOWHERE;
	}
	if (first >= size)
		return RANGE_NOWHERE;
	if (!to || last > size - 1)
		last = size - 1;
	*ret_offset = first;
	*ret_bytes = last - first + 1;
	return RANGE_PART;
}
