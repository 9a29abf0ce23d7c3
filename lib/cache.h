/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * The concurrent weighted cache.  Its parts, bottom to top:
 *   cache_entry   one entry and the word that decides about it
 *   pin_slots     pins that readers keep in memory of their own
 *   cache_slots   the memory of entries
 *   cache_index   key -> entry, read without a lock
 *   cache_policy  who leaves next (cache_ghost: who left before)
 *   gate          the one lock, which never makes a hit or an unpin wait
 *   pin_tags      who pins
 *   cache_release what becomes of values that left
 *   cache_close   where pins are moved to the word before it decides
 *   cache_leave   the ways out
 *   cache_drain   out of sparse regions
 *   cache_migrate pages move to who reads them
 *   cache_get, cache_put, cache_load   what the application calls
 *   cache.c, cache_stats.c   creation, and what can be asked
 *
 * Weights.  Two sums are kept: resident, of all entries that are in the index
 * or still pinned, which changes when entries come and go; and pinned, of those
 * that have pins, which changes with the first and the last pin of an entry,
 * in a slot of the thread.  (Resident itself is two sums: what changes under
 * the gate is added up without a locked operation, what last unpins take off
 * stands in `parted`.)  What counts is their difference,
 *
 *   weight = resident - pinned <= max_weight
 *
 * so a pinned entry weighs 0 by construction (if only slots pin it, as soon as
 * it is met by who looks for room: cache_close.h).  Each change is by the
 * weight that stands in the entry, which never changes while it is in.
 * Unpins from slots change no weight, so they need not look (C2).
 * Guarantees: (C1) A put makes room first: it never makes the weight exceed.
 * (C2) After an unpin, the weight is looked at again if resident exceeds the
 * maximum: the unpin takes its weight off pinned, then reads `over`; who lets
 * resident exceed sets `over`, then sums up pinned (both seq_cst), so one of
 * them sees the other.  The unpin evicts itself or leaves a request to the
 * holder of the gate.  (C3) A value leaves by the one step that ended its
 * entry (E1): the listener gets it once, outside the gate, unlinked and not
 * pinned; with short_reads after a grace period.
 */
#ifndef SEG_CACHE_H
#define SEG_CACHE_H

#include "cache_index.h"
#include "cache_policy.h"
#include "cache_slots.h"
#include "gate.h"
#include "keeper.h"
#include "log.h"
#include "pin_tags.h"
#include "publish.h"
#include "reclaim.h"

enum { CACHE_NAME_BYTES = 32 };

/* Of one entry, and of a cache's maximum; of all that is resident. */
#define CACHE_WEIGHT_MOST (UINT64_C(1) << 56)
#define CACHE_RESIDENT_MOST (UINT64_C(1) << 62)

/* Written by hits: a thread's own, see counter.h. */
struct cache_slot {
	_Alignas(CACHE_LINE) struct atomic_u64 hits;
	struct atomic_u64 misses;
	struct atomic_u32 opens;	/* what is left of the cache's */
	/* read by puts into a full cache, too */
	_Alignas(CACHE_LINE) struct atomic_u64 pinned;
};

_Static_assert(sizeof(struct cache_slot) == COUNTER_PLACE_BYTES, "places");

#define CACHE_OPENS_LEFT UINT32_C(0x1fff)

/* Growing counts of slow events; by cause the values that left. */
enum cache_count {
	/* under the gate */
	COUNT_TAKES,
	COUNT_CAUSE_FIRST = SEG_CAUSE_EVICTED,
	COUNT_CAUSE_LAST = SEG_CAUSE_DESTROYED,
	COUNT_INSERTS,
	/* anywhere */
	COUNT_LOADS,
	COUNT_LOAD_FAILURES,
	COUNT_LOAD_WAITS,
	COUNT_RELEASED,
	COUNT_MISUSES,
	COUNT_MIGRATIONS,
	COUNT_MIGRATED_BYTES,
	COUNT_MIGRATIONS_REFUSED,
	COUNT_END
};

/* What last unpins are to do. */
enum cache_over {
	OVER_HEAVY = 1,		/* maybe too heavy: cache_relieve() */
	OVER_MIGRATES = 2	/* always so: cache_was_read() */
};

