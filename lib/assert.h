/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * Two levels of assertions about the library's own state (never about what
 * the caller did): seg_assert() with --enable-debug, seg_assert_full(), which
 * may walk structures, with --enable-debug=full.  When off, the expression is
 * still compiled.  seg_die() is the one documented abort: memory is corrupt.
 */
#ifndef SEG_ASSERT_H
#define SEG_ASSERT_H

#include <assert.h>
#include <stdio.h>
#include <stdlib.h>

#ifndef SEG_DEBUG
#define SEG_DEBUG 0
#endif

#define seg_assert(expr) assert_at(1, expr)
#define seg_assert_full(expr) assert_at(2, expr)
#define assert_at(level, expr)                                                 \
	do {                                                                   \
		if (SEG_DEBUG >= (level) && !(expr))                           \
			seg_die("assertion failed: " #expr);                   \
	} while (0)

#ifdef SEG_EXPLORE
_Noreturn void explore_die(const char *what);
#define seg_die(what) explore_die(what)
#else
_Noreturn static inline void seg_die(const char *what)
{
	fprintf(stderr, "libseg: %s\n", what);
	abort();
}
#endif

#endif
