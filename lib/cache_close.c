/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* See cache_close.h. */
#include "cache_close.h"

#include <stddef.h>

#include "pin_slots.h"
#include "section.h"

#ifndef BARRIER_PINS
#define BARRIER_PINS 4096	/* in words, that a barrier is worth */
#endif
enum {
	CLOSE_MOST = 32,	/* entries by one barrier */
	LOOK_RECORDS = 64,	/* for those that are probably next */
	LOOK_BUCKETS = 256,
};

_Static_assert(BARRIER_PINS <= CACHE_OPENS_LEFT, "what is left fits in");

struct closing {
	struct seg_cache *cache;
	struct cache_entry *shut;	/* stays so */
	unsigned count;
	struct cache_entry *entry[CLOSE_MOST];
};

static bool is_full(const struct closing *k)
{
	return k->count == CLOSE_MOST;
}

static void add(struct closing *k, struct cache_entry *e)
{
	if (entry_close(e))
		k->entry[k->count++] = e;
}

static void add_shut(struct closing *k, struct cache_entry *e)
{
	k->shut = e;
	if (entry_shut(e))
		k->entry[k->count++] = e;
}

static bool is_of_this_life(const struct slot_pin *pin, uint64_t word)
{
	return pin->version == entry_version(word);
}

/* By such a pin; under the gate no life ends. */
static bool is_pinned(const struct closing *k, const struct slot_pin *pin)
{
	for (unsigned i = 0; i < k->count; i++)
		if (k->entry[i] == pin->entry)
			return is_of_this_life(pin, entry_look(pin->entry));
	return false;
}

static void move_in(struct seg_cache *c, struct cache_entry *e)
{
	if (entry_pins(entry_move_in(e)) == 1)
		cache_weigh_pin(c, entry_weight(e));
}

/* For an instant it has two; who asks the gate's holder to evict, asks us. */
static void move_pin(void *ctx, const struct slot_pin *pin)
{
	struct closing *k = ctx;

	if (!is_pinned(k, pin))
		return;
	move_in(k->cache, pin->entry);
	if (!pin_slot_move(pin))
		cache_unpin(k->cache, pin->entry, pin->version);
}

/* For ever. */
static void keep(struct closing *k)
{
	u32_store_relaxed(&k->cache->opens, 0); /* relaxed: a hint */
	for (unsigned i = 0; i < k->count; i++)
		move_in(k->cache, k->entry[i]);
}

static void open_later(struct closing *k)
{
	/* relaxed: a hint, written under the gate */
	uint32_t opens = u32_load_relaxed(&k->cache->opens);

	if (!opens)
		return;
	opens = (opens | CACHE_OPENS_LEFT) + 1;
	opens = opens ? opens : CACHE_OPENS_LEFT + 1;
	/* relaxed: as above */
	u32_store_relaxed(&k->cache->opens, opens + BARRIER_PINS);
}

static void unshut(struct closing *k)
{
	for (unsigned i = 0; i < k->count; i++)
		if (k->entry[i] != k->shut)
			entry_unshut(k->entry[i]);
}

static void finish(struct closing *k)
{
	if (!k->count)
		return;
	open_later(k);
	if (!sections_barrier()) {
		keep(k);
		return;
	}
	pin_slots_each(move_pin, k);
	unshut(k);
}

void cache_shut_entry(struct seg_cache *c, struct cache_entry *e)
{
	struct closing k = { .cache = c };

	add_shut(&k, e);
	finish(&k);
}

/* What has a mark is passed over, and mostly pinned soon. */
static bool is_next(const struct cache_entry *e)
{
	return !u16_load_relaxed(&e->mark); /* relaxed: a hint */
}

void cache_close_victims(struct seg_cache *c, struct cache_record *r)
{
	struct closing k = { .cache = c };

	add_shut(&k, record_entry(r));
	for (unsigned i = 0; i < LOOK_RECORDS && !is_full(&k); i++) {
		r = cache_policy_behind(&c->policy, r);
		if (!r)
			break;
		if (is_next(record_entry(r)))
			add(&k, record_entry(r));
	}
	finish(&k);
}

/* False: it is full. */
static bool add_bucket(struct closing *k, uint32_t bucket)
{
	const struct cache_index *ix = &k->cache->index;
	struct cache_entry *e;

	for (e = cache_index_first(ix, bucket); e;
	     e = cache_index_next(ix, e)) {
		if (is_full(k))
			return false;
		add(k, e);
	}
	return true;
}

uint32_t cache_close_buckets(struct seg_cache *c, uint32_t bucket)
{
	struct closing k = { .cache = c };
	uint32_t end = cache_index_buckets(&c->index);

	if (end - bucket > LOOK_BUCKETS)
		end = bucket + LOOK_BUCKETS;
	while (bucket < end && add_bucket(&k, bucket))
		bucket++;
	finish(&k);
	return bucket;
}

void cache_close_all(struct seg_cache *c)
{
	uint32_t bucket = 0;

	while (bucket < cache_index_buckets(&c->index))
		bucket = cache_close_buckets(c, bucket);
}

/* ---- figures ---- */

struct pin_count {
	struct cache_entry *entry;
	unsigned pins;
};

static void count_pin(void *ctx, const struct slot_pin *pin)
{
	struct pin_count *count = ctx;

	count->pins += pin->entry == count->entry &&
		       is_of_this_life(pin, entry_look(pin->entry));
}

unsigned cache_slot_pins(struct cache_entry *e)
{
	struct pin_count count = { .entry = e };

	pin_slots_each(count_pin, &count);
	return count.pins;
}

struct pinned {
	struct seg_cache *cache;
	uint64_t weight;
	unsigned count;
	struct cache_entry *seen[COUNTER_OWNERS * PIN_SLOTS];
};

static bool is_seen(const struct pinned *p, const struct cache_entry *e)
{
	for (unsigned i = 0; i < p->count; i++)
		if (p->seen[i] == e)
			return true;
	return false;
}

/* Each entry once, unless its word is counted already. */
static void add_weight(void *ctx, const struct slot_pin *pin)
{
	struct pinned *p = ctx;
	struct cache_entry *e = pin->entry;
	uint64_t word;

	if (is_seen(p, e) || !slots_own(&p->cache->slots, e))
		return;
	word = entry_look(e);
	if (entry_pins(word) || !is_of_this_life(pin, word))
		return;
	p->seen[p->count++] = e;
	p->weight += entry_weight(e);
}

uint64_t cache_pinned_in_slots(struct seg_cache *c)
{
	struct pinned p;

	p.cache = c;
	p.weight = p.count = 0;
	pin_slots_each(add_weight, &p);
	return p.weight;
}

uint64_t cache_pinned_exactly(struct seg_cache *c)
{
	return cache_pinned_in_slots(c) + cache_pinned(c);
}

uint64_t cache_weight_exactly(struct seg_cache *c)
{
	uint64_t resident = cache_resident(c);
	uint64_t pinned = cache_pinned_exactly(c);

	return resident > pinned ? resident - pinned : 0;
}
