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

#include "assert.h"
#include "cache_entry.h"
#include "work_queue.h"

struct cache_chunk;

struct cache_slots {
	struct cache_entry *entries;	/* free */
	struct cache_record *records;	/* free */
	struct atomic_ptr chunks;	/* read without the lock, too */
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

/* More of both, if there is memory. */
void slots_make(struct cache_slots *s);

/* An entry with a record, both to be filled; NULL: no memory. */
static inline struct cache_entry *slots_get(struct cache_slots *s)
{
	struct cache_entry *e;
	struct cache_record *r;

	if (!s->entries || !s->records)
		slots_make(s);
	e = s->entries;
	r = s->records;
	if (!e || !r)
		return NULL;
	s->entries = ptr_load_relaxed(&e->value); /* relaxed: the lock's */
	s->records = r->next;
	ptr_store_relaxed(&e->record, r); /* relaxed: see entry_record() */
	r->entry = e;
	/* It may have been away for a while: for the next to find it near. */
	__builtin_prefetch(s->records, 1);
	return e;
}

static inline void slots_put_entry(struct cache_slots *s,
				   struct cache_entry *e)
{
	/* release: a dead entry's value has changed (E5) */
	ptr_store_release(&e->value, s->entries);
	s->entries = e;
}

static inline void slots_put_record(struct cache_slots *s,
				    struct cache_record *r)
{
	r->next = s->records;
	s->records = r;
}

/* Both are free again. */
static inline void slots_put(struct cache_slots *s, struct cache_entry *e)
{
	slots_put_record(s, entry_record(e));
	slots_put_entry(s, e);
}

/* The entry is free again; its record, with the value that left, is not. */
static inline void slots_retire(struct cache_slots *s, struct cache_entry *e)
{
	struct cache_record *r = entry_record(e);

	seg_assert(entry_state(entry_look(e)) == ENTRY_DEAD);
	r->key = entry_key(e);
	/* relaxed: it does not change any more */
	r->value = ptr_load_relaxed(&e->value);
	r->weight = entry_weight(e);
	r->next = s->retired;
	if (!s->retired)
		s->retired_last = r;
	s->retired = r;
	s->retired_count++;
	slots_put_entry(s, e);
}

/* Whether to defer the work now: a batch was made, of at least so many. */
bool slots_send(struct cache_slots *s, uint64_t least);

/* The batch has arrived; without the lock. */
void slots_arrive(struct cache_slots *s);

/* Puts a batch that has arrived on the free list. */
void slots_receive(struct cache_slots *s);

/* Whether it is one of these; without the lock. */
bool slots_own(const struct cache_slots *s, const struct cache_entry *e);

/* Nobody uses any entry. */
void slots_clear(struct cache_slots *s);

#endif
