/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * The index grows from 128 buckets to thousands while others look up: a key
 * that is always in must always be found, and no other key's value.
 *
 *   keepers    some keys that are there from the start; one thread replaces
 *              their values all the time
 *   growers    put more and more keys.  Three of four stay, and are looked up
 *              from the moment that they are in; every fourth is removed again
 *              soon, so that chains also lose entries while they are split
 *   readers    get and, with short_reads, peek
 */
#include <errno.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "cache.h"
#include "stress.h"

enum {
	KEEPERS = 48,
	GROWERS = 2,
	READERS_MOST = 4,
	GROWN_MOST = 20000,	/* keys of one grower in one round */
	COMES_AND_GOES = 4,	/* each so many-th is removed again */
	GOES_AFTER = 40,
	AIMS = 200,
	AHEAD = 8,		/* buckets that are split next */
	SPREAD = 1 << 20,	/* between the keys of two growers */
};

struct value {
	uint64_t key;
	uint64_t check;
};

static struct seg_cache *cache;
static bool short_reads;
static unsigned grown_most;
static stress_count grown[GROWERS];	/* so many are in, but those that go */
static stress_count gets, peeks, replaced, made, left, growers_left;
static _Atomic bool end;

static bool is_over(void)
{
	return atomic_load_explicit(&end, memory_order_relaxed);
}

static uint64_t check_of(uint64_t key)
{
	return ~key * 0x9e3779b97f4a7c15u;
}

static struct value *value_make(uint64_t key)
{
	struct value *v = malloc(sizeof(*v));

	stress_check(v, "no memory");
	*v = (struct value){ .key = key, .check = check_of(key) };
	stress_add(&made, 1);
	return v;
}

static void value_check(const struct value *v, uint64_t key)
{
	stress_check(v->key == key && v->check == check_of(key),
		     "key %" PRIu64 ": the value of %" PRIu64, key, v->key);
}

static void on_leave(void *ctx, uint64_t key, void *value, uint64_t weight,
		     enum seg_cause cause)
{
	(void)ctx;
	value_check(value, key);
	stress_check(cause != SEG_CAUSE_EVICTED && weight == 1,
		     "key %" PRIu64 " was evicted, and there is room", key);
	memset(value, 0xee, sizeof(struct value));
	free(value);
	stress_add(&left, 1);
}

static uint64_t grown_key(unsigned grower, uint64_t i)
{
	return (uint64_t)(grower + 1) * SPREAD + i;
}

static bool stays(uint64_t i)
{
	return i % COMES_AND_GOES != 0;
}

static void put(uint64_t key)
{
	int ret = seg_cache_put(cache, key, value_make(key), 1, NULL);

	stress_check(!ret, "put of key %" PRIu64 ": %s", key, strerror(-ret));
}

/* --------------------------------------------------------------- threads */

static void *grow(void *arg)
{
	unsigned n = *(unsigned *)arg;

	for (uint64_t i = 0; i < grown_most; i++) {
		put(grown_key(n, i));
		/* release -> any_key(): it is in */
		atomic_store_explicit(&grown[n], i + 1, memory_order_release);
		if (i < GOES_AFTER || stays(i - GOES_AFTER))
			continue;
		stress_check(!seg_cache_remove(cache,
					       grown_key(n, i - GOES_AFTER),
					       NULL),
			     "a key to be removed is not there");
	}
	if (stress_add(&growers_left, -1) == 1)
		atomic_store_explicit(&end, true, memory_order_relaxed);
	return NULL;
}

static void *replace(void *arg)
{
	struct stress_random random = stress_random_of(*(unsigned *)arg);
	struct seg_pin pin;

	while (!is_over()) {
		uint64_t key = stress_below(&random, KEEPERS);
		bool pinned = !stress_below(&random, 4);
		int ret = seg_cache_replace(cache, key, value_make(key), 1,
					    pinned ? &pin : NULL);

		stress_check(!ret, "replace: %s", strerror(-ret));
		if (pinned)
			seg_unpin(&pin);
		stress_add(&replaced, 1);
	}
	return NULL;
}

/* One that is in from before this call until the end of the round. */
static uint64_t any_key(struct stress_random *random)
{
	unsigned n = stress_below(random, GROWERS);
	uint64_t i, count;

	/* acquire <- grow() */
	count = atomic_load_explicit(&grown[n], memory_order_acquire);
	if (!stress_below(random, 4) || count < COMES_AND_GOES)
		return stress_below(random, KEEPERS);
	i = stress_below(random, (uint32_t)count);
	return grown_key(n, stays(i) ? i : i ? i - 1 : 1);
}

/* Mostly one whose bucket is about to be split. */
static uint64_t aimed_key(struct stress_random *random)
{
	/* relaxed: only to aim */
	uint64_t shape = u64_load_relaxed(&cache->index.shape);
	uint32_t mask = index_mask(shape), n = index_buckets(shape);
	uint32_t base = n > mask ? n : (mask + 1) / 2;
	uint64_t key = any_key(random);

	for (int i = 0; i < AIMS; i++) {
		uint32_t bucket = index_hash(key) & (base - 1);

		if (bucket - n % base < AHEAD)
			break;
		key = any_key(random);
	}
	return key;
}

