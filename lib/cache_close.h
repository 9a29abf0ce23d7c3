/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * Closing: open entries (cache_entry.h, E7) get all their pins into their words
 * before anything is decided by these.  The barrier that it takes costs about a
 * microsecond, and each processor that runs a thread some of it.  So as many
 * are closed by one as may be of use; and after each a thread has to pin hot
 * entries in words for a while before it opens one again.  So what barriers
 * cost stays a small part of what pins cost, and where entries come and go fast
 * they are hardly ever opened.
 *
 * A pin in a slot takes no weight off the cache; it does when it is moved.  So
 * an entry that only slots pin weighs until it is met by who looks for room,
 * who then finds it pinned: the cache is never heavier than it seems.  Who
 * shrinks or drains it, and figures for others, have it as pinned at once.
 *
 * Should the kernel refuse the barrier, having allowed it before, nobody can
 * tell who pins what: what was open stays pinned for ever, and no other entry
 * of the cache is opened.
 */
#ifndef SEG_CACHE_CLOSE_H
#define SEG_CACHE_CLOSE_H

#include "cache.h"

/* Under the gate, the next four.  Who shuts an entry ends it, or unshuts it;
 * the others may be open again when these return. */
void cache_shut_entry(struct seg_cache *c, struct cache_entry *e);
/* Shuts an entry that is to be evicted, and closes those probably next. */
void cache_close_victims(struct seg_cache *c, struct cache_record *r);
/* Those in a bucket, and in some that follow; the first one left out. */
uint32_t cache_close_buckets(struct seg_cache *c, uint32_t bucket);
void cache_close_all(struct seg_cache *c);

/* How many slots have it. */
unsigned cache_slot_pins(struct cache_entry *e);
/* The weight of what only slots pin; of all that is pinned; of what is not.
 * They look at all slots of all threads. */
uint64_t cache_pinned_in_slots(struct seg_cache *c);
uint64_t cache_pinned_exactly(struct seg_cache *c);
uint64_t cache_weight_exactly(struct seg_cache *c);

#endif