struct seg_cache {
	/* read by hits; written when the table grows */
	struct cache_index index;
	/* read by last unpins, enum cache_over; written when resident crosses
	 * the maximum */
	_Alignas(CACHE_LINE) struct atomic_u32 over;
	/* read by hits; written by the first eviction: 1 */
	struct atomic_u32 evicts;
	/* read by peeks: COUNTER_PLACED if they are allowed and nothing was
	 * evicted yet, so that no more has to be asked */
	struct atomic_u32 peeks;
	/* read by pins in words; 0: no entry is ever opened (see E7); else how
	 * many pins of hot ones a thread has to make in words before, since
	 * what stands in the higher bits changed */
	struct atomic_u32 opens;
	/* written at creation */
	bool short_reads;
	unsigned migrate_after;
	struct seg_pool *pages;		/* values are its pages; or NULL */
	seg_cache_listener_fn *listener;
	void *listener_ctx;
	struct seg_budget *budget;
	uint64_t floor_weight;
	struct log log;
	char name[CACHE_NAME_BYTES];
	uint64_t process;		/* see cache_is_foreign() */
	/* of their own rules */
	struct keeper_duty duty;
	struct reclaimer reclaimer;
	struct pin_tags tags;
	struct publish_item published;
	/* written by who changes the set of entries */
	_Alignas(CACHE_LINE) struct gate gate;
	struct atomic_u64 max_weight;
	struct atomic_u64 resident;	/* without `parted` taken off */
	struct atomic_u64 parted;	/* added to without the gate */
	/* weight until a grace period; retired is what the gate's holders ever
	 * added, deferred the rest, less what was released: the sum counts */
	struct atomic_u64 retired;
	struct atomic_u64 deferred;
	struct atomic_u32 eager;	/* 1: send any batch, however small */
	struct atomic_u32 flush;	/* 1: the keeper is to see to it soon */
	uint64_t flush_at_ns;		/* the keeper's own; 0: not yet */
	struct atomic_ptr returned;	/* records; see cache_leave.h */
	struct atomic_u64 loading;	/* entries, still in the index or not */
	struct atomic_u64 migrate_at_ns;	/* not before; a hint */
	struct atomic_u64 count[COUNT_END];
	struct atomic_u64 policy_bytes;	/* for the statistics */
	struct cache_policy policy;	/* under the gate, and the next two */
	struct cache_slots slots;
	struct cache_record *hidden;	/* removed, but pinned */
	struct cache_slot slot[COUNTER_SLOTS];
};

static inline void cache_count_get(struct seg_cache *c, bool hit)
{
	unsigned slot = counter_slot();

	counter_bump(hit ? &c->slot[slot].hits : &c->slot[slot].misses, slot,
		     1);
}

/* An entry of that weight has its first pin: a smaller weight of the cache,
 * which nobody waits for. */
static inline void cache_weigh_pin(struct seg_cache *c, uint64_t weight)
{
	unsigned slot = counter_slot();

	counter_bump(&c->slot[slot].pinned, slot, weight);
}

/* Under the gate: to a sum that nobody else writes. */
static inline void cache_add_inside(struct atomic_u64 *sum, uint64_t by)
{
	/* relaxed, both: the gate orders those who write it */
	u64_store_relaxed(sum, u64_load_relaxed(sum) + by);
}

/* Under the gate: of those counts that are raised nowhere else. */
static inline void cache_count_inside(struct seg_cache *c,
				      enum cache_count what)
{
	cache_add_inside(&c->count[what], 1);
}

static inline void cache_count(struct seg_cache *c, enum cache_count what)
{
	u64_add_relaxed(&c->count[what], 1); /* relaxed: counter */
}

/* After a fork: the parent's, and not to be touched. */
static inline bool cache_is_foreign(const struct seg_cache *c)
{
	return c->process != keeper_process();
}

/* A hit's only store to the entry, and mostly not even that.  Where entries are
 * evicted, marks come and go, and the processor would often guess wrong:
 * there the place to store at is chosen, which costs less than that. */
static inline void cache_mark_in(bool evicts, struct cache_entry *e)
{
	struct atomic_u16 nowhere;
	struct atomic_u16 *place = &e->mark;
	uint16_t mark = u16_load_relaxed(&e->mark); /* relaxed: a hint */

	if (evicts)
		place = mark < CACHE_MARK_MOST ? place : &nowhere;
	else if (mark >= CACHE_MARK_MOST)
		return;
	/* relaxed: a hint */
	u16_store_relaxed(place, (uint16_t)(mark + 1));
}

static inline void cache_mark(const struct seg_cache *c, struct cache_entry *e)
{
	/* relaxed: a hint */
	if (__builtin_expect(!u32_load_relaxed(&c->evicts), 1))
		cache_mark_in(false, e);
	else
		cache_mark_in(true, e);
}

/* Under the gate: from now on marks come and go. */
static inline void cache_note_eviction(struct seg_cache *c)
{
	/* relaxed, all: a hint */
	if (u32_load_relaxed(&c->evicts))
		return;
	u32_store_relaxed(&c->evicts, 1);
	u32_store_relaxed(&c->peeks, 0);
}

static inline struct cache_slot *cache_slot_at(struct seg_cache *c,
					       uint32_t place)
{
	return counter_at(c->slot, place);
}

