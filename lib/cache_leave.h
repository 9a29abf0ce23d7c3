/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * The ways out of a cache, all but the last unpin under the gate:
 *   evict    the policy's victim, if nobody pins it; else it is parked: it
 *            leaves the policy's queues, so that no other search meets it
 *   remove   a given entry: dead at once, or hidden until its last unpin
 *   take     a given entry, if nobody pins it; the value is the caller's
 *
 * A value that left is handed to the listener after the gate was opened: it is
 * written down in a struct farewell meanwhile (cache_release.h).  With
 * short_reads it stays in its retired record, until a grace period has passed.
 *
 * The last unpin of an entry that is parked or hidden puts it on the returned
 * list (E4), a stack that is only ever taken as a whole: by the next holder of
 * the gate, before anything else.
 */
#ifndef SEG_CACHE_LEAVE_H
#define SEG_CACHE_LEAVE_H

#include "cache_release.h"

/* Between these the set of entries is the caller's to change.  The first
 * empties the farewell, the second says it, and serves who asked meanwhile. */
void cache_lock(struct seg_cache *c, struct farewell *f);
void cache_unlock(struct seg_cache *c, struct farewell *f);

/* Evicts that one; one place in the farewell must be left.  What it weighed;
 * 0: it is pinned. */
uint64_t cache_evict_entry(struct seg_cache *c, struct cache_entry *e,
			   enum seg_cause cause, struct farewell *f);

/*
 * Evicts until `weight` more would not exceed the limit, or nothing can go;
 * false: the farewell is full.
 */
bool cache_make_room(struct seg_cache *c, uint64_t weight, uint64_t limit,
		     enum seg_cause cause, struct farewell *f);

/*
 * Evicts down to that weight, and at most so much; what it was.  Who may not
 * block is not patient: a thread that was stopped while it holds the gate must
 * not stop an allocation.
 */
uint64_t cache_evict_to(struct seg_cache *c, uint64_t limit, uint64_t most,
			enum seg_cause cause, bool patient);

/* Takes it out of the index; one place in the farewell must be left. */
void cache_remove_entry(struct seg_cache *c, struct cache_entry *e,
			enum seg_cause cause, struct farewell *f);

/* As remove, with the cause REPLACED: by another entry, in its place. */
void cache_replace_entry(struct seg_cache *c, struct cache_entry *old,
			 struct cache_entry *e, struct farewell *f);

/* Out of the index, dead or (if it is pinned) hidden. */
void cache_hide_entry(struct seg_cache *c, struct cache_entry *e,
		      uint16_t cause);

/* False: it is pinned. */
bool cache_take_entry(struct seg_cache *c, struct cache_entry *e);

/* Removes all, bucket by bucket. */
void cache_remove_all(struct seg_cache *c, enum seg_cause cause);

/* After an unpin: evicts if it is too heavy, and serves the returned list,
 * or has the holder of the gate do so. */
void cache_relieve(struct seg_cache *c);

/* The keeper's look: sends a small batch of values that has waited for long
 * enough (short_reads); when to come again. */
uint64_t cache_flush_duty(struct keeper_duty *duty, uint64_t now_ns);

/* The next batch is to be sent at once. */
void cache_hurry(struct seg_cache *c);

/* The work of a batch of retired records, after the grace period. */
bool cache_batch_arrived(struct work *work);

#endif
