/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* See cache_leave.h. */
#include "cache_leave.h"

#include <stddef.h>

#include "cache_close.h"
#include "os.h"

#ifndef CACHE_BATCH_LEAST
#define CACHE_BATCH_LEAST 128
#endif
enum {
	FLUSH_NS = 2 * 1000 * 1000,
	BATCH_PART = 8,		/* of the entries */
	BATCH_ENOUGH = 2048,
};

/* ---- values ---- */

static bool farewell_say(struct seg_cache *c, struct farewell *f)
{
	bool again = f->count &&
		     cache_release_values(c, f->list, f->count);

	f->count = 0;
	return again;
}

/* The entry is dead; with short_reads its value, if any, waits. */
static inline void free_entry(struct seg_cache *c, struct cache_entry *e)
{
	if (c->short_reads && record_cause(entry_record(e)))
		slots_retire(&c->slots, e);
	else
		slots_put(&c->slots, e);
}

/* The caller ended the entry, whose word was old: its value, then itself. */
static inline void leave(struct seg_cache *c, struct cache_entry *e,
			 uint64_t old, enum seg_cause cause,
			 struct farewell *f)
{
	uint64_t weight = entry_weight(e);

	cache_add_inside(&c->resident, -weight);
	if (c->short_reads)
		cache_add_inside(&c->retired, weight);
	else
		f->list[f->count++] = entry_departs(e, cause);
	record_set_cause(entry_record(e), (uint16_t)cause);
	if (!(old & ENTRY_RETURNING))
		free_entry(c, e);
}

/* ---- the gate ---- */

static void unlist_hidden(struct seg_cache *c, struct cache_record *r)
{
	if (r->newer)
		r->newer->older = r->older;
	else
		c->hidden = r->older;
	if (r->older)
		r->older->newer = r->newer;
	r->newer = r->older = NULL;
	r->listed = 0;
}

static void drain_one(struct seg_cache *c, struct cache_record *r)
{
	struct cache_entry *e = record_entry(r);
	enum cache_state state = entry_state(entry_returned(e));

	if (state == ENTRY_LIVE)
		cache_policy_return(&c->policy, r);
	if (state != ENTRY_DEAD)
		return;
	if (r->listed)
		unlist_hidden(c, r);
	free_entry(c, e);
}

static void drain(struct seg_cache *c)
{
	struct cache_record *r;

	slots_receive(&c->slots);
	/* relaxed: the next look sees it at the latest */
	if (!ptr_load_relaxed(&c->returned))
		return;
	/* acquire <- cache_push_returned() */
	r = ptr_exchange_acquire(&c->returned, NULL);
	while (r) {
		struct cache_record *next = r->next;

		drain_one(c, r);
		r = next;
	}
}

void cache_lock(struct seg_cache *c, struct farewell *f)
{
	f->count = 0;
	gate_lock(&c->gate);
	drain(c);
}

/* How many retired records are worth a grace period, and a thread that wakes:
 * a part of what the cache holds, which must not be much. */
static uint64_t batch_least(struct seg_cache *c)
{
	/* relaxed, both: a hint */
	uint64_t least = u64_load_relaxed(&c->slots.made) / BATCH_PART;

	if (u32_load_relaxed(&c->eager))
		return 1;
	least = least < BATCH_ENOUGH ? least : BATCH_ENOUGH;
	return least > CACHE_BATCH_LEAST ? least : CACHE_BATCH_LEAST;
}

void cache_hurry(struct seg_cache *c)
{
	u32_store_relaxed(&c->eager, 1); /* relaxed: a hint */
}

/* With short_reads values wait in retired records; not for ever, even if no
 * batch gets full.  True: the keeper is to be told. */
static bool ask_for_flush(struct seg_cache *c)
{
	/* relaxed, both: under the gate, but for the keeper's 0, after which
	 * it looks at the entries itself */
	if (!c->slots.retired || u32_load_relaxed(&c->flush))
		return false;
	u32_store_relaxed(&c->flush, 1); /* relaxed: the kick orders it */
	return true;
}

