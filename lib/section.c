/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* See section.h. */
#include "section.h"

#include <pthread.h>

#include "backoff.h"
#include "os.h"

#ifndef SECTION_LOOKS
#define SECTION_LOOKS 64
#endif

static bool has_barrier;

static void decide(void)
{
	has_barrier = !os_membarrier_register() && !os_membarrier();
}

bool sections_begin(void)
{
	static pthread_once_t once = PTHREAD_ONCE_INIT;

	pthread_once(&once, decide);
	return has_barrier;
}

bool sections_barrier(void)
{
	return !os_membarrier();
}

bool section_is_left(struct section *s)
{
	struct backoff backoff = BACKOFF_INIT;

	for (int i = 0; i < SECTION_LOOKS; i++) {
		/* acquire <- section_leave() */
		if (!u32_load_acquire(&s->inside))
			return true;
		backoff_pause(&backoff);
	}
	return false;
}
