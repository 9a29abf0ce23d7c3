/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * The size rule of the public structs.  Options: a shorter struct is of an
 * older caller (down to the size of the first release), the rest gets the
 * defaults; a longer one is of a newer caller and refused unless the surplus
 * is zero.  Results: the caller gets as many members as its struct holds, and
 * zeros behind what the library knows.
 */
#ifndef SEG_OPTIONS_H
#define SEG_OPTIONS_H

#include <stdbool.h>
#include <stddef.h>
#include <string.h>

#define OPTIONS_MAX_SIZE 4096

static inline bool options_surplus_is_zero(const char *from, const char *end)
{
	while (from < end)
		if (*from++)
			return false;
	return true;
}

/* Copies theirs into own, a zeroed struct of own_size; min is the least. */
static inline bool options_get(void *own, size_t own_size, const void *theirs,
			       size_t min)
{
	size_t size;

	if (!theirs)
		return false;
	memcpy(&size, theirs, sizeof(size));
	if (size < min || size > OPTIONS_MAX_SIZE)
		return false;
	if (size > own_size &&
	    !options_surplus_is_zero((const char *)theirs + own_size,
				     (const char *)theirs + size))
		return false;
	memcpy(own, theirs, size < own_size ? size : own_size);
	return true;
}

/* Whether a result struct of the caller's can be filled. */
static inline bool result_is_valid(const void *theirs)
{
	size_t size;

	if (!theirs)
		return false;
	memcpy(&size, theirs, sizeof(size));
	return size >= 2 * sizeof(size) && size <= OPTIONS_MAX_SIZE;
}

/* Copies own into theirs, whose size stays what the caller said.  Members
 * have 8 bytes, or are two of 4: none is copied in part. */
static inline void result_put(void *theirs, const void *own, size_t own_size)
{
	size_t size, whole;

	memcpy(&size, theirs, sizeof(size));
	memset(theirs, 0, size);
	whole = size / sizeof(size) * sizeof(size);
	memcpy(theirs, own, whole < own_size ? whole : own_size);
	memcpy(theirs, &size, sizeof(size));
}

/* Takes over a result that the caller was given: what it does not hold is 0. */
static inline void result_get(void *own, size_t own_size, const void *theirs)
{
	size_t size;

	memcpy(&size, theirs, sizeof(size));
	memset(own, 0, own_size);
	memcpy(own, theirs, size < own_size ? size : own_size);
}

#endif
