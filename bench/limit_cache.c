/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * Threads that want one and a half times the budget, through a cache of pages
 * that may hold all of it: each looks a page up, makes it if it is not there,
 * puts it, reads it.  At last one thread takes all that the budget has, which
 * the cache must give.
 */
#include <errno.h>
#include <pthread.h>
#include <stdatomic.h>
#include <string.h>
#include <time.h>

#include "limit.h"

enum {
	THREADS = 8,
	PARTS_MOST = 2,
	READS_OF_ALL = 8,	/* times the number of pages, by all threads */
	SAMPLE_NS = 200000,
	LARGE = 128 << 10,	/* what the last thread takes */
};

struct run {
	struct seg_budget *budget;
	struct seg_pool *pool;
	struct seg_cache *cache;
	uint64_t limit;
	uint64_t keys;
	uint64_t seed;
	_Atomic bool over;
	double active_sum;	/* of the samples since the limit was met */
	uint64_t active_count;
	uint64_t samples;
	uint64_t most_charged;
};

struct worker {
	struct run *run;
	uint64_t random;
	uint64_t hits, loads, wrong, refusals;
	struct times times;
};

/* ---------------------------------------------------------------- pages */

/* The same for a key each time. */
static unsigned parts_of(const struct run *run, uint64_t key, size_t *bytes)
{
	uint64_t state = run->seed ^ key << 20;
	uint64_t random = bench_random(&state);
	unsigned parts = 1 + random % PARTS_MOST;

	for (unsigned i = 0; i < parts; i++) {
		random /= 8;
		bytes[i] = (size_t)SEG_MIN_BYTES << random % SEG_CLASSES;
	}
	return parts;
}

static uint64_t weight_of(const struct run *run, uint64_t key)
{
	size_t bytes[PARTS_MOST];
	unsigned parts = parts_of(run, key, bytes);
	uint64_t sum = 0;

	while (parts-- > 0)
		sum += bytes[parts];
	return sum;
}

static void count_keys(struct run *run)
{
	uint64_t sum = 0;

	while (sum < run->limit + run->limit / 2)
		sum += weight_of(run, run->keys++);
}

static void fill_page(struct seg_page *page, uint64_t key)
{
	for (unsigned i = 0; i < seg_page_parts(page); i++)
		memcpy(seg_page_part(page, i), &key, sizeof(key));
}

static bool page_is(const struct seg_page *page, uint64_t key)
{
	bool good = seg_page_parts(page) > 0;

	for (unsigned i = 0; i < seg_page_parts(page); i++)
		good &= !memcmp(seg_page_part(page, i), &key, sizeof(key));
	return good;
}

/* NULL: refused. */
static struct seg_page *make_page(struct worker *w, uint64_t key)
{
	size_t bytes[PARTS_MOST];
	unsigned parts = parts_of(w->run, key, bytes);
	uint64_t since = bench_ns(bench_clock);
	struct seg_page *page;
	int rc = seg_page_create(w->run->pool, bytes, parts, &page);

	if (rc) {
		w->refusals++;
		return NULL;
	}
	times_add(&w->times, bench_ns(bench_clock) - since);
	fill_page(page, key);
	return page;
}

/* Another thread may have been faster: its page is as good. */
static void load(struct worker *w, uint64_t key)
{
	struct seg_page *page = make_page(w, key);
	struct seg_pin pin;
	int rc;

	if (!page)
		return;
	w->loads++;
	rc = seg_cache_put(w->run->cache, key, page, 0, &pin);
	w->wrong += !page_is(page, key);
	if (rc)
		w->wrong += rc != -EEXIST || seg_page_release(page);
	else
		w->wrong += seg_unpin(&pin) != 0;
}

static void *work(void *arg)
{
	struct worker *w = arg;
	uint64_t reads = w->run->keys * READS_OF_ALL / THREADS;

	for (; reads; reads--) {
		uint64_t key = bench_random(&w->random) % w->run->keys;
		struct seg_pin pin;

		if (seg_cache_get(w->run->cache, key, &pin)) {
			load(w, key);
			continue;
		}
		w->hits++;
		w->wrong += !page_is(seg_pin_value(&pin), key);
		w->wrong += seg_unpin(&pin) != 0;
	}
	return NULL;
}

