/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * One root budget, one tenant with a guarantee, two greedy ones that fill
 * caches with all that they can borrow, and a hoarder that lets go of nothing
 * before the end; as limits and guarantees of the greedy ones are moved.
 *
 * The promise that is measured: the tenant allocates its guarantee to the last
 * segment, again and again, in segments of one class and then of another, and
 * gets it each time: the least that it ever got is its guarantee.  A sampler
 * sees charged <= limit in every budget of the tree at every moment; at the end
 * the books balance.
 */
#include <errno.h>
#include <inttypes.h>
#include <sched.h>
#include <stdio.h>
#include <string.h>

#include "stress.h"

enum {
	LIMIT = 12 << 20,
	GUARANTEE = 3 << 20,
	GREEDY = 2,
	THREADS = 2,			/* of each of them */
	KEYS = 4096,
	HOARDED = 512,
	HOARD_BYTES = 32 << 10,
	SEGMENTS = GUARANTEE / SEG_MIN_BYTES,
};

struct tenant {
	struct seg_budget *budget;
	struct seg_pool *pool;
	struct seg_cache *cache;	/* of the greedy ones */
};

static struct seg_budget *root;
static struct tenant modest, hoarder, greedy[GREEDY];
static stress_count streams, rounds, short_of, pages, refused, samples, changes;
static stress_count borrowed_sum[GREEDY];

static struct seg_budget *child(uint64_t limit, uint64_t guaranteed,
				unsigned share)
{
	struct seg_budget_options o = {
		.size = sizeof(o),
		.limit_bytes = limit,
		.parent = root,
		.guaranteed_bytes = guaranteed,
		.share = share,
	};
	struct seg_budget *b;
	int ret = seg_budget_create(&o, &b);

	stress_check(!ret, "seg_budget_create: %s", strerror(-ret));
	return b;
}

static void begin(struct tenant *t, uint64_t guaranteed, unsigned share,
		  int wait_ms)
{
	t->budget = child(LIMIT, guaranteed, share);
	t->pool = stress_pool((struct seg_pool_options){
		.budget = t->budget,
		.region_bytes = 256 << 10,
		.decay_ms = 5,
		.wait_ms = wait_ms,
	});
}

static void begin_cache(struct tenant *t)
{
	struct seg_cache_options o = {
		.size = sizeof(o),
		.max_weight = LIMIT,
		.budget = t->budget,
		.pages = t->pool,
	};
	int ret = seg_cache_create(&o, &t->cache);

	stress_check(!ret, "seg_cache_create: %s", strerror(-ret));
}

/* ------------------------------------------------- who has a guarantee */

/* As many as the guarantee has room for; the bytes that it got. */
static uint64_t allocate_all(void **segments, size_t bytes, uint64_t owner)
{
	unsigned n = 0;

	while ((n + 1) * bytes <= GUARANTEE &&
	       (segments[n] = seg_alloc(modest.pool, bytes)) != NULL)
		stress_fill(segments[n++], bytes, owner);
	for (unsigned i = 0; i < n; i++) {
		stress_verify(segments[i], bytes, owner);
		stress_check(!seg_release(modest.pool, segments[i]),
			     "seg_release");
	}
	return n * bytes;
}

static void *take_guarantee(void *arg)
{
	static void *segments[SEGMENTS];
	struct stress_random random = stress_random_of(1);

	(void)arg;
	while (!stress_over()) {
		size_t bytes = (size_t)SEG_MIN_BYTES
			       << stress_below(&random, SEG_CLASSES);
		uint64_t got = allocate_all(segments, bytes, 1);

		stress_check(got == GUARANTEE, "%" PRIu64 " bytes of %d that "
			     "are guaranteed, in segments of %zu", got,
			     GUARANTEE, bytes);
		stress_raise(&short_of, GUARANTEE - got);
		stress_add(&rounds, 1);
	}
	return NULL;
}

/* --------------------------------------------------------- who takes all */

static void *fill_cache(void *arg)
{
	struct tenant *t = arg;
	struct stress_random random =
		stress_random_of(2 + stress_add(&streams, 1));

	while (!stress_over()) {
		size_t bytes = (size_t)SEG_MIN_BYTES
			       << stress_below(&random, SEG_CLASSES);
		struct seg_page *page;
		int ret = seg_page_create(t->pool, &bytes, 1, &page);

		if (ret) {
			stress_check(ret == -ENOMEM, "seg_page_create: %s",
				     strerror(-ret));
			stress_add(&refused, 1);
			continue;
		}
		stress_add(&pages, 1);
		if (seg_cache_put(t->cache, stress_below(&random, KEYS), page,
				  0, NULL))
			seg_page_release(page);
	}
	return NULL;
}

