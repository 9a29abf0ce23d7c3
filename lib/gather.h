/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * Stashes are emptied into their regions: by their thread when somebody waits
 * for memory, or by others: at the limit, by a trim or a drain, by the keeper's
 * looks, and when the thread ends.
 *
 * The keeper empties all of them at each look, the busy ones, too: else a slice
 * at the bottom of a magazine could keep a region for ever.  That costs a busy
 * thread one filling in a quarter of decay_ms.
 */
#ifndef SEG_GATHER_H
#define SEG_GATHER_H

#include "class_pool.h"

/* A claim of that region's stands among those of the thread's stash, which are
 * brought to their owners, or settled, when they are many. */
void gather_claimed(struct allocator *a, struct stash *st,
		    const struct region *r);
/* The same for one that does not stand there yet; no stash: NULL. */
void gather_claim(struct allocator *a, struct stash *st,
		  const struct claim *claim);

/* Empties the calling thread's; true: there was something. */
bool gather_own(struct allocator *a);

/* Empties all, but for those of threads that stopped in a section; true: there
 * was something.  Patient: lets these go on first, for a moment. */
bool gather_all(struct allocator *a, bool patient);

/* The same while no other thread is in a call of the pool's. */
void gather_last(struct allocator *a);

/* The keeper's: gather_all(), and takes away the room of those that were not
 * used since its last look, and what backed it. */
void gather_idle(struct allocator *a);

/* All are empty and nobody's: their figures go to the class pools. */
void gather_unbind(struct allocator *a);

/* Of a thread that ends. */
void gather_end(void *stash);

/* In the child of a fork: nobody is in a section but the calling thread. */
void gather_forked(struct allocator *a);

#endif
