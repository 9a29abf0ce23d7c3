/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* See cache_leave.h. */
#include "cache_leave.h"

#include <stddef.h>

#include "os.h"

#ifndef CACHE_BATCH_LEAST
#define CACHE_BATCH_LEAST 128
#endif
enum { BATCH_PARTS = 16, SPLITS_AT_ONCE = 64, FLUSH_NS = 2 * 1000 * 1000 };

/* ---- values ---- */

static bool farewell_say(struct seg_cache *c, struct farewell *f)
{
	bool again = f->count &&
		     cache_release_values(c, f->list, f->count);

	f->count = 0;
	return again;
}

/* The caller ended the entry, whose word was old: its value, then itself. */
static void leave(struct seg_cache *c, struct cache_entry *e, uint64_t old,
		  enum seg_cause cause, struct farewell *f)
{
	/* relaxed, both: sums */
	u64_sub_relaxed(&c->resident, e->weight);
	if (c->short_reads)
		u64_add_relaxed(&c->deferred, e->weight);
	else
		f->list[f->count++] = departed_of(e, cause);
	e->cause = cause;
	if (!(old & ENTRY_RETURNING))
		slots_retire(&c->slots, e);
}

/* ---- the gate ---- */

static void unlist_hidden(struct seg_cache *c, struct cache_entry *e)
{
	if (e->newer)
		e->newer->older = e->older;
	else
		c->hidden = e->older;
	if (e->older)
		e->older->newer = e->newer;
	e->newer = e->older = NULL;
	e->listed = 0;
}

static void drain_one(struct seg_cache *c, struct cache_entry *e)
{
	enum cache_state state = entry_state(entry_returned(e));

	if (state == ENTRY_LIVE)
		cache_policy_return(&c->policy, e);
	if (state != ENTRY_DEAD)
		return;
	if (e->listed)
		unlist_hidden(c, e);
	slots_retire(&c->slots, e);
}

static void drain(struct seg_cache *c)
{
	struct cache_entry *e;

	slots_receive(&c->slots);
	/* relaxed: the next look sees it at the latest */
	if (!ptr_load_relaxed(&c->returned))
		return;
	/* acquire <- cache_push_returned() */
	e = ptr_exchange_acquire(&c->returned, NULL);
	while (e) {
		struct cache_entry *next = e->next;

		drain_one(c, e);
		e = next;
	}
}

void cache_lock(struct seg_cache *c, struct farewell *f)
{
	f->count = 0;
	gate_lock(&c->gate);
	drain(c);
}

/* How many retired entries are worth a grace period. */
static uint64_t batch_least(struct seg_cache *c)
{
	if (u32_load_relaxed(&c->eager)) /* relaxed: a hint */
		return 1;
	return CACHE_BATCH_LEAST +
	       (c->short_reads ? 0 : c->index.entries / BATCH_PARTS);
}

void cache_hurry(struct seg_cache *c)
{
	u32_store_relaxed(&c->eager, 1); /* relaxed: a hint */
}

/* With short_reads values wait in retired entries; not for ever, even if no
 * batch gets full.  True: the keeper is to be told. */
static bool ask_for_flush(struct seg_cache *c)
{
	/* relaxed, both: under the gate, but for the keeper's 0, after which
	 * it looks at the entries itself */
	if (!c->short_reads || !c->slots.retired ||
	    u32_load_relaxed(&c->flush))
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
	if (u32_load_relaxed(&c->over) && u64_load_relaxed(&c->resident) <=
					  u64_load_relaxed(&c->max_weight))
		u32_store_relaxed(&c->over, 0);
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

/* A cache that was filled fast and is only read from now on has a table that
 * lags behind: it catches up here, a little at a time.  True: there is more. */
static bool grow_some(struct seg_cache *c)
{
	int splits = 0;

	/* relaxed: a hint */
	if (!u32_load_relaxed(&c->lags))
		return false;
	while (splits < SPLITS_AT_ONCE && cache_index_grow(&c->index))
		splits++;
	if (splits < SPLITS_AT_ONCE)
		u32_store_relaxed(&c->lags, 0); /* relaxed: as above */
	return splits == SPLITS_AT_ONCE;
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
		again |= grow_some(c);
		again |= let_go(c, &f);
	} while (again);
}

/* ---- weights ---- */

uint64_t cache_pinned(struct seg_cache *c)
{
	unsigned slots = counter_slots();
	uint64_t sum = 0;

	for (unsigned i = 0; i < slots; i++)
		/* seq_cst: after `over` was set, see C2 */
		sum += u64_load_seq_cst(&c->slot[i].pinned);
	/* An unpin may be seen before the pin in another slot. */
	return sum > CACHE_RESIDENT_MOST * 2 ? 0 : sum;
}

uint64_t cache_weight(struct seg_cache *c)
{
	uint64_t resident = u64_load_relaxed(&c->resident); /* relaxed: a sum */
	uint64_t pinned = cache_pinned(c);

	return resident > pinned ? resident - pinned : 0;
}

