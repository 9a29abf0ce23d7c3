/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * Small pieces of one size out of 4 KiB segments: what SQLite wants beside a
 * page would make its page of 4 KiB take 8.  A segment goes back to the pool
 * when all its pieces are free.
 */
#ifndef SQLITE_SLOTS_H
#define SQLITE_SLOTS_H

#include <pthread.h>
#include <seg.h>

enum { SLOTS_SEGMENT_BYTES = SEG_MIN_BYTES };

struct slots {
	pthread_mutex_t lock;		/* a leaf: nothing is called under it */
	struct seg_pool *pool;
	size_t bytes;			/* of a slot */
	struct slot_segment *partial;	/* those with a free slot */
};

/* False: no segment can hold one. */
bool slots_init(struct slots *s, struct seg_pool *pool, size_t bytes);
/* All slots are free by now. */
void slots_end(struct slots *s);

/* NULL: none, after having tried as the options of seg_alloc_with() say. */
void *slots_take(struct slots *s, const struct seg_alloc_options *how);
/* Any thread.  Which slots it came from is found by its address. */
void slots_give(void *slot);

#endif
