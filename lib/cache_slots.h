/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * The memory of a cache's entries and of their records.  It stays entries and
 * records until the cache ends: look-ups may go astray in it.
 *
 *   made = free + in use + retired + on their way
 *
 * It comes in groups.  The first has small pages, which are backed one by one,
 * so that a small cache stays small; each other one fills a huge page.
 *
 * An entry that ended is free at once, but with short_reads, where the value
 * that left waits in it for a grace period: retired.  Retired ones are sent on
 * in batches, one batch on its way at a time: the busier the cache is, the
 * larger are the batches and the fewer the grace periods.  Who brings a batch
 * back (the keeper) does not take the lock, which may be held by a thread that
 * was stopped: it says that the batch is there, and the next holder puts it on
 * the free list.
 * All under the cache's lock.
 */
#ifndef SEG_CACHE_SLOTS_H
#define SEG_CACHE_SLOTS_H

#include "assert.h"
#include "cache_entry.h"
#include "work_queue.h"

#ifndef CACHE_GROUPS
#define CACHE_GROUPS (1 << 16)
#endif

struct cache_slots {
	/* read by look-ups; its place does not change */
	struct cache_group **groups;
	struct cache_record *free;
	struct cache_record *retired;	/* the newest; linked by next ... */
	struct cache_record *retired_last;	/* ... to the oldest */
	uint64_t retired_count;
	struct cache_record *sent;	/* the batch on its way; the keeper's */
	struct cache_record *sent_last;
	bool sending;
	struct atomic_u32 arrived;	/* the batch; written by the keeper */
	struct work work;		/* of the batch */
	struct atomic_u64 made;		/* read without the lock, too */
};

/* False: no memory. */
bool slots_init(struct cache_slots *s);

/* One that was never used; NULL: no memory. */
struct cache_entry *slots_make(struct cache_slots *s);

/* An entry with a record, both to be filled; NULL: no memory. */
static inline struct cache_entry *slots_get(struct cache_slots *s)
{
	struct cache_record *r = s->free;

	if (!r)
		return slots_make(s);
	s->free = r->next;
	/* It may have been away for a while: for the next to find it near. */
	if (s->free) {
		__builtin_prefetch(s->free, 1);
		__builtin_prefetch(record_entry(s->free), 1);
	}
	return record_entry(r);
}

/* It is free again. */
static inline void slots_put(struct cache_slots *s, struct cache_entry *e)
{
	struct cache_record *r = entry_record(e);

	r->next = s->free;
	s->free = r;
}

/* It is not free before its batch has arrived. */
static inline void slots_retire(struct cache_slots *s, struct cache_entry *e)
{
	struct cache_record *r = entry_record(e);

	seg_assert(entry_state(entry_look(e)) == ENTRY_DEAD);
	r->next = s->retired;
	if (!s->retired)
		s->retired_last = r;
	s->retired = r;
	s->retired_count++;
}

/* Whether to defer the work now: a batch was made, of at least so many. */
bool slots_send(struct cache_slots *s, uint64_t least);

/* The batch has arrived; without the lock. */
void slots_arrive(struct cache_slots *s);

/* Puts a batch that has arrived on the free list. */
void slots_receive(struct cache_slots *s);

/* Whether it is one of these; without the lock. */
bool slots_own(const struct cache_slots *s, const struct cache_entry *e);

/* What is backed; without the lock. */
uint64_t slots_bytes(const struct cache_slots *s);

/* Nobody uses any entry.  False: the kernel did not take all; those that are
 * left can be used, or cleared, again. */
bool slots_clear(struct cache_slots *s);

#endif
