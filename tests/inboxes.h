/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* What the tests of inboxes share: one pool, what its threads hold, and what
 * each step changes. */
#ifndef SEG_TESTS_INBOXES_H
#define SEG_TESTS_INBOXES_H

#include "actors.h"
#include "budget.h"
#include "inbox.h"
#include "one_node.h"
#include "pool.h"
#include "rcu.h"

enum { MOST = 4096, KEPT = 128 * MIB };

/* Segments that one stash has handed out; others release from the front. */
struct set {
	void *at[MOST];
	unsigned count, gone;
};

static struct events events;
static struct seg_budget *budget;
static struct seg_pool *pool;
static struct set mine, theirs;	/* the main thread's; another one's */
static void *spare[2 * MOST];	/* the others, that end() releases */
static unsigned spares;
static struct actor other;
static struct seg_pool_stats seen;

static inline struct stash *own_stash(void)
{
	return stash_of(&pool->allocator.stashes);
}

static inline struct atomic_u32 *parcels_of(struct stash *st)
{
	return &st->inbox.parcels;
}

/* In the low half those that are reserved, above these those that are full. */
static inline uint32_t parcels(struct stash *st)
{
	return u32_load_relaxed(parcels_of(st));
}

static inline uint32_t full(uint32_t bits)
{
	return bits | bits << INBOX_PARCELS;
}

static inline uint32_t in_parcel(struct stash *st, int i)
{
	return u32_load_relaxed(&st->inbox.parcel[i].count);
}

static inline uint32_t parked(int c)
{
	return stash_count(own_stash(), c);
}

static inline struct atomic_u64 *generation_at(const void *segment,
					       uint32_t *owner)
{
	struct region *r;
	uint32_t slice;

	rcu_enter();
	r = region_table_find(&pool->allocator.table, segment, NULL);
	rcu_leave();
	require(r);
	slice = (uint32_t)region_slice_of(r, segment);
	*owner = owner_of(r, slice);
	return &r->generations[slice];
}

/* For end(). */
static inline void *get(int c)
{
	void *segment = seg_alloc(pool, slice_of(c));

	require(segment && spares < 2 * MOST);
	*(char *)segment = 1;	/* the checkers know that it is ours */
	spare[spares++] = segment;
	return segment;
}

/* At least so many of the calling thread's stash, and leaves none there. */
static inline void hold(struct set *set, int c, unsigned n)
{
	unsigned most = set->count + n;
	uint32_t owner;

	while (set->count < most || parked(c)) {
		void *segment = get(c);

		generation_at(segment, &owner);
		if (owner != own_stash()->number)
			continue;
		require(set->count < MOST);
		set->at[set->count++] = spare[--spares];
	}
}

static inline void hold_theirs(void *n)
{
	seg_release(pool, seg_alloc(pool, 1));
	hold(&theirs, 0, *(unsigned *)n);
}

static inline void hold_mine(int c, unsigned n)
{
	seg_release(pool, seg_alloc(pool, slice_of(c)));
	hold(&mine, c, n);
}

static inline int begin_with_limit(uint64_t limit)
{
	events = (struct events)EVENTS_INIT;
	budget = new_budget(limit);
	pool = make_pool_events(budget, &events, SEG_LOG_ERROR);
	mine.count = mine.gone = theirs.count = theirs.gone = spares = 0;
	actor_begin(&other);
	return 0;
}

static inline int begin(void **state)
{
	(void)state;
	return begin_with_limit(KEPT);
}

static inline void release_rest(struct set *set)
{
	while (set->gone < set->count)
		require(!seg_release(pool, set->at[set->gone++]));
}

static inline void release_spares(void)
{
	while (spares)
		require(!seg_release(pool, spare[--spares]));
}

static inline int end(void **state)
{
	(void)state;
	release_rest(&mine);
	release_rest(&theirs);
	release_spares();
	assert_int_equal(figures(pool, SEG_ALL).active, 0);
	assert_true(seg_pool_is_valid(pool));
	actor_end(&other);
	end_both(pool, budget);
	return 0;
}

/* From here on. */
static inline void look(void)
{
	seen = figures(pool, SEG_ALL);
}

/* Since the last look; no region has come or gone. */
static inline void assert_step(uint64_t allocations, uint64_t releases,
			int64_t cached, int64_t unused)
{
	struct seg_pool_stats s = figures(pool, SEG_ALL);

	assert_int_equal(s.allocations_total,
			 seen.allocations_total + allocations);
	assert_int_equal(s.releases_total, seen.releases_total + releases);
	assert_int_equal(s.active, seen.active + allocations - releases);
	assert_int_equal(s.cached, seen.cached + (uint64_t)cached);
	assert_int_equal(s.unused, seen.unused + (uint64_t)unused);
	assert_int_equal(s.slices, seen.slices);
	assert_int_equal(s.regions, seen.regions);
	assert_int_equal(s.decommitted, seen.decommitted);
	assert_int_equal(s.misuses_total, events.misuses);
	assert_true(seg_pool_is_valid(pool));
	seen = s;
}

struct job {
	struct set *set;
	unsigned count;
	uint32_t claims;	/* that stand in its stash afterwards */
};

static inline void release_front(void *arg)
{
	struct job *j = arg;

	for (unsigned i = 0; i < j->count; i++) {
		require(j->set->gone < j->set->count);
		require(!seg_release(pool, j->set->at[j->set->gone++]));
	}
	j->claims = own_stash() ? stash_claims(own_stash()) : 0;
}

/* How many claims the other thread has then. */
static inline uint32_t other_releases(struct set *set, unsigned count)
{
	struct job j = { .set = set, .count = count };

	actor_do(&other, release_front, &j);
	return j.claims;
}

/* The last ones come first, and all of it from the stash. */
static inline void get_back(struct set *set, unsigned first, unsigned end)
{
	while (end > first) {
		assert_ptr_equal(get(0), set->at[--end]);
		assert_int_equal(parked(0), end - first);
	}
}

static inline void set_inside(uint32_t inside)
{
	u32_store_release(&own_stash()->section.inside, inside);
}

#endif