/* True: somebody asked for something, or a listener made it heavy. */
static bool let_go(struct seg_cache *c, struct farewell *f)
{
	bool send = slots_send(&c->slots, batch_least(c));
	bool flush = ask_for_flush(c);
	bool asked;

	if (send)
		u32_store_relaxed(&c->eager, 0); /* relaxed: a hint */

	/* relaxed, all: under the gate; cleared when no pin matters (C2) */
	if ((u32_load_relaxed(&c->over) & OVER_HEAVY) &&
	    cache_resident(c) <= u64_load_relaxed(&c->max_weight))
		u32_store_relaxed(&c->over, cache_over_always(c));
	asked = gate_unlock(&c->gate);
	if (send)
		keeper_defer(&c->slots.work);
	if (flush)
		keeper_kick();
	return farewell_say(c, f) | asked;
}

void cache_unlock(struct seg_cache *c, struct farewell *f)
{
	if (let_go(c, f))
		cache_relieve(c);
}

void cache_relieve(struct seg_cache *c)
{
	struct farewell f;
	bool again;

	if (cache_relieve_later(c))
		return;
	do {
		uint64_t max;

		f.count = 0;
		if (!gate_try_or_ask(&c->gate))
			return;
		drain(c);
		/* relaxed: under the gate */
		max = u64_load_relaxed(&c->max_weight);
		again = !cache_make_room(c, 0, max, SEG_CAUSE_EVICTED, &f);
		again |= let_go(c, &f);
	} while (again);
}

/* ---- weights ---- */

/* Whether so much more would exceed the limit.  If only for what is pinned it
 * would not, then unpins are to look, too, before it is believed. */
static bool exceeds(struct seg_cache *c, uint64_t weight, uint64_t limit)
{
	if (cache_resident(c) + weight <= limit)
		return false;
	if (cache_weight(c) + weight > limit)
		return true;
	/* relaxed: the gate orders those who write it */
	if (!(u32_load_relaxed(&c->over) & OVER_HEAVY))
		/* seq_cst: before cache_pinned(), see C2 */
		u32_store_seq_cst(&c->over, cache_over_always(c) | OVER_HEAVY);
	return cache_weight(c) + weight > limit;
}

/* ---- out ---- */

/* What weighs and is in no queue is on the returned list: its unpin put it
 * there before it gave the weight back. */
static inline struct cache_record *next_victim(struct seg_cache *c)
{
	struct cache_record *r = cache_policy_victim(&c->policy);

	if (!r) {
		drain(c);
		r = cache_policy_victim(&c->policy);
	}
	return r;
}

/* Its word tells of no pin, but slots may. */
static bool has_to_be_shut(const struct cache_entry *e)
{
	return (entry_look(e) & (ENTRY_OPEN | ENTRY_PINS)) == ENTRY_OPEN;
}

/* As entry_kill(), of one that was shut. */
static uint64_t kill_shut(struct cache_entry *e)
{
	uint64_t old = entry_kill(e);

	if (!old)
		entry_unshut(e);
	return old;
}

static inline uint64_t evict(struct seg_cache *c, struct cache_entry *e,
			     enum seg_cause cause, struct farewell *f)
{
	uint64_t weight = entry_weight(e);
	uint64_t old = entry_kill(e);

	if (!old && has_to_be_shut(e)) {
		cache_close_victims(c, entry_record(e));
		old = kill_shut(e);
	}
	if (!old)
		return 0;
	if (entry_record(e)->queue)
		cache_policy_evict(&c->policy, entry_record(e));
	cache_index_remove(&c->index, e);
	cache_count_inside(c, (enum cache_count)cause);
	cache_note_eviction(c);
	leave(c, e, old, cause, f);
	return weight;
}

uint64_t cache_evict_entry(struct seg_cache *c, struct cache_entry *e,
			   enum seg_cause cause, struct farewell *f)
{
	return evict(c, e, cause, f);
}

/* It is not evicted, as it weighs too much or is pinned.  In the latter case it
 * is out of the way from now on. */
static bool park(struct seg_cache *c, struct cache_record *r)
{
	struct cache_entry *e = record_entry(r);
	bool parks = entry_park(e);

	if (!parks && has_to_be_shut(e)) {
		cache_shut_entry(c, e);
		parks = entry_park(e);
		entry_unshut(e);
	}
	if (parks)
		cache_policy_remove(&c->policy, r);
	return parks;
}

/* What the victim weighed; 0: there is none, or it weighs more than most.  One
 * that is pinned is out of the way, whatever it weighs. */
static inline uint64_t evict_one(struct seg_cache *c, uint64_t most,
				 enum seg_cause cause,
				 struct farewell *f)
{
	struct cache_record *r;