/* No reclaimer gets at these, so only a guarantee helps against it. */
static void *hoard(void *arg)
{
	static void *segments[HOARDED];
	unsigned n = 0;

	(void)arg;
	while (!stress_over()) {
		while (n < HOARDED && (segments[n] = seg_alloc(hoarder.pool,
							       HOARD_BYTES)))
			n++;
		sched_yield();
	}
	while (n)
		stress_check(!seg_release(hoarder.pool, segments[--n]),
			     "seg_release");
	return NULL;
}

/* ------------------------------------------- what moves, and who watches */

static void check_one(struct seg_budget *b)
{
	struct seg_budget_stats s = stress_budget_stats(b);

	stress_check(s.charged_bytes <= s.limit_bytes, "%" PRIu64 " bytes "
		     "charged, %" PRIu64 " allowed", s.charged_bytes,
		     s.limit_bytes);
}

static void *sample(void *arg)
{
	(void)arg;
	while (!stress_over()) {
		check_one(root);
		check_one(modest.budget);
		for (int i = 0; i < GREEDY; i++) {
			check_one(greedy[i].budget);
			stress_add(&borrowed_sum[i],
				   stress_budget_stats(greedy[i].budget)
					   .borrowed_bytes / SEG_MIN_BYTES);
		}
		if (stress_add(&samples, 1) % 16 == 0)
			sched_yield();
	}
	return NULL;
}

static void *move(void *arg)
{
	struct stress_random random = stress_random_of(1000);

	(void)arg;
	while (!stress_over()) {
		struct seg_budget *b = greedy[stress_below(&random,
							   GREEDY)].budget;
		uint64_t some = (uint64_t)stress_below(&random, 1024) *
				SEG_MIN_BYTES;
		int ret = seg_budget_set_guarantee(b, some / 4);

		stress_check(!ret || ret == -EBUSY || ret == -ERANGE,
			     "set_guarantee: %s", strerror(-ret));
		ret = seg_budget_set_limit(b, LIMIT - some);
		stress_check(!ret || ret == -EBUSY, "set_limit: %s",
			     strerror(-ret));
		ret = seg_budget_set_limit(root, LIMIT - some / 2);
		stress_check(!ret || ret == -EBUSY, "set_limit: %s",
			     strerror(-ret));
		stress_add(&changes, 1);
		stress_sleep_ns(2000000);
	}
	return NULL;
}

static void report(void)
{
	uint64_t n = stress_value(&samples) + !stress_value(&samples);

	printf("  guarantee     taken %" PRIu64 " times, the least %" PRIu64
	       " of %d KiB\n", stress_value(&rounds),
	       (GUARANTEE - stress_value(&short_of)) / 1024, GUARANTEE / 1024);
	printf("  greedy        pages %" PRIu64 ", refused %" PRIu64
	       ", borrowed on average", stress_value(&pages),
	       stress_value(&refused));
	for (int i = 0; i < GREEDY; i++)
		printf(" %" PRIu64, stress_value(&borrowed_sum[i]) / n *
					    SEG_MIN_BYTES / 1024);
	printf(" KiB (shares 1 to 3)\n");
	printf("  samples       %" PRIu64 ", changes %" PRIu64 "\n",
	       stress_value(&samples), stress_value(&changes));
	stress_check(stress_value(&rounds) > 0, "it never got its turn");
}

static void end(struct tenant *t)
{
	if (t->cache)
		stress_check(!seg_cache_destroy(t->cache), "cache in use");
	stress_pool_end(t->pool);
	stress_budget_end(t->budget);
}

int main(void)
{
	pthread_t thread[4 + GREEDY * THREADS];
	unsigned n = 0;

	stress_begin("stress/tenants");
	root = stress_budget(LIMIT);
	begin(&modest, GUARANTEE, 0, 1000);
	begin(&hoarder, 0, 0, SEG_NO_WAIT);
	for (unsigned i = 0; i < GREEDY; i++) {
		begin(&greedy[i], 0, i ? 300 : 100, 1);
		begin_cache(&greedy[i]);
	}
	thread[n++] = stress_start(take_guarantee, NULL);
	thread[n++] = stress_start(sample, NULL);
	thread[n++] = stress_start(move, NULL);
	thread[n++] = stress_start(hoard, NULL);
	for (unsigned i = 0; i < GREEDY * THREADS; i++)
		thread[n++] = stress_start(fill_cache, &greedy[i % GREEDY]);
	stress_run_for(stress_seconds());
	while (n)
		stress_join(thread[--n]);
	report();
	end(&modest);
	end(&hoarder);
	for (int i = 0; i < GREEDY; i++)
		end(&greedy[i]);
	stress_budget_end(root);
	return stress_end();
}
