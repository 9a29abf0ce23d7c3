/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * Exponential backoff for retry loops under contention: concurrencykit's.  It
 * touches no shared memory, so it may be inlined under ThreadSanitizer.
 */
#ifndef SEG_BACKOFF_H
#define SEG_BACKOFF_H

#ifdef SEG_EXPLORE

struct backoff {
	unsigned rounds;
};
#define BACKOFF_INIT { .rounds = 1 }
#define backoff_pause(b) ((void)(b))

#else

#define CK_BACKOFF_CEILING 255
#include <ck_backoff.h>

struct backoff {
	ck_backoff_t rounds;
};

#define BACKOFF_INIT { .rounds = 4 }

static inline void backoff_pause(struct backoff *b)
{
	ck_backoff_eb(&b->rounds);
}

#endif
#endif
