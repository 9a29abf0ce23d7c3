/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * Look-ups against unmapping.  Makers take and release segments so that
 * regions come and go, and write down each hand-out; readers keep copies of
 * these notes for a while and look them up again.
 *
 * Measured is the age of a note: how many regions were unmapped since.
 * While the hand-out lives it must resolve, however old; from its release on
 * it must never, whatever is mapped at its address then.
 *
 * Watchers open read sections and look at a region twice: it must be the same
 * and still be mapped, even if it was retired between.
 */
#define _GNU_SOURCE
#include <errno.h>
#include <inttypes.h>
#include <sched.h>
#include <stdio.h>
#include <string.h>
#include <sys/mman.h>

#include "../tests/one_node.h"
#include "pool.h"
#include "rcu.h"
#include "stress.h"

enum {
	MAKERS = 3,
	READERS_MOST = 3,
	NOTES = 64,		/* of each maker */
	KEPT = 64,		/* copies that a reader keeps */
	AGES = 16,		/* 0, 1, 2..3, 4..7, ... */
};

/*
 * A hand-out as its maker wrote it down.  The state counts: 4 for each
 * hand-out, and where this one is.  A copy is whole if the count was the same
 * before and after; the fields are acquired and released for that.
 */
enum state { NOTHING, ALIVE, RELEASING, RELEASED };

struct note {
	_Atomic uint64_t state;
	_Atomic uintptr_t segment;
	_Atomic uint64_t region, generation;
};

struct copy {
	struct note *note;
	uint64_t count;		/* of the hand-out */
	struct seg_handle handle;
	uint64_t made_at;	/* regions unmapped when it was copied ... */
	uint64_t released_at;	/* ... and when it was first seen released */
	bool released;
};

static struct seg_budget *budget;
static struct seg_pool *pool;
static struct note notes[MAKERS][NOTES];
static stress_count alive_ages[AGES], released_ages[AGES], between;
static stress_count same_region, other_region, no_region;
static stress_count sections, retired_inside, walked, handed_out;

static uint64_t regions_unmapped(void)
{
	uint64_t sum = 0;

	for (int c = 0; c < SEG_CLASSES; c++)
		/* relaxed: counter */
		sum += u64_load_relaxed(&pool->node.pools[c].regions_unmapped);
	return sum;
}

/* -------------------------------------------------------------- makers */

static void note_down(struct note *n, const struct seg_handle *h)
{
	uint64_t count = (n->state >> 2) + 1;

	/* release, all: who sees one of them sees that the count changed */
	atomic_store_explicit(&n->state, count << 2 | NOTHING,
			      memory_order_release);
	atomic_store_explicit(&n->segment, (uintptr_t)h->segment,
			      memory_order_release);
	atomic_store_explicit(&n->region, h->region, memory_order_release);
	atomic_store_explicit(&n->generation, h->generation,
			      memory_order_release);
	atomic_store_explicit(&n->state, count << 2 | ALIVE,
			      memory_order_release);
}

static void move_on(struct note *n, enum state state)
{
	atomic_store_explicit(&n->state, (n->state & ~(uint64_t)3) | state,
			      memory_order_seq_cst);
}

static void make(struct note *n, unsigned class_index)
{
	void *segment = seg_alloc(pool, (size_t)SEG_MIN_BYTES << class_index);
	struct seg_handle h;
	int ret;

	if (!segment)
		return;
	ret = seg_handle_of(pool, segment, &h);
	stress_check(!ret, "no handle of a new segment: %s", strerror(-ret));
	note_down(n, &h);
	stress_add(&handed_out, 1);
}

static void unmake(struct note *n)
{
	int ret;

	move_on(n, RELEASING);
	ret = seg_release(pool, (void *)n->segment);
	stress_check(!ret, "seg_release: %s", strerror(-ret));
	move_on(n, RELEASED);
}

/* Three of four hand-outs live long. */
static unsigned choose_note(struct stress_random *random)
{
	unsigned most = stress_below(random, 256) ? NOTES / 4 : NOTES;

	return stress_below(random, most);
}

/* Likes some classes for a while, so that the others go idle. */
static void *make_all(void *arg)
{
	struct note *mine = arg;
	struct stress_random random = stress_random_of((uintptr_t)(mine -
							notes[0]));
	unsigned first = 0;

	for (unsigned i = 0; !stress_over(); i++) {
		struct note *n = &mine[choose_note(&random)];

		if (i % 256 == 0)
			first = stress_below(&random, SEG_CLASSES - 1);
		if ((n->state & 3) == ALIVE)
			unmake(n);
		else
			make(n, first + stress_below(&random, 2));
		if (i % 512 == 0)
			sched_yield();
	}
	for (unsigned i = 0; i < NOTES; i++)
		if ((mine[i].state & 3) == ALIVE)
			unmake(&mine[i]);
	return NULL;
}

