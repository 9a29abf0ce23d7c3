/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * One budget, two pools, 16 threads that together want 1.5 times of it, while
 * the limit is moved: charged <= limit at every instant, as a sampler sees it
 * that does nothing else.
 *
 * The bytes that the pools have charged can't be read in one step, so while
 * threads run their sum may look too large for a moment: the sampler reads
 * again, and a sum that stays too large is a charge that was lost.  At the end
 * of each epoch all threads stand still, and everything must be equal.
 */
#include <errno.h>
#include <inttypes.h>
#include <sched.h>
#include <stdio.h>
#include <string.h>

#include "stress.h"

enum {
	THREADS_MOST = 16,
	LIMIT = 8 << 20,
	HELD_MOST = 256,
	POOLS = 2,
	REREADS_MOST = 1000000,
};

static struct seg_budget *budget;
static struct seg_pool *pool[POOLS];
static pthread_barrier_t epoch;
static unsigned threads, ops_of_epoch;
static _Atomic bool last_epoch;
static pthread_mutex_t limit_lock = PTHREAD_MUTEX_INITIALIZER;
static stress_count allocated, refused, samples, rereads, nearest;
static stress_count limits_set, limits_busy, lowered;

struct worker {
	uint64_t owner;
	struct stress_random random;
	uint64_t want_bytes;
	uint64_t held_bytes;
	unsigned count;
	struct {
		struct seg_pool *pool;
		void *segment;
		size_t bytes;
	} held[HELD_MOST];
};

/* ------------------------------------------------------------- workers */

static void take(struct worker *w)
{
	unsigned c = stress_below(&w->random, SEG_CLASSES);
	size_t bytes = (size_t)SEG_MIN_BYTES << stress_below(&w->random, c + 1);
	struct seg_pool *from = pool[stress_below(&w->random, POOLS)];
	void *segment = seg_alloc(from, bytes);

	if (!segment) {
		stress_check(errno == ENOMEM, "seg_alloc: %s", strerror(errno));
		stress_add(&refused, 1);
		return;
	}
	stress_add(&allocated, 1);
	stress_fill(segment, bytes, w->owner);
	w->held[w->count].pool = from;
	w->held[w->count].segment = segment;
	w->held[w->count++].bytes = bytes;
	w->held_bytes += bytes;
}

static void give(struct worker *w)
{
	unsigned i = stress_below(&w->random, w->count);
	int ret;

	stress_verify(w->held[i].segment, w->held[i].bytes, w->owner);
	ret = seg_release(w->held[i].pool, w->held[i].segment);
	stress_check(!ret, "seg_release: %s", strerror(-ret));
	w->held_bytes -= w->held[i].bytes;
	w->held[i] = w->held[--w->count];
}

/* Towards its share and over it, then back to a part of that. */
static void do_one(struct worker *w)
{
	if (w->count == HELD_MOST || w->held_bytes >= w->want_bytes) {
		uint64_t keep = w->want_bytes / 4 * stress_below(&w->random, 4);

		while (w->held_bytes > keep)
			give(w);
	} else if (w->count && stress_below(&w->random, 4) == 0) {
		give(w);
	} else {
		take(w);
	}
}

static void *work(void *arg)
{
	struct worker *w = arg;

	do {
		for (unsigned i = 0; i < ops_of_epoch; i++)
			do_one(w);
		pthread_barrier_wait(&epoch);	/* all stand still ... */
		pthread_barrier_wait(&epoch);	/* ... and were checked */
	} while (!last_epoch);
	while (w->count)
		give(w);
	return NULL;
}

/* ------------------------------------------------------------- sampler */

static void check_sum(void)
{
	for (unsigned i = 0; i < REREADS_MOST; i++) {
		uint64_t charged = stress_stats(pool[0]).charged_bytes +
				  stress_stats(pool[1]).charged_bytes;

		if (charged <= stress_budget_stats(budget).limit_bytes)
			return;
		stress_add(&rereads, 1);
		sched_yield();
	}
	stress_fail("the pools charge more than the limit, for good");
}

static void *sample(void *arg)
{
	(void)arg;
	while (!last_epoch) {
		struct seg_budget_stats s = stress_budget_stats(budget);

		stress_check(s.charged_bytes <= s.limit_bytes,
			     "%" PRIu64 " bytes charged, %" PRIu64 " allowed",
			     s.charged_bytes, s.limit_bytes);
		stress_raise(&nearest, s.charged_bytes * 1000 / s.limit_bytes);
		if (stress_add(&samples, 1) % 64 == 0) {
			check_sum();
			sched_yield();
		}
	}
	return NULL;
}

/* Near what is charged now, mostly above; between a half and all of it. */
static uint64_t choose_limit(struct stress_random *random)
{
	uint64_t limit = stress_budget_stats(budget).charged_bytes +
			 SEG_MIN_BYTES * stress_below(random, 256);

	limit -= SEG_MIN_BYTES * 32;
	if (limit > LIMIT || stress_below(random, 4) == 0)
		return LIMIT;
	return limit < LIMIT / 2 ? LIMIT / 2 : limit;
}