/* Whether so much more would exceed the limit; then unpins look, too. */
static bool exceeds(struct seg_cache *c, uint64_t weight, uint64_t limit)
{
	/* relaxed: the gate orders those who add to it */
	if (u64_load_relaxed(&c->resident) + weight <= limit)
		return false;
	/* relaxed: the gate orders those who write it */
	if (!u32_load_relaxed(&c->over))
		/* seq_cst: before cache_pinned(), see C2 */
		u32_store_seq_cst(&c->over, 1);
	return cache_weight(c) + weight > limit;
}

/* ---- out ---- */

/* What weighs and is in no queue is on the returned list: its unpin put it
 * there before it gave the weight back. */
static struct cache_entry *next_victim(struct seg_cache *c)
{
	struct cache_entry *e = cache_policy_victim(&c->policy);

	if (!e) {
		drain(c);
		e = cache_policy_victim(&c->policy);
	}
	return e;
}

/* What the victim weighed; 0: there is none that weighs no more than most. */
static uint64_t evict_one(struct seg_cache *c, uint64_t most,
			  enum seg_cause cause, struct farewell *f)
{
	struct cache_entry *e;

	while ((e = next_victim(c)) != NULL && e->weight <= most) {
		uint64_t old = entry_kill(e);

		if (old) {
			cache_policy_evict(&c->policy, e);
			cache_index_remove(&c->index, e);
			cache_count(c, (enum cache_count)cause);
			leave(c, e, old, cause, f);
			return e->weight;
		}
		if (entry_park(e))
			cache_policy_remove(&c->policy, e);
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

/* Until the farewell is full; true: there is nothing more to do.  What the
 * budget reclaims never goes below the limit. */
static bool evict_some(struct seg_cache *c, uint64_t limit, uint64_t most,
		       enum seg_cause cause, struct farewell *f,
		       uint64_t *evicted)
{
	bool exactly = cause == SEG_CAUSE_RECLAIMED;
	uint64_t held;

	while ((held = cache_weight(c)) > limit && *evicted < most) {
		uint64_t weight;

		if (farewell_is_full(f))
			return false;
		weight = evict_one(c, exactly ? held - limit : UINT64_MAX,
				   cause, f);
		if (!weight)
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
	if (e->queue)
		cache_policy_remove(&c->policy, e);
}

static void list_hidden(struct seg_cache *c, struct cache_entry *e)
{
	e->listed = 1;
	e->newer = NULL;
	e->older = c->hidden;
	if (c->hidden)
		c->hidden->newer = e;
	c->hidden = e;
}

/* Dead or hidden; its word before. */
static uint64_t end_entry(struct seg_cache *c, struct cache_entry *e,
			  uint32_t cause)
{
	uint64_t old;

	e->cause = cause;
	old = entry_hide(e);
	if (entry_pins(old))
		list_hidden(c, e);
	return old;
}

void cache_hide_entry(struct seg_cache *c, struct cache_entry *e,
		      uint32_t cause)
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
	cache_count(c, (enum cache_count)cause);
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
	if (old->queue)
		cache_policy_remove(&c->policy, old);
	word = end_entry(c, old, SEG_CAUSE_REPLACED);
	account_removed(c, old, word, SEG_CAUSE_REPLACED, f);
}

bool cache_take_entry(struct seg_cache *c, struct cache_entry *e)
{
	uint64_t old = entry_kill(e);

	if (!old)
		return false;
	unlink_entry(c, e);
	u64_sub_relaxed(&c->resident, e->weight); /* relaxed: a sum */
	cache_count(c, COUNT_TAKES);
	e->cause = 0;
	if (!(old & ENTRY_RETURNING))
		slots_retire(&c->slots, e);
	return true;
}

/* False: the farewell was full. */
static bool remove_bucket(struct seg_cache *c, uint32_t bucket,
			  enum seg_cause cause, struct farewell *f)
{
	struct cache_entry *e;
	unsigned side;

	while ((e = cache_index_first(&c->index, bucket, &side)) != NULL) {
		if (farewell_is_full(f))
			return false;
		cache_remove_entry(c, e, cause, f);
	}
	return true;
}

void cache_remove_all(struct seg_cache *c, enum seg_cause cause)
{
	struct farewell f;

	for (uint32_t b = 0; b < cache_index_buckets(&c->index);) {
		cache_lock(c, &f);
		if (remove_bucket(c, b, cause, &f))
			b++;
		cache_unlock(c, &f);
	}
}

/* ---- after the grace period ---- */

/* With short_reads the values of the batch have been waiting, too. */
static void release_values(struct seg_cache *c, struct cache_entry *first)
{
	for (struct cache_entry *e = first; e; e = e->next) {
		struct departed d = departed_of(e, (enum seg_cause)e->cause);

		if (!d.cause || !d.value)
			continue;
		u64_sub_relaxed(&c->deferred, d.weight); /* relaxed: a sum */
		(void)cache_release_values(c, &d, 1); /* relieved anyway */
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
	if (c->short_reads)
		release_values(c, c->slots.sent);
	slots_arrive(&c->slots);
	if (c->short_reads)
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

bool cache_round_settled(struct work *work)
{
	struct seg_cache *c = (void *)((char *)work -
			offsetof(struct seg_cache, index.settle));

	if (cache_is_foreign(c))
		return true;
	cache_index_settled(&c->index);
	u32_store_relaxed(&c->lags, 1); /* relaxed: a hint */
	if (c->short_reads)
		cache_relieve(c);
	return true;
}
