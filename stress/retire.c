/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * Retiring against allocating: regions of four slices, a budget of a few
 * regions, idle regions given back after a millisecond, a thread that trims,
 * drains and decommits all the time.  So nearly every take races with somebody
 * who retires, and many slices are charged again before they are taken.
 *
 * A prober looks for regions as a take does, but stops between the look and
 * the take: on a region that was retired meanwhile the take must fail and
 * change nothing, and the region's memory must still be there.
 */
#include <errno.h>
#include <inttypes.h>
#include <sched.h>
#include <stdio.h>
#include <string.h>

#include "../tests/one_node.h"
#include "pool.h"
#include "rcu.h"
#include "stress.h"

enum {
	REGION_SLICES = 4,
	REGION_BYTES = REGION_SLICES * SEG_MIN_BYTES,
	REGIONS = 8,
	HAND = 6,		/* segments that a worker takes at most */
	WORKERS_MOST = 6,
	MOOD_SHIFT = 7,		/* after so many allocations the other class */
};

static struct seg_budget *budget;
static struct seg_pool *pool;
static stress_count allocated, refused, trims, trimmed_bytes;
static stress_count probes, met_retired, takes_refused;

struct hand {
	uint64_t owner;
	unsigned count;
	void *segment[HAND];
	size_t bytes[HAND];
};

static bool take_one(struct hand *h, size_t bytes)
{
	void *segment = seg_alloc(pool, bytes);

	stress_check_budget(budget);
	if (!segment) {
		stress_check(errno == ENOMEM, "seg_alloc: %s", strerror(errno));
		stress_add(&refused, 1);
		return false;
	}
	stress_add(&allocated, 1);
	stress_fill(segment, bytes, h->owner);
	h->segment[h->count] = segment;
	h->bytes[h->count++] = bytes;
	return true;
}

static void release_all(struct hand *h)
{
	while (h->count) {
		unsigned i = --h->count;
		int ret;

		stress_verify(h->segment[i], h->bytes[i], h->owner);
		ret = seg_release(pool, h->segment[i]);
		stress_check(!ret, "seg_release: %s", strerror(-ret));
	}
}

/*
 * All workers want the same class for a while, then all the other: what they
 * leave behind is idle and must make room.
 */
static size_t wanted_bytes(struct stress_random *random)
{
	unsigned mood = stress_value(&allocated) >> MOOD_SHIFT & 1;

	if (stress_below(random, 16) == 0)
		mood ^= 1;
	return (size_t)SEG_MIN_BYTES << mood;
}

/* Up to a few, then down to none: regions are all unused all the time. */
static void *work(void *arg)
{
	struct hand h = { .owner = (uintptr_t)arg };
	struct stress_random random = stress_random_of(h.owner);

	while (!stress_over()) {
		unsigned want = 1 + stress_below(&random, HAND);

		while (want-- && take_one(&h, wanted_bytes(&random)))
			;
		release_all(&h);
		if (stress_below(&random, 8) == 0)
			sched_yield();
	}
	return NULL;
}

static void trim(void)
{
	uint64_t bytes;
	int ret = seg_pool_trim(pool, &bytes);

	stress_check(!ret, "seg_pool_trim: %s", strerror(-ret));
	stress_add(&trims, 1);
	stress_add(&trimmed_bytes, bytes);
}

static void drain(void)
{
	struct seg_drain d = { .size = sizeof(d) };
	int ret = seg_pool_drain(pool, 50, &d);

	stress_check(!ret, "seg_pool_drain: %s", strerror(-ret));
	stress_check(!d.error, "drain: %s", strerror((int)d.error));
}

static void *give_back(void *arg)
{
	(void)arg;
	for (unsigned i = 0; !stress_over(); i++) {
		if (i % 4 == 0)
			trim();
		else if (i % 4 == 1)
			drain();
		else
			budget_decommit(budget, 2 * SEG_MIN_BYTES);
		stress_check_budget(budget);
		sched_yield();
	}
	return NULL;
}

