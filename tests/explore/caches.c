/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* See caches.h. */
#include "caches.h"

#include <string.h>

#include "rcu.h"

struct seg_cache *cache;

static struct value {
	struct explore_cell contents;
	uint64_t key, weight;
	unsigned made, left;
} values[VALUES];

static void listener(void *ctx, uint64_t key, void *value, uint64_t weight,
		     enum seg_cause cause)
{
	struct value *v = value;

	(void)ctx;
	explore_check(key == v->key && weight == v->weight);
	explore_check(cause >= SEG_CAUSE_EVICTED &&
		      cause <= SEG_CAUSE_DESTROYED);
	explore_free(&v->contents);
	v->left++;
}

void caches_open(uint64_t max_weight, bool short_reads)
{
	struct seg_cache_options o = { .size = sizeof(o),
				       .max_weight = max_weight,
				       .listener = listener,
				       .short_reads = short_reads };

	memset(values, 0, sizeof(values));
	explore_check(!seg_cache_create(&o, &cache));
	for (unsigned i = 0; i < counter_slots(); i++) {
		explore_counter(&cache->slot[i].hits.word);
		explore_counter(&cache->slot[i].misses.word);
	}
}

void *caches_value(uint64_t key, unsigned number)
{
	values[number].key = key;
	values[number].weight = 1;
	explore_write(&values[number].contents, number + 1);
	values[number].made++;
	return &values[number];
}

void caches_put(uint64_t key, unsigned number)
{
	explore_check(!seg_cache_put(cache, key, caches_value(key, number), 1,
				     NULL));
}

void caches_put_heavy(uint64_t key, unsigned number, uint64_t weight)
{
	void *value = caches_value(key, number);

	values[number].weight = weight;
	explore_check(!seg_cache_put(cache, key, value, weight, NULL));
}

void caches_put_pinned(uint64_t key, unsigned number, struct seg_pin *ret_pin)
{
	explore_check(!seg_cache_put(cache, key, caches_value(key, number), 1,
				     ret_pin));
}

void caches_replace(uint64_t key, unsigned number)
{
	void *value = caches_value(key, number);

	explore_check(!seg_cache_replace(cache, key, value, 1, NULL));
}

void caches_read(const void *value)
{
	struct value *v = (struct value *)(uintptr_t)value;

	explore_check(explore_read(&v->contents) == (uint64_t)(v - values) + 1);
	explore_pause();
	explore_check(explore_read(&v->contents) == (uint64_t)(v - values) + 1);
}

void caches_check(const void *value, uint64_t key, uint64_t weight)
{
	const struct value *v = value;

	explore_check(v->key == key && v->weight == weight);
}

bool caches_peek(uint64_t key)
{
	void *value;
	bool hit;

	seg_read_begin();
	hit = !seg_cache_peek(cache, key, &value);
	if (hit) {
		explore_check(((struct value *)value)->key == key);
		caches_read(value);
	}
	seg_read_end();
	return hit;
}

void caches_unpin(struct seg_pin *pin)
{
	caches_read(seg_pin_value(pin));
	explore_check(!seg_unpin(pin));
}

bool caches_get(uint64_t key)
{
	struct seg_pin pin;

	if (seg_cache_get(cache, key, &pin))
		return false;
	explore_check(((struct value *)seg_pin_value(&pin))->key == key);
	caches_unpin(&pin);
	return true;
}

void caches_free(void *value)
{
	struct value *v = value;

	explore_free(&v->contents);
	v->left++;
}

/* Of a list that has no more than that. */
static uint64_t records(const struct cache_record *r, uint64_t most)
{
	uint64_t n = 0;

	for (; r && n <= most; r = r->next)
		n++;
	return n;
}

/* What waits for a grace period. */
static uint64_t deferred(const struct cache_record *r)
{
	uint64_t sum = 0;

	for (; r; r = r->next)
		sum += record_weight(r);
	return sum;
}

/* Each entry is in use or free, or waits, once; see cache_slots.h. */
static void check_slots(void)
{
	const struct cache_slots *s = &cache->slots;
	uint64_t made = u64_load_relaxed(&s->made);

	keeper_flush();
	explore_check(records(s->free, made) + records(s->retired, made) +
		      records(s->sent, made) + cache->index.entries == made);
	explore_check(deferred(s->retired) ==
		      cache_deferred(cache));
}

void caches_close(void)
{
	struct seg_cache_stats s = { .size = sizeof(s) };

	explore_check(!seg_cache_stats(cache, &s));
	explore_check(s.weight <= s.max_weight);
	explore_check(s.pinned_weight == 0);
	explore_check(seg_cache_is_valid(cache));
	check_slots();
	explore_check(!seg_cache_destroy(cache));
	caches_all_left();
}

void caches_all_left(void)
{
	for (unsigned i = 0; i < VALUES; i++)
		explore_check(values[i].left == values[i].made);
}
