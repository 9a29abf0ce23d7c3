/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* The part of a file that a client asks for (RFC 9110, section 14). */
#ifndef SERVER_RANGE_H
#define SERVER_RANGE_H

#include <stdint.h>

enum range {
	RANGE_WHOLE,	/* no range, or one that may be ignored */
	RANGE_PART,	/* offset and bytes are set */
	RANGE_NOWHERE	/* it lies behind the end */
};

/*
 * Reads the header's value (NULL: there is none) for a file of size bytes.
 * Lists of ranges are ignored, as a server may.
 */
enum range range_parse(const char *value, uint64_t size, uint64_t *ret_offset,
		       uint64_t *ret_bytes);

#endif