	while ((r = next_victim(c)) != NULL) {
		bool fits = record_weight(r) <= most;
		uint64_t weight = fits ?
			evict(c, record_entry(r), cause, f) : 0;

		if (weight)
			return weight;
		if (!park(c, r) && !fits)
			return 0;
	}
	return 0;
}

bool cache_make_room(struct seg_cache *c, uint64_t weight, uint64_t limit,
		     enum seg_cause cause, struct farewell *f)
{
	while (exceeds(c, weight, limit)) {
		if (farewell_is_full(f))
			return false;
		if (!evict_one(c, UINT64_MAX, cause, f))
			return true;
	}
	return true;
}

/* The weight without that of what only slots pin, which gets less as it is met:
 * so it is looked at again before that is enough. */
static uint64_t weight_without(struct seg_cache *c, uint64_t limit,
			       uint64_t *in_slots)
{
	uint64_t weight = cache_weight(c);

	if (*in_slots && weight > limit && weight - limit <= *in_slots)
		*in_slots = cache_pinned_in_slots(c);
	return weight > *in_slots ? weight - *in_slots : 0;
}

/* True: some of that has been met since. */
static bool are_fewer_in_slots(struct seg_cache *c, uint64_t *in_slots)
{
	uint64_t before = *in_slots;

	*in_slots = cache_pinned_in_slots(c);
	return *in_slots < before;
}

/* Until the farewell is full; true: there is nothing more to do.  What the
 * budget reclaims never goes below the limit. */
static bool evict_some(struct seg_cache *c, uint64_t limit, uint64_t most,
		       enum seg_cause cause, struct farewell *f,
		       uint64_t *evicted)
{
	bool exactly = cause == SEG_CAUSE_RECLAIMED;
	uint64_t in_slots = cache_pinned_in_slots(c);
	uint64_t held;

	while ((held = weight_without(c, limit, &in_slots)) > limit &&
	       *evicted < most) {
		uint64_t weight;

		if (farewell_is_full(f))
			return false;
		weight = evict_one(c, exactly ? held - limit : UINT64_MAX,
				   cause, f);
		if (!weight && !are_fewer_in_slots(c, &in_slots))
			return true;
		*evicted += weight;
	}
	return true;
}

/* As cache_lock(), without blocking; false: the gate is held. */
static bool try_lock(struct seg_cache *c, struct farewell *f)
{
	f->count = 0;
	if (!gate_try_long(&c->gate))
		return false;
	drain(c);
	return true;
}

uint64_t cache_evict_to(struct seg_cache *c, uint64_t limit, uint64_t most,
			enum seg_cause cause, bool patient)
{
	struct farewell f;
	uint64_t evicted = 0;
	bool done;

	cache_hurry(c);
	do {
		if (patient)
			cache_lock(c, &f);
		else if (!try_lock(c, &f))
			break;
		done = evict_some(c, limit, most, cause, &f, &evicted);
		cache_unlock(c, &f);
	} while (!done);
	return evicted;
}

static void unlink_entry(struct seg_cache *c, struct cache_entry *e)
{
	cache_index_remove(&c->index, e);
	if (entry_record(e)->queue)
		cache_policy_remove(&c->policy, entry_record(e));
}

static void list_hidden(struct seg_cache *c, struct cache_record *r)
{
	r->listed = 1;
	r->newer = NULL;
	r->older = c->hidden;
	if (c->hidden)
		c->hidden->newer = r;
	c->hidden = r;
}

/* Dead or hidden; its word before. */
static uint64_t end_entry(struct seg_cache *c, struct cache_entry *e,
			  uint16_t cause)
{
	struct cache_record *r = entry_record(e);
	uint64_t old;

	record_set_cause(r, cause);
	if (!entry_hide(e, &old)) {
		cache_shut_entry(c, e);
		entry_hide(e, &old);
	}
	if (entry_pins(old))
		list_hidden(c, r);
	return old;
}

void cache_hide_entry(struct seg_cache *c, struct cache_entry *e,
		      uint16_t cause)
{
	unlink_entry(c, e);
	end_entry(c, e, cause);
}

/* Its word before it ended was old; what is still loading has no value. */
static void account_removed(struct seg_cache *c, struct cache_entry *e,
			    uint64_t old, enum seg_cause cause,
			    struct farewell *f)
{
	if (old & ENTRY_LOADING)
		return;
	cache_count_inside(c, (enum cache_count)cause);
	if (!entry_pins(old))
		leave(c, e, old, cause, f);
}