/* Both, for a hit that pins. */
static inline void cache_count_pin(struct seg_cache *c, uint32_t place,
				   uint64_t weight)
{
	struct cache_slot *mine = cache_slot_at(c, place);

	counter_bump_own(&mine->pinned, weight);
	counter_bump_own(&mine->hits, 1);
}

/* One that stands in that slot; 0: in the word. */
static inline void cache_fill_pin_in(uint32_t slot, struct seg_cache *c,
				     struct cache_entry *e, uint64_t word,
				     struct seg_pin *ret_pin)
{
	ret_pin->cache = c;
	ret_pin->entry = e;
	ret_pin->version = (uint64_t)slot << 32 | entry_version(word);
	ret_pin->record = 0;
}

static inline void cache_fill_pin(struct seg_cache *c, struct cache_entry *e,
				  uint64_t word, struct seg_pin *ret_pin)
{
	cache_fill_pin_in(0, c, e, word, ret_pin);
}

static inline uint64_t cache_pin_version(const struct seg_pin *pin)
{
	return (uint32_t)pin->version;
}

static inline uint32_t cache_pin_slot(const struct seg_pin *pin)
{
	return (uint32_t)(pin->version >> 32);
}

/* Without the gate one part may be newer than the other. */
static inline uint64_t cache_difference(uint64_t more, uint64_t less)
{
	return more - less > CACHE_RESIDENT_MOST * 2 ? 0 : more - less;
}

static inline uint64_t cache_resident(const struct seg_cache *c)
{
	/* relaxed, both: sums; the gate orders those who write the first */
	uint64_t resident = u64_load_relaxed(&c->resident);

	return cache_difference(resident, u64_load_relaxed(&c->parted));
}

/* What words pin; newer than the caller's last change of it. */
static inline uint64_t cache_pinned(const struct seg_cache *c)
{
	unsigned slots = counter_slots();
	uint64_t sum = 0;

	for (unsigned i = 0; i < slots; i++)
		/* seq_cst: after `over` was set, see C2 */
		sum += u64_load_seq_cst(&c->slot[i].pinned);
	/* An unpin may be seen before the pin in another slot. */
	return cache_difference(sum, 0);
}

/* Resident, read before, minus pinned: who ends an entry takes its weight off
 * in that order, so what is read is never too little. */
static inline uint64_t cache_weight(const struct seg_cache *c)
{
	uint64_t resident = cache_resident(c);
	uint64_t pinned = cache_pinned(c);

	return resident > pinned ? resident - pinned : 0;
}

static inline uint64_t cache_deferred(const struct seg_cache *c)
{
	/* relaxed, both: sums */
	uint64_t retired = u64_load_relaxed(&c->retired);

	return cache_difference(retired, -u64_load_relaxed(&c->deferred));
}

/* The sums stay sums, whatever is pinned. */
static inline bool cache_can_hold(struct seg_cache *c, uint64_t weight)
{
	return cache_resident(c) <= CACHE_RESIDENT_MOST - weight;
}

/* cache_get.c: what is a hit at the first look; false: nothing happened. */
bool cache_hit(struct seg_cache *c, uint64_t key, struct seg_pin *ret_pin);

/* cache_get.c: pins the entry of a key, loaded or not; NULL: a miss. */
struct cache_entry *cache_find_and_pin(struct seg_cache *c, uint64_t key,
				       uint64_t *ret_word);

/* What `over` is beside OVER_HEAVY. */
static inline uint32_t cache_over_always(const struct seg_cache *c)
{
	return c->migrate_after ? OVER_MIGRATES : 0;
}

/* cache_migrate.c: after the last unpin of that entry, in a cache of
 * OVER_MIGRATES. */
void cache_was_read(struct seg_cache *c, struct cache_entry *e,
		    uint64_t version);

/* cache_migrate.c: pins what entry_pin() did not, as it is being moved; false:
 * that was not why. */
bool cache_join(struct cache_entry *e, uint64_t *word);

/* cache_get.c: gives a pin back, whatever the entry has come to. */
bool cache_unpin(struct seg_cache *c, struct cache_entry *e, uint64_t version);

static inline struct seg_cache *cache_of(struct reclaimer *r)
{
	return (void *)((char *)r - offsetof(struct seg_cache, reclaimer));
}

/* cache_drain.c: as struct reclaimer says. */
void cache_drain(struct reclaimer *r, struct drain *d);

/* cache_stats.c: for cache->published. */
bool cache_publish(struct publish_item *item, void *to);

/* cache_put.c: makes a free entry that of a key, before it begins. */
void cache_fill_entry(struct seg_cache *c, struct cache_entry *e, uint64_t key,
		      void *value, uint64_t weight);

/* cache_put.c: counts a loaded entry in, pinned (by who counts) or not, and
 * into the policy, instead of an old one of its key or as a new one. */
void cache_admit(struct seg_cache *c, struct cache_entry *e,
		 const struct cache_record *old, bool pinned);

#endif