/* ------------------------------------------------------------- readers */

static uint64_t state_of(const struct note *n)
{
	return atomic_load_explicit(&n->state, memory_order_seq_cst);
}

/* False: it is changing, or there is none yet. */
static bool copy_note(struct copy *c, struct note *n)
{
	uint64_t before = state_of(n);

	c->made_at = regions_unmapped();
	c->handle.segment = (void *)atomic_load_explicit(&n->segment,
							 memory_order_acquire);
	c->handle.region = atomic_load_explicit(&n->region,
						memory_order_acquire);
	c->handle.generation = atomic_load_explicit(&n->generation,
						    memory_order_acquire);
	c->note = n;
	c->count = before >> 2;
	c->released = false;
	return (before & 3) != NOTHING && state_of(n) >> 2 == c->count;
}

/* Where the copied hand-out is now. */
static enum state look(const struct copy *c)
{
	uint64_t now = state_of(c->note);

	return now >> 2 == c->count ? (enum state)(now & 3) : RELEASED;
}

static void add_age(stress_count *ages, uint64_t since)
{
	uint64_t age = regions_unmapped() - since;
	unsigned i = age ? 64 - (unsigned)__builtin_clzll(age) : 0;

	stress_add(&ages[i < AGES ? i : AGES - 1], 1);
}

static void look_up_released(struct copy *c)
{
	struct seg_handle now;
	void *segment;
	int ret;

	if (!c->released)
		c->released_at = regions_unmapped();
	c->released = true;
	ret = seg_resolve(pool, &c->handle, &segment);
	stress_check(ret == -ESTALE, "a released hand-out resolves: %d", ret);
	stress_check(seg_handle_of(pool, c->handle.segment, &now) ||
		     now.region != c->handle.region ||
		     now.generation > c->handle.generation,
		     "a handle was given out again");
	add_age(released_ages, c->released_at);
}

/* The release may have come between the two looks. */
static void look_up_alive(struct copy *c)
{
	struct seg_region_info info = { .size = sizeof(info) };
	void *segment = NULL;
	int resolved = seg_resolve(pool, &c->handle, &segment);
	int found = seg_region_of(pool, c->handle.segment, &info);

	if (look(c) != ALIVE) {
		stress_add(&between, 1);
		return;
	}
	stress_check(!resolved && segment == c->handle.segment,
		     "a hand-out that lives does not resolve: %d", resolved);
	stress_check(!found && info.region == c->handle.region,
		     "the region of a live segment is not found: %d", found);
	add_age(alive_ages, c->made_at);
}

/* What is at the address now. */
static void look_up_region(const struct copy *c)
{
	struct seg_region_info info = { .size = sizeof(info) };

	if (seg_region_of(pool, c->handle.segment, &info))
		stress_add(&no_region, 1);
	else if (info.region == c->handle.region)
		stress_add(&same_region, 1);
	else
		stress_add(&other_region, 1);
}

/* One look at one copy, and now and then another copy in its place. */
static void read_one(struct copy *kept, struct stress_random *random)
{
	unsigned i = stress_below(random, KEPT);
	struct copy *c = &kept[i];
	enum state state = c->note ? look(c) : NOTHING;

	if (state == ALIVE)
		look_up_alive(c);
	else if (state == RELEASED)
		look_up_released(c);
	if (state != NOTHING)
		look_up_region(c);
	/* The higher, the longer kept. */
	if (state != NOTHING && stress_below(random, 1 + 32 * i) != 0)
		return;
	if (!copy_note(c, &notes[stress_below(random, MAKERS)]
				[stress_below(random, NOTES)]))
		c->note = NULL;
}

static void *read_all(void *arg)
{
	struct stress_random random = stress_random_of(100 + (uintptr_t)arg);
	struct copy kept[KEPT] = { 0 };

	for (unsigned n = 1; !stress_over(); n++) {
		read_one(kept, &random);
		if (n % 64 == 0)
			sched_yield();
	}
	return NULL;
}

/* ------------------------------------------------------------ watchers */

/* Fails unless the kernel still has the range. */
static void check_mapped(void *base, size_t bytes)
{
	unsigned char pages[SEG_MAX_BYTES / SEG_MIN_BYTES];
	int ret = mincore(base, bytes < SEG_MAX_BYTES ? bytes : SEG_MAX_BYTES,
			  pages);

	stress_check(!ret || errno == EAGAIN, "%p is not mapped: %s", base,
		     strerror(errno));
}