static void peek(uint64_t key)
{
	void *value;
	int ret;

	seg_read_begin();
	ret = seg_cache_peek(cache, key, &value);
	stress_check(!ret, "key %" PRIu64 " is in, but peek: %s", key,
		     strerror(-ret));
	value_check(value, key);
	seg_read_end();
	stress_add(&peeks, 1);
}

static void get(uint64_t key)
{
	struct seg_pin pin;
	int ret = seg_cache_get(cache, key, &pin);

	stress_check(!ret, "key %" PRIu64 " is in, but get: %s", key,
		     strerror(-ret));
	value_check(seg_pin_value(&pin), key);
	stress_check(!seg_unpin(&pin), "unpin");
	stress_add(&gets, 1);
}

static void *look_up(void *arg)
{
	struct stress_random random = stress_random_of(*(unsigned *)arg);

	while (!is_over()) {
		uint64_t key = aimed_key(&random);

		if (short_reads && stress_below(&random, 2))
			peek(key);
		else
			get(key);
	}
	return NULL;
}

/* ---------------------------------------------------------------- rounds */

static struct seg_cache *make_cache(void)
{
	struct seg_cache_options o = {
		.size = sizeof(o),
		.max_weight = UINT64_C(1) << 40,
		.listener = on_leave,
		.short_reads = short_reads,
	};
	struct seg_cache *c;
	int ret = seg_cache_create(&o, &c);

	stress_check(!ret, "seg_cache_create: %s", strerror(-ret));
	return c;
}

static int count_one(void *ctx, const struct seg_cache_entry_info *info)
{
	uint64_t *sums = ctx;

	sums[0]++;
	sums[1] += info->key;
	return 0;
}

/* Each key that must be there, once. */
static void check_all(void)
{
	uint64_t sums[2], should[2] = { 0 };
	uint32_t buckets;

	for (uint64_t key = 0; key < KEEPERS; key++, should[0]++)
		should[1] += key;
	for (unsigned n = 0; n < GROWERS; n++)
		for (uint64_t i = 0; i < grown_most; i++) {
			if (!stays(i) && i + GOES_AFTER < grown_most)
				continue;
			should[0]++;
			should[1] += grown_key(n, i);
		}
	/* The library may go on splitting: what moves is met twice. */
	do {
		buckets = cache_index_buckets(&cache->index);
		sums[0] = sums[1] = 0;
		stress_check(!seg_cache_each(cache, count_one, sums), "each");
	} while (cache_index_buckets(&cache->index) != buckets);
	stress_check(sums[0] == should[0] && sums[1] == should[1],
		     "%" PRIu64 " keys instead of %" PRIu64, sums[0],
		     should[0]);
	stress_check(seg_cache_is_valid(cache), "the cache is not valid");
}

static void reset(bool with_short_reads)
{
	short_reads = with_short_reads;
	for (unsigned n = 0; n < GROWERS; n++)
		atomic_store(&grown[n], 0);
	atomic_store(&growers_left, GROWERS);
	atomic_store(&end, false);
	cache = make_cache();
	for (uint64_t key = 0; key < KEEPERS; key++)
		put(key);
}

static void run(unsigned number)
{
	enum { MOST = GROWERS + 1 + READERS_MOST };
	unsigned threads = GROWERS + 1 + stress_scale(READERS_MOST, 2);
	unsigned arg[MOST];
	pthread_t thread[MOST];

	for (unsigned i = 0; i < threads; i++) {
		arg[i] = i < GROWERS ? i : number * MOST + i;
		thread[i] = stress_start(i < GROWERS ? grow :
					 i == GROWERS ? replace : look_up,
					 &arg[i]);
	}
	for (unsigned i = 0; i < threads; i++)
		stress_join(thread[i]);
}

static uint32_t play(unsigned number)
{
	uint32_t first, buckets;

	reset(number % 2);
	first = cache_index_buckets(&cache->index);
	run(number);
	check_all();
	buckets = cache_index_buckets(&cache->index);
	stress_check(buckets > 16 * first, "the index grew from %u to %u "
		     "buckets only", first, buckets);
	stress_check(!seg_cache_destroy(cache), "seg_cache_destroy");
	stress_check(stress_value(&made) == stress_value(&left),
		     "%" PRIu64 " values made, %" PRIu64 " left",
		     stress_value(&made), stress_value(&left));
	return buckets;
}

int main(void)
{
	uint64_t end_ns;
	uint32_t buckets = 0;
	unsigned rounds = 0;

	stress_begin("stress/cache_growth");
	grown_most = stress_scale(GROWN_MOST, 4000);
	end_ns = stress_now_ns() + (uint64_t)(stress_seconds() * 1e9);
	do
		buckets = play(rounds++);
	while (stress_now_ns() < end_ns);
	printf("  rounds %u, buckets %d -> %u\n  gets %" PRIu64 ", peeks %"
	       PRIu64 ", replaced meanwhile %" PRIu64 ", false misses 0\n",
	       rounds, INDEX_BASE, buckets, stress_value(&gets),
	       stress_value(&peeks), stress_value(&replaced));
	return stress_end();
}
