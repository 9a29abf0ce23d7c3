/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * Pages of a cache move between the nodes of a machine that there is not, while
 * everything else is done to them: readers on all nodes pin and peek, one
 * thread takes pages out, changes them and puts them back, replaces and removes
 * them, one keeps the budget at its limit, one lets nodes run full and empty.
 *
 * A reader finds each page whole, of its key, and no older than it was when the
 * last change was over.  At the end all segments are back.
 */
#define _GNU_SOURCE
#include <errno.h>
#include <inttypes.h>
#include <stdio.h>
#include <string.h>

#include "machine.h"
#include "stress.h"

enum {
	KEYS = 24,
	NODES = 4,
	READERS = 5,
	WORDS = 8192 / 8,	/* of the larger part; the other has half */
	PAGE_BYTES = 8192 + 4096,
	LIMIT_BYTES = 2 << 20,
	HOARD = 256,
	HOLD_OF_8 = 3,
};

static const int nodes[NODES] = { 0, 1, 2, 5 };

static struct seg_budget *budget;
static struct seg_pool *pool;
static struct seg_cache *cache;
static bool short_reads;
static stress_count versions[KEYS];	/* of the last change */
static struct tally {
	stress_count read, peeked, missed, taken, replaced, removed;
} tally;

/* ----------------------------------------------------------------- pages */

static void fill(struct seg_page *page, uint64_t key, uint64_t version)
{
	for (unsigned i = 0; i < seg_page_parts(page); i++) {
		uint64_t *at = seg_page_part(page, i);
		size_t words = seg_page_part_bytes(page, i) / 8;

		for (size_t w = 0; w < words; w++)
			at[w] = version << 8 | key;
	}
}

/* Its version: one and the same everywhere. */
static uint64_t verify(const struct seg_page *page, uint64_t key)
{
	uint64_t first = *(const uint64_t *)seg_page_part(page, 0);

	stress_check((first & 0xff) == key, "key %" PRIu64 " in key %" PRIu64,
		     first & 0xff, key);
	for (unsigned i = 0; i < seg_page_parts(page); i++) {
		const uint64_t *at = seg_page_part(page, i);
		size_t words = seg_page_part_bytes(page, i) / 8;

		for (size_t w = 0; w < words; w++)
			stress_check(at[w] == first, "key %" PRIu64 " part %u "
				     "is torn at word %zu", key, i, w);
	}
	return first >> 8;
}

static void release(struct seg_page *page)
{
	stress_check(!seg_page_release(page), "release of a page");
}

/* NULL: no memory. */
static struct seg_page *make(uint64_t key, uint64_t version)
{
	static const size_t bytes[] = { WORDS * 8 / 2, WORDS * 8 };
	struct seg_page *page;
	int ret = seg_page_create(pool, bytes, 2, &page);

	stress_check(!ret || ret == -ENOMEM, "seg_page_create: %s",
		     strerror(-ret));
	if (ret)
		return NULL;
	fill(page, key, version);
	return page;
}

static uint64_t version_of(uint64_t key)
{
	/* acquire <- set_version() */
	return atomic_load_explicit(&versions[key], memory_order_acquire);
}

static void set_version(uint64_t key, uint64_t version)
{
	/* release -> version_of() */
	atomic_store_explicit(&versions[key], version, memory_order_release);
}

/* --------------------------------------------------------------- readers */

static void check(const struct seg_page *page, uint64_t key, uint64_t least)
{
	uint64_t version = verify(page, key);

	stress_check(version >= least, "key %" PRIu64 ": version %" PRIu64
		     " after %" PRIu64, key, version, least);
}

static bool peek(uint64_t key, uint64_t least)
{
	void *value;
	int ret;

	seg_read_begin();
	ret = seg_cache_peek(cache, key, &value);
	if (!ret)
		check(value, key, least);
	seg_read_end();
	return !ret;
}

static void read_pinned(uint64_t key, uint64_t least)
{
	struct seg_pin pin;

	if (seg_cache_get(cache, key, &pin)) {
		stress_add(&tally.missed, 1);
		return;
	}
	check(seg_pin_value(&pin), key, least);
	stress_check(!seg_unpin(&pin), "unpin");
	stress_add(&tally.read, 1);
}

/* On one node for a while, then on another. */
static void *read_all(void *arg)
{
	struct stress_random random = stress_random_of(*(unsigned *)arg);

	for (unsigned i = 0; !stress_over(); i++) {
		uint64_t key = stress_below(&random, KEYS);
		uint64_t least = version_of(key);

		if (i % 64 == 0)
			machine_run_at(nodes[stress_below(&random, NODES)]);
		if (short_reads && stress_below(&random, 2) &&
		    peek(key, least))
			stress_add(&tally.peeked, 1);
		else
			read_pinned(key, least);
	}
	return NULL;
}

/* --------------------------------------------------------------- changes */

static void put(uint64_t key, struct seg_page *page)
{
	int ret = seg_cache_put(cache, key, page, 0, NULL);

	stress_check(!ret || ret == -ENOMEM, "put: %s", strerror(-ret));
	if (ret)
		release(page);
}

static void take_and_change(uint64_t key)
{
	uint64_t version = version_of(key) + 1;
	void *page;
	int ret = seg_cache_take(cache, key, &page);

	stress_check(!ret || ret == -EBUSY || ret == -ENOENT, "take: %s",
		     strerror(-ret));
	if (ret == -EBUSY)
		return;
	if (ret)
		page = make(key, version);
	else
		check(page, key, version - 1);
	if (!page)
		return;
	fill(page, key, version);
	put(key, page);
	set_version(key, version);
	stress_add(&tally.taken, 1);
}

