/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * The memory of a cache's entries: free ones, those in use, and retired ones.
 * A retired entry is free again after a grace period, since look-ups may still
 * be reading it.
 *
 *   made = free + in use + retired + on their way
 *
 * Retired entries are sent on in batches, one batch on its way at a time: the
 * busier the cache is, the larger are the batches and the fewer the grace
 * periods.  Who brings a batch back (the keeper) does not take the lock, which
 * may be held by a thread that was stopped: it says that the batch is there,
 * and the next holder puts it on the free list.
 * All under the cache's lock.
 */
#ifndef SEG_CACHE_SLOTS_H
#define SEG_CACHE_SLOTS_H

#include "cache_entry.h"
#include "work_queue.h"

struct cache_chunk;

struct cache_slots {
	struct cache_entry *free;
	struct cache_chunk *chunks;
	struct cache_entry *retired;	/* the newest; linked by next ... */
	struct cache_entry *retired_last;	/* ... to the oldest */
	uint64_t retired_count;
	struct cache_entry *sent;	/* the batch on its way; the keeper's */
	struct cache_entry *sent_last;
	bool sending;
	struct atomic_u32 arrived;	/* the batch; written by the keeper */
	struct work work;		/* of the batch */
	struct atomic_u64 made;		/* entries */
	struct atomic_u64 bytes;
};

/* NULL: no memory. */
struct cache_entry *slots_get(struct cache_slots *s);

/* One that was never published. */
void slots_put(struct cache_slots *s, struct cache_entry *e);

void slots_retire(struct cache_slots *s, struct cache_entry *e);

/* Whether to defer the work now: a batch was made, of at least so many. */
bool slots_send(struct cache_slots *s, uint64_t least);

/* The batch has arrived; without the lock. */
void slots_arrive(struct cache_slots *s);

/* Puts a batch that has arrived on the free list. */
void slots_receive(struct cache_slots *s);

/* Nobody uses any entry. */
void slots_clear(struct cache_slots *s);

#endif
