/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * The allocator of one slot: a budget of one slice, four threads, each with a
 * number of turns to finish.  So an allocation is a lock, and is tested as
 * one: never two owners, and what one owner wrote is seen by the next (the
 * turns are counted in a plain variable that only the slot protects).
 * Rounds of turns are played until the time is over.
 */
#include <errno.h>
#include <inttypes.h>
#include <sched.h>
#include <stdio.h>
#include <string.h>
#include <time.h>

#include "stress.h"

enum { THREADS = 4, DEADLINE_S = 100 };

static struct seg_budget *budget;
static struct seg_pool *pool;
static unsigned turns_of_round;
static stress_count owners, longest_ns, rounds;
static uint64_t turns;		/* plain: the slot's owner's */

struct player {
	uint64_t owner;
	struct stress_random random;
};

static void *acquire_slot(void)
{
	struct timespec deadline;
	uint64_t start_ns = stress_now_ns();
	void *slot;

	clock_gettime(CLOCK_MONOTONIC, &deadline);
	deadline.tv_sec += DEADLINE_S;
	slot = seg_alloc_until(pool, SEG_MIN_BYTES, &deadline);
	stress_raise(&longest_ns, stress_now_ns() - start_ns);
	stress_check(slot, "no turn in %d s: %s", DEADLINE_S, strerror(errno));
	return slot;
}

static void use_slot(struct player *p, void *slot)
{
	stress_check(stress_add(&owners, 1) == 0, "two owners");
	turns++;
	stress_fill(slot, SEG_MIN_BYTES, p->owner);
	if (stress_below(&p->random, 16) == 0)
		sched_yield();
	stress_verify(slot, SEG_MIN_BYTES, p->owner);
	stress_check(stress_add(&owners, (uint64_t)-1) == 1, "two owners");
}

static void *play(void *arg)
{
	struct player *p = arg;

	for (unsigned i = 0; i < turns_of_round; i++) {
		void *slot = acquire_slot();
		int ret;

		use_slot(p, slot);
		stress_check_budget(budget);
		ret = seg_release(pool, slot);
		stress_check(!ret, "seg_release: %s", strerror(-ret));
		if (stress_below(&p->random, 64) == 0)
			seg_pool_trim(pool, NULL);
	}
	return NULL;
}

static void play_round(struct player *players)
{
	pthread_t thread[THREADS];
	uint64_t expected = turns + THREADS * turns_of_round;

	for (int i = 0; i < THREADS; i++)
		thread[i] = stress_start(play, &players[i]);
	for (int i = 0; i < THREADS; i++)
		stress_join(thread[i]);
	stress_check(turns == expected, "%" PRIu64 " turns instead of %" PRIu64,
		     turns, expected);
	stress_check(seg_pool_is_valid(pool), "the pool is not valid");
	stress_add(&rounds, 1);
}

static void report(double seconds)
{
	struct seg_budget_stats b = stress_budget_stats(budget);
	struct seg_pool_stats s = stress_stats(pool);

	printf("  rounds        %10" PRIu64 "  of %d threads, %u turns each\n",
	       stress_value(&rounds), THREADS, turns_of_round);
	printf("  turns/s       %10.0f\n", (double)turns / seconds);
	printf("  longest wait  %10.3f ms\n",
	       (double)stress_value(&longest_ns) / 1e6);
	printf("  waits         %10" PRIu64 "\n", b.waits_total);
	printf("  slot mapped   %10" PRIu64 "  times\n",
	       s.regions_mapped_total);
	stress_check(b.peak_charged_bytes == SEG_MIN_BYTES,
		     "%" PRIu64 " bytes were charged", b.peak_charged_bytes);
	stress_check(s.refusals_total == 0, "%" PRIu64 " refusals",
		     s.refusals_total);
}

int main(void)
{
	struct player players[THREADS];
	uint64_t start_ns, end_ns;

	stress_begin("stress/oneslot");
	turns_of_round = stress_scale(1000, 100);
	budget = stress_budget(SEG_MIN_BYTES);
	pool = stress_pool((struct seg_pool_options){
		.budget = budget,
		.decay_ms = 1,
	});
	for (int i = 0; i < THREADS; i++) {
		players[i].owner = (uint64_t)i + 1;
		players[i].random = stress_random_of(players[i].owner);
	}
	start_ns = stress_now_ns();
	end_ns = start_ns + (uint64_t)(stress_seconds() * 1e9);
	do
		play_round(players);
	while (stress_now_ns() < end_ns);
	report((double)(stress_now_ns() - start_ns) / 1e9);
	stress_pool_end(pool);
	stress_budget_end(budget);
	return stress_end();
}
