/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "plan.h"

/* The smallest class that holds the bytes, or the largest there is. */
static uint64_t class_above(uint64_t bytes)
{
	uint64_t size = SEG_MIN_BYTES;

	while (size < bytes && size < SEG_MAX_BYTES)
		size *= 2;
	return size;
}

/*
 * Cuts the bytes into at most so many parts; a part of 0 ends the list.  Gives
 * the sum of their classes, or UINT64_MAX where they are too many.  It is
 * either one segment with a rest unused, or a full one and a plan for the rest.
 */
static uint64_t cut(uint64_t bytes, unsigned parts, size_t *ret)
{
	uint64_t one = class_above(bytes);
	uint64_t full = one > bytes ? one / 2 : one;
	uint64_t rest = UINT64_MAX;

	if (parts > 1 && full >= SEG_MIN_BYTES && bytes > full)
		rest = cut(bytes - full, parts - 1, ret + 1);
	if (one >= bytes && (rest == UINT64_MAX || one <= full + rest)) {
		ret[0] = (size_t)one;
		ret[1] = 0;
		return one;
	}
	ret[0] = (size_t)full;
	return rest == UINT64_MAX ? rest : full + rest;
}

unsigned plan_parts(uint64_t bytes, size_t parts[SEG_PAGE_PARTS])
{
	size_t list[SEG_PAGE_PARTS + 1] = { 0 };
	unsigned count = 0;

	cut(bytes, SEG_PAGE_PARTS, list);
	while (count < SEG_PAGE_PARTS && list[count]) {
		parts[count] = list[count];
		count++;
	}
	return count;
}