/* Of the two classes, by whoever wanted it. */
static uint64_t decommitted(bool and_back)
{
	uint64_t bytes = 0;

	for (int c = 0; c < 2; c++) {
		struct class_pool *cp = &pool->node.pools[c];

		/* relaxed: a sum */
		bytes += u64_load_relaxed(and_back ? &cp->recommitted_bytes :
						     &cp->decommitted_bytes);
	}
	return bytes;
}

/* In a read section, with a region found as a take finds it. */
static void probe(struct region *r, bool linger)
{
	struct word_change change;
	uint64_t before = region_look(r);
	uint64_t serial = region_serial(r);
	uint32_t slice;

	if (linger && !word_retired(before))
		sched_yield();
	before = region_look(r);
	if (!word_retired(before))
		return;
	stress_add(&met_retired, 1);
	stress_check(!region_take(r, 1, &slice, NULL, &change),
		     "a slice was taken from a retired region");
	stress_check(region_look(r) == before && region_serial(r) == serial,
		     "a retired region changed");
	stress_add(&takes_refused, 1);
}

static void *probe_all(void *arg)
{
	unsigned n = 0;

	(void)arg;
	while (!stress_over()) {
		for (int c = 0; c < 2; c++) {
			struct region *r;

			rcu_enter();
			r = bands_pick(&pool->node.pools[c].bands);
			if (r)
				probe(r, n++ % 64 == 0);
			rcu_leave();
			stress_add(&probes, 1);
		}
	}
	return NULL;
}

static void report(double seconds)
{
	struct seg_pool_stats s = stress_stats(pool);

	printf("  allocated          %10" PRIu64 "  refused %" PRIu64 "\n",
	       stress_value(&allocated), stress_value(&refused));
	printf("  regions mapped     %10" PRIu64 "  retired %" PRIu64
	       "  unmapped %" PRIu64 "\n", s.regions_mapped_total,
	       s.regions_retired_total, s.regions_unmapped_total);
	printf("  regions retired/s  %10.0f\n",
	       (double)s.regions_retired_total / seconds);
	printf("  trims              %10" PRIu64 "  of %" PRIu64 " KiB\n",
	       stress_value(&trims), stress_value(&trimmed_bytes) / 1024);
	printf("  takes that met a retired region: %" PRIu64
	       ", all refused (%" PRIu64 " probes)\n",
	       stress_value(&met_retired), stress_value(&probes));
	printf("  decommitted        %10" PRIu64 " KiB, charged again %" PRIu64
	       " KiB\n", decommitted(false) / 1024, decommitted(true) / 1024);
	stress_check(decommitted(true) > 0, "nothing was charged again");
	stress_check(s.refusals_total == stress_value(&refused),
		     "%" PRIu64 " refusals counted, %" PRIu64 " seen",
		     s.refusals_total, stress_value(&refused));
	stress_check(s.regions_retired_total > 0, "nothing was retired");
	stress_check(stress_value(&met_retired) == stress_value(&takes_refused),
		     "a probe of a retired region did not end");
}

int main(void)
{
	unsigned workers = stress_scale(WORKERS_MOST, 3);
	pthread_t worker[WORKERS_MOST], trimmer, prober;
	uint64_t start_ns;

	stress_begin("stress/retire");
	budget = stress_budget(REGIONS * REGION_BYTES);
	pool = stress_pool((struct seg_pool_options){
		.budget = budget,
		.region_bytes = REGION_BYTES,
		.decay_ms = 1,
		.wait_ms = 1,
		.ahead = SEG_AHEAD_BACK,
	});
	start_ns = stress_now_ns();
	for (unsigned i = 0; i < workers; i++)
		worker[i] = stress_start(work, (void *)(uintptr_t)(i + 1));
	trimmer = stress_start(give_back, NULL);
	prober = stress_start(probe_all, NULL);
	stress_run_for(stress_seconds());
	for (unsigned i = 0; i < workers; i++)
		stress_join(worker[i]);
	stress_join(trimmer);
	stress_join(prober);
	report((double)(stress_now_ns() - start_ns) / 1e9);
	stress_pool_end(pool);
	stress_budget_end(budget);
	return stress_end();
}