void cache_remove_entry(struct seg_cache *c, struct cache_entry *e,
			enum seg_cause cause, struct farewell *f)
{
	uint64_t old;

	unlink_entry(c, e);
	old = end_entry(c, e, cause);
	account_removed(c, e, old, cause, f);
}

void cache_replace_entry(struct seg_cache *c, struct cache_entry *old,
			 struct cache_entry *e, struct farewell *f)
{
	uint64_t word;

	cache_index_replace(&c->index, old, e);
	if (entry_record(old)->queue)
		cache_policy_remove(&c->policy, entry_record(old));
	word = end_entry(c, old, SEG_CAUSE_REPLACED);
	account_removed(c, old, word, SEG_CAUSE_REPLACED, f);
}

bool cache_take_entry(struct seg_cache *c, struct cache_entry *e)
{
	uint64_t old = entry_kill(e);

	if (!old && has_to_be_shut(e)) {
		cache_shut_entry(c, e);
		old = kill_shut(e);
	}
	if (!old)
		return false;
	unlink_entry(c, e);
	cache_add_inside(&c->resident, -entry_weight(e));
	cache_count_inside(c, COUNT_TAKES);
	record_set_cause(entry_record(e), 0);
	if (!(old & ENTRY_RETURNING))
		free_entry(c, e);
	return true;
}

/* False: the farewell was full. */
static bool remove_bucket(struct seg_cache *c, uint32_t bucket,
			  enum seg_cause cause, struct farewell *f)
{
	struct cache_entry *e;

	while ((e = cache_index_first(&c->index, bucket)) != NULL) {
		if (farewell_is_full(f))
			return false;
		cache_remove_entry(c, e, cause, f);
	}
	return true;
}

void cache_remove_all(struct seg_cache *c, enum seg_cause cause)
{
	struct farewell f;
	uint32_t closed = 0;

	for (uint32_t b = 0; b < cache_index_buckets(&c->index);) {
		cache_lock(c, &f);
		if (b >= closed)
			closed = cache_close_buckets(c, b);
		if (remove_bucket(c, b, cause, &f))
			b++;
		cache_unlock(c, &f);
	}
}

/* ---- after the grace period ---- */

/* Of the batch as many values as a farewell has places; what follows. */
static struct cache_record *gather(struct cache_record *r, struct farewell *f,
				   uint64_t *ret_weight)
{
	*ret_weight = 0;
	for (f->count = 0; r && !farewell_is_full(f); r = r->next) {
		struct departed d =
			entry_departs(record_entry(r), record_cause(r));

		if (!d.value)
			continue;
		f->list[f->count++] = d;
		*ret_weight += d.weight;
	}
	return r;
}

static void release_batch(struct seg_cache *c, struct cache_record *r)
{
	struct farewell f;
	uint64_t weight;

	while (r) {
		r = gather(r, &f, &weight);
		(void)farewell_say(c, &f); /* relieved anyway */
		u64_sub_relaxed(&c->deferred, weight); /* relaxed: a sum */
	}
}

/*
 * The next two run in the keeper.  It must not wait for the gate, nor be asked
 * to evict while it holds it: then the listener would run here.  So it only
 * leaves word, for the next holder or the next last unpin.  With short_reads
 * the listener runs here anyway, and there may be no next: it does what can be
 * done without waiting.
 */
bool cache_batch_arrived(struct work *work)
{
	struct seg_cache *c = (void *)((char *)work -
			offsetof(struct seg_cache, slots.work));

	if (cache_is_foreign(c))
		return true;
	release_batch(c, c->slots.sent);
	slots_arrive(&c->slots);
	cache_relieve(c);
	return true;
}

uint64_t cache_flush_duty(struct keeper_duty *duty, uint64_t now_ns)
{
	struct seg_cache *c = (void *)((char *)duty -
			offsetof(struct seg_cache, duty));

	/* relaxed: the kick's ticket orders it */
	if (!u32_load_relaxed(&c->flush) || cache_is_foreign(c))
		return OS_FOREVER;
	if (!c->flush_at_ns)
		c->flush_at_ns = now_ns + FLUSH_NS;
	if (now_ns < c->flush_at_ns)
		return c->flush_at_ns - now_ns;
	c->flush_at_ns = 0;
	/* relaxed: whoever retires after this asks again */
	u32_store_relaxed(&c->flush, 0);
	cache_hurry(c);
	cache_relieve(c);
	return OS_FOREVER;
}
