/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * The memory of a cache's entries and of their records, as many of the one as
 * of the other.  It stays entries and records until the cache ends: look-ups
 * may go astray in it.
 *
 *   made = free + in use                              (entries)
 *   made = free + in use + retired + on their way     (records)
 *
 * An entry that ended is free at once.  So is its record, but with short_reads,
 * where the value that left waits in the record for a grace period: retired.
 * Retired records are sent on in batches, one batch on its way at a time: the
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
	struct cache_entry *entries;	/* free */
	struct cache_record *records;	/* free */
	struct cache_chunk *chunks;
	struct cache_record *retired;	/* the newest; linked by next ... */
	struct cache_record *retired_last;	/* ... to the oldest */
	uint64_t retired_count;
	struct cache_record *sent;	/* the batch on its way; the keeper's */
	struct cache_record *sent_last;
	bool sending;
	struct atomic_u32 arrived;	/* the batch; written by the keeper */
	struct work work;		/* of the batch */
	struct atomic_u64 made;
	struct atomic_u64 bytes;
};

/* An entry with a record, both to be filled; NULL: no memory. */
struct cache_entry *slots_get(struct cache_slots *s);

/* Both are free again. */
void slots_put(struct cache_slots *s, struct cache_entry *e);

/* The entry is free again; its record, with the value that left, is not. */
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