static void set_limit(uint64_t limit)
{
	int ret = seg_budget_set_limit(budget, limit);

	stress_check(!ret || ret == -EBUSY, "set_limit: %s", strerror(-ret));
	stress_check(ret || stress_budget_stats(budget).limit_bytes == limit,
		     "the limit was not set");
	stress_add(ret ? &limits_busy : &limits_set, 1);
	if (!ret)
		stress_raise(&lowered, LIMIT - limit);
}

/* Lowering retires regions: not while all is checked. */
static void *move_limit(void *arg)
{
	struct stress_random random = stress_random_of(1000);

	(void)arg;
	while (!last_epoch) {
		pthread_mutex_lock(&limit_lock);
		set_limit(choose_limit(&random));
		pthread_mutex_unlock(&limit_lock);
		stress_sleep_ns(1000000);
	}
	return NULL;
}

/* -------------------------------------------------------------- epochs */

static void check_still(const struct worker *workers)
{
	struct seg_pool_stats s, sum = { 0 };
	uint64_t active = 0, charged;

	for (int i = 0; i < POOLS; i++)
		stress_check(!seg_pool_trim(pool[i], NULL), "cannot trim");
	for (int i = 0; i < POOLS; i++) {
		s = stress_stats(pool[i]);
		sum.charged_bytes += s.charged_bytes;
		sum.active_bytes += s.active_bytes;
		sum.spare_regions += s.spare_regions + s.deferred_regions;
		stress_check(seg_pool_is_valid(pool[i]), "pool %d is not valid",
			     i);
	}
	for (unsigned i = 0; i < threads; i++)
		active += workers[i].held_bytes;
	charged = stress_budget_stats(budget).charged_bytes;
	stress_check(charged == sum.charged_bytes, "%" PRIu64 " bytes charged, "
		     "%" PRIu64 " by the pools", charged, sum.charged_bytes);
	stress_check(active == sum.active_bytes, "%" PRIu64 " bytes held, %"
		     PRIu64 " active", active, sum.active_bytes);
	stress_check(sum.spare_regions == 0, "%" PRIu64 " idle regions after a "
		     "trim", sum.spare_regions);
}

static unsigned play(const struct worker *workers)
{
	uint64_t end_ns = stress_now_ns() + (uint64_t)(stress_seconds() * 1e9);
	unsigned epochs = 0;

	do {
		pthread_barrier_wait(&epoch);
		pthread_mutex_lock(&limit_lock);
		check_still(workers);
		pthread_mutex_unlock(&limit_lock);
		epochs++;
		last_epoch = stress_now_ns() >= end_ns;
		pthread_barrier_wait(&epoch);
	} while (!last_epoch);
	return epochs;
}

static void report(unsigned epochs)
{
	struct seg_budget_stats b = stress_budget_stats(budget);

	printf("  threads       %10u  epochs %u\n", threads, epochs);
	printf("  allocated     %10" PRIu64 "  refused %" PRIu64 "\n",
	       stress_value(&allocated), stress_value(&refused));
	printf("  samples       %10" PRIu64 "  sums read again %" PRIu64 "\n",
	       stress_value(&samples), stress_value(&rereads));
	printf("  limits set    %10" PRIu64 "  busy %" PRIu64
	       ", lowest %" PRIu64 " KiB\n", stress_value(&limits_set),
	       stress_value(&limits_busy),
	       (LIMIT - stress_value(&lowered)) / 1024);
	printf("  charged       at most %.1f %% of the limit as sampled, peak %"
	       PRIu64 " of %d KiB\n", (double)stress_value(&nearest) / 10,
	       b.peak_charged_bytes / 1024, LIMIT / 1024);
	printf("  charges that did not fit %" PRIu64 ", waits %" PRIu64 "\n",
	       b.charge_refusals_total, b.waits_total);
	stress_check(b.peak_charged_bytes <= LIMIT, "the peak is above it");
}

static void create(void)
{
	budget = stress_budget(LIMIT);
	for (int i = 0; i < POOLS; i++)
		pool[i] = stress_pool((struct seg_pool_options){
			.budget = budget,
			.region_bytes = 256 << 10,
			.decay_ms = 2,
			.wait_ms = i == 0 ? 1 : SEG_NO_WAIT,
		});
}

int main(void)
{
	static struct worker workers[THREADS_MOST];
	pthread_t thread[THREADS_MOST], sampler, mover;
	unsigned epochs;

	stress_begin("stress/budget");
	threads = stress_scale(THREADS_MOST, 6);
	ops_of_epoch = stress_scale(500, 50);
	create();
	pthread_barrier_init(&epoch, NULL, threads + 1);
	sampler = stress_start(sample, NULL);
	mover = stress_start(move_limit, NULL);
	for (unsigned i = 0; i < threads; i++) {
		workers[i].owner = i + 1;
		workers[i].random = stress_random_of(i + 1);
		workers[i].want_bytes = (uint64_t)LIMIT * 3 / 2 / threads;
		thread[i] = stress_start(work, &workers[i]);
	}
	epochs = play(workers);
	for (unsigned i = 0; i < threads; i++)
		stress_join(thread[i]);
	stress_join(sampler);
	stress_join(mover);
	report(epochs);
	for (int i = 0; i < POOLS; i++)
		stress_pool_end(pool[i]);
	stress_budget_end(budget);
	pthread_barrier_destroy(&epoch);
	return stress_end();
}