/* --------------------------------------------------------------- samples */

static void sample(struct run *run)
{
	struct seg_budget_stats s = bench_budget_stats(run->budget);

	run->samples++;
	if (s.charged_bytes > run->most_charged)
		run->most_charged = s.charged_bytes;
	if (s.peak_charged_bytes > run->most_charged)
		run->most_charged = s.peak_charged_bytes;
	if (!s.reclaims_total)
		return;
	run->active_sum += (double)bench_pool_stats(run->pool).active_bytes;
	run->active_count++;
}

static void *run_samples(void *arg)
{
	struct timespec pause = { .tv_nsec = SAMPLE_NS };
	struct run *run = arg;

	while (!atomic_load(&run->over)) {
		sample(run);
		nanosleep(&pause, NULL);
	}
	return NULL;
}

/* ------------------------------------------------------------------- run */

static pthread_t start(void *(*main)(void *), void *arg)
{
	pthread_t thread;

	if (pthread_create(&thread, NULL, main, arg))
		bench_die("no thread to be had");
	return thread;
}

static void run_threads(struct run *run, struct worker *workers)
{
	pthread_t sampler = start(run_samples, run), thread[THREADS];
	uint64_t random = run->seed;

	for (int i = 0; i < THREADS; i++) {
		workers[i].run = run;
		workers[i].random = bench_random(&random);
		thread[i] = start(work, &workers[i]);
	}
	for (int i = 0; i < THREADS; i++)
		pthread_join(thread[i], NULL);
	atomic_store(&run->over, true);
	pthread_join(sampler, NULL);
	sample(run);
}

/* The cache is empty then, and everything in this thread's hands. */
static void take_all(struct run *run, struct refused *ret)
{
	struct timespec past = { 0 };
	void *first = NULL, *next;

	while ((next = seg_alloc_until(run->pool, LARGE, &past))) {
		memcpy(next, &first, sizeof(first));
		first = next;
	}
	refused_note(ret, run->pool, run->budget, LARGE);
	for (; first; first = next) {
		memcpy(&next, first, sizeof(next));
		if (seg_release(run->pool, first))
			bench_die("a segment could not be released");
	}
}

static void open_run(struct run *run, int wait_ms)
{
	struct seg_cache_options cache = { .size = sizeof(cache) };

	run->budget = bench_budget(run->limit);
	run->pool = bench_pool(run->budget, wait_ms);
	cache.max_weight = run->limit;
	cache.budget = run->budget;
	cache.pages = run->pool;
	if (seg_cache_create(&cache, &run->cache))
		bench_die("no cache to be had");
	count_keys(run);
}

static void add_up(struct cache_trial *ret, const struct run *run,
		   struct worker *workers)
{
	for (int i = 0; i < THREADS; i++) {
		ret->hits += workers[i].hits;
		ret->loads += workers[i].loads;
		ret->wrong += workers[i].wrong;
		ret->refusals += workers[i].refusals;
		times_merge(&ret->times, &workers[i].times);
		times_free(&workers[i].times);
	}
	ret->waits = bench_budget_stats(run->budget).waits_total;
	ret->samples = run->samples;
	ret->most_charged = run->most_charged;
	if (run->active_count)
		ret->mean_active = run->active_sum /
				   (double)run->active_count /
				   (double)run->limit;
}

void cache_trial_run(struct cache_trial *ret, uint64_t limit, int wait_ms,
		     uint64_t seed)
{
	struct seg_cache_stats cache = { .size = sizeof(cache) };
	struct run run = { .limit = limit, .seed = seed };
	struct worker workers[THREADS] = { 0 };

	open_run(&run, wait_ms);
	*ret = (struct cache_trial){ .keys = run.keys };
	run_threads(&run, workers);
	add_up(ret, &run, workers);
	if (seg_cache_stats(run.cache, &cache))
		bench_die("no figures of the cache");
	ret->reclaimed = cache.reclaims_total;
	take_all(&run, &ret->at_once);
	if (seg_cache_destroy(run.cache) || !bench_end(run.pool, run.budget))
		bench_die("the pool is not valid after the cache's trial");
}