static void replace(uint64_t key)
{
	uint64_t version = version_of(key) + 1;
	struct seg_page *page = make(key, version);
	int ret;

	if (!page)
		return;
	ret = seg_cache_replace(cache, key, page, 0, NULL);
	stress_check(!ret || ret == -ENOMEM, "replace: %s", strerror(-ret));
	if (ret) {
		release(page);
		return;
	}
	set_version(key, version);
	stress_add(&tally.replaced, 1);
}

static void remove_and_put(uint64_t key)
{
	struct seg_page *page;

	if (!seg_cache_remove(cache, key, NULL))
		stress_add(&tally.removed, 1);
	page = make(key, version_of(key));
	if (page)
		put(key, page);
}

static void *change_all(void *arg)
{
	static void (*const how[])(uint64_t) = { take_and_change, replace,
						 remove_and_put };
	struct stress_random random = stress_random_of(*(unsigned *)arg);

	while (!stress_over()) {
		machine_run_at(nodes[stress_below(&random, NODES)]);
		how[stress_below(&random, 3)](stress_below(&random, KEYS));
	}
	return NULL;
}

/* ------------------------------------------------------------- pressure */

static void *press(void *arg)
{
	struct stress_random random = stress_random_of(*(unsigned *)arg);
	void *hoard[HOARD];

	while (!stress_over()) {
		unsigned count = 0;

		machine_run_at(nodes[stress_below(&random, NODES)]);
		while (count < HOARD &&
		       (hoard[count] = seg_alloc(pool, 16384)) != NULL)
			count++;
		stress_check_budget(budget);
		while (count)
			stress_check(!seg_release(pool, hoard[--count]),
				     "seg_release");
		stress_sleep_ns(5000000);
	}
	return NULL;
}

static void *fill_nodes(void *arg)
{
	struct stress_random random = stress_random_of(*(unsigned *)arg);

	while (!stress_over()) {
		int node = nodes[stress_below(&random, NODES)];

		if (stress_below(&random, 8) < HOLD_OF_8)
			machine_give(node, stress_below(&random, 8));
		stress_sleep_ns(1000000);
		machine_empty(node);
	}
	return NULL;
}

/* ------------------------------------------------------------------ game */

static void run(unsigned number)
{
	enum { THREADS = READERS + 3 };
	static void *(*const main_of[])(void *) = { change_all, press,
						    fill_nodes };
	unsigned arg[THREADS];
	pthread_t thread[THREADS];

	stress_again();
	for (unsigned i = 0; i < THREADS; i++) {
		arg[i] = number * THREADS + i;
		thread[i] = stress_start(i < 3 ? main_of[i] : read_all,
					 &arg[i]);
	}
	stress_run_for(stress_seconds() / 2);
	for (unsigned i = 0; i < THREADS; i++)
		stress_join(thread[i]);
}

static void make_cache(void)
{
	struct seg_cache_options o = {
		.size = sizeof(o), .budget = budget, .pages = pool,
		.max_weight = (KEYS - 4) * PAGE_BYTES, .migrate_after = 2,
		.short_reads = short_reads,
	};
	int ret = seg_cache_create(&o, &cache);

	stress_check(!ret, "seg_cache_create: %s", strerror(-ret));
}

static uint64_t reclaims;	/* in both parts */

static void report(void)
{
	struct seg_cache_stats s = { .size = sizeof(s) };

	stress_check(!seg_cache_stats(cache, &s), "seg_cache_stats");
	printf("  %s read %" PRIu64 ", peeked %" PRIu64 ", missed %" PRIu64
	       ", taken %" PRIu64 ", replaced %" PRIu64 ", removed %" PRIu64
	       ", evicted %" PRIu64 ", reclaimed %" PRIu64 "\n"
	       "  moved %" PRIu64 ", refused %" PRIu64 "\n",
	       short_reads ? "short reads:" : "pins:",
	       stress_value(&tally.read), stress_value(&tally.peeked),
	       stress_value(&tally.missed), stress_value(&tally.taken),
	       stress_value(&tally.replaced), stress_value(&tally.removed),
	       s.evictions_total, s.reclaims_total, s.migrations_total,
	       s.migrations_refused_total);
	stress_check(s.migrations_total, "nothing moved");
	reclaims += s.reclaims_total;
}

static void play(unsigned number)
{
	short_reads = number % 2;
	tally = (struct tally){ 0 };
	for (unsigned i = 0; i < KEYS; i++)
		set_version(i, 0);
	machine_begin(nodes, NODES);
	budget = stress_budget(LIMIT_BYTES);
	pool = stress_pool((struct seg_pool_options){
		.budget = budget, .region_bytes = 64 << 10, .decay_ms = 2,
		.wait_ms = 2 });
	make_cache();
	run(number);
	report();
	stress_check(seg_cache_is_valid(cache), "the cache is not valid");
	stress_check(!seg_cache_destroy(cache), "seg_cache_destroy");
	stress_pool_end(pool);
	stress_budget_end(budget);
	machine_end();
}

int main(void)
{
	stress_begin("stress/cache_migrate");
	for (unsigned i = 0; i < 2; i++)
		play(i);
	stress_check(reclaims, "the limit was never met");
	return stress_end();
}
