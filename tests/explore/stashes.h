/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* A pool of one class whose threads have stashes, for their scenarios. */
#ifndef STASHES_H
#define STASHES_H

#include "calls.h"
#include "explore.h"

extern struct seg_pool stashes_pool;
extern struct class_pool *const stashes_class;	/* the first one */

/* Setup: a region of so many slices, which fills the budget.  The first so many
 * threads have a stash; thread 0 has parked all slices in its own. */
void stashes_open(unsigned slices, unsigned threads);

/* As seg_alloc(), but that no region is opened: NULL if there is none. */
void *stashes_take(void);
void stashes_use(void *segment);
void stashes_use_and_release(void *segment);

/* Wrong releases are reported instead: the world counts. */
void stashes_release(void *segment);

/* The region that an address is in. */
struct region *stashes_region(const void *segment);

/* Post: whatever they hold, the figures are right; all slices come back, once,
 * and then the region goes. */
void stashes_close(void);

#endif