/* In a read section. */
static void watch(struct region *r)
{
	uint64_t serial = region_serial(r);
	uint64_t word = region_look(r);
	char *base = region_base(r);

	check_mapped(base, r->bytes);
	sched_yield();
	stress_check(region_serial(r) == serial && region_base(r) == base,
		     "a region changed under its reader");
	check_mapped(base, r->bytes);
	stress_check(word_retired(region_look(r)) || !word_retired(word),
		     "a retired region is in use again");
	if (!word_retired(word) && word_retired(region_look(r)))
		stress_add(&retired_inside, 1);
	stress_add(&sections, 1);
}

static int watch_info(void *ctx, const struct seg_region_info *info)
{
	struct stress_random *random = ctx;

	stress_check(info->unused <= info->slices &&
		     info->bytes == (uint64_t)info->slices *
				    (SEG_MIN_BYTES << info->class_index),
		     "region %" PRIu64 " does not add up", info->region);
	stress_add(&walked, 1);
	if (stress_below(random, 8) == 0)
		check_mapped(info->base, info->bytes);
	return 0;
}

static void *watch_all(void *arg)
{
	struct stress_random random = stress_random_of(200);
	unsigned n = 0;

	(void)arg;
	while (!stress_over()) {
		struct note *note = &notes[stress_below(&random, MAKERS)]
					  [stress_below(&random, NOTES)];
		struct region *r;

		rcu_enter();
		r = region_table_find(&pool->allocator.table,
				      (void *)note->segment, NULL);
		if (r)
			watch(r);
		rcu_leave();
		if (n++ % 16 == 0)
			seg_region_each(pool, watch_info, &random);
	}
	return NULL;
}

/* -------------------------------------------------------------- report */

static void print_histogram(void)
{
	printf("  age in unmapped regions    alive, resolved   "
	       "released, ESTALE\n");
	for (unsigned i = 0; i < AGES; i++) {
		uint64_t low = i ? (uint64_t)1 << (i - 1) : 0;
		uint64_t high = i ? 2 * low - 1 : 0;

		if (stress_value(&alive_ages[i]) ||
		    stress_value(&released_ages[i]))
			printf("  %8" PRIu64 " .. %-8" PRIu64 " %20" PRIu64
			       " %18" PRIu64 "\n", low, high,
			       stress_value(&alive_ages[i]),
			       stress_value(&released_ages[i]));
	}
	printf("  released between two looks: %" PRIu64 "\n",
	       stress_value(&between));
}

static void report(void)
{
	struct seg_pool_stats s = stress_stats(pool);

	print_histogram();
	printf("  at a note's address: its region %" PRIu64 ", a later one %"
	       PRIu64 ", none %" PRIu64 "\n", stress_value(&same_region),
	       stress_value(&other_region), stress_value(&no_region));
	printf("  read sections %" PRIu64 ", region retired inside %" PRIu64
	       "; regions walked %" PRIu64 "\n", stress_value(&sections),
	       stress_value(&retired_inside), stress_value(&walked));
	printf("  hand-outs %" PRIu64 ", regions mapped %" PRIu64
	       ", unmapped %" PRIu64 "\n", stress_value(&handed_out),
	       s.regions_mapped_total, s.regions_unmapped_total);
	stress_check(s.regions_unmapped_total > 0, "nothing was unmapped");
}

int main(void)
{
	unsigned readers = stress_scale(READERS_MOST, 1);
	pthread_t maker[MAKERS], reader[READERS_MOST], watcher;

	stress_begin("stress/region_table");
	budget = stress_budget(8 << 20);
	pool = stress_pool((struct seg_pool_options){
		.budget = budget,
		.region_bytes = 64 << 10,
		.decay_ms = 1,
		.wait_ms = SEG_NO_WAIT,
	});
	for (int i = 0; i < MAKERS; i++)
		maker[i] = stress_start(make_all, notes[i]);
	for (unsigned i = 0; i < readers; i++)
		reader[i] = stress_start(read_all, (void *)(uintptr_t)i);
	watcher = stress_start(watch_all, NULL);
	stress_run_for(stress_seconds());
	for (int i = 0; i < MAKERS; i++)
		stress_join(maker[i]);
	for (unsigned i = 0; i < readers; i++)
		stress_join(reader[i]);
	stress_join(watcher);
	report();
	stress_pool_end(pool);
	stress_budget_end(budget);
	return stress_end();
}
