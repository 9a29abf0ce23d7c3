/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* What the tests of stashes share: a look at one's own, and its use. */
#ifndef SEG_TESTS_STASHES_H
#define SEG_TESTS_STASHES_H

#include "actors.h"
#include "one_node.h"
#include "pool.h"

enum { MOST = 4096 };

static void *held[MOST];

static inline struct stash *own_stash(struct seg_pool *pool)
{
	return stash_of(&pool->allocator.stashes);
}

static inline struct magazine *own_magazine(struct seg_pool *pool, int c)
{
	return &own_stash(pool)->magazine[c];
}

static inline uint32_t own_count(struct seg_pool *pool, int c)
{
	return stash_count(own_stash(pool), c);
}

static inline uint64_t room_bytes(struct seg_pool *pool)
{
	return u64_load_relaxed(&pool->allocator.stashes.room_bytes);
}

/* The equations, with so many out. */
static inline void assert_figures(struct seg_pool *pool, uint64_t active)
{
	struct seg_pool_stats s = figures(pool, SEG_ALL);

	assert_int_equal(s.active, active);
	assert_int_equal(s.allocations_total - s.releases_total, active);
	assert_int_equal(s.active + s.cached + s.unused + s.decommitted,
			 s.slices);
	assert_true(seg_pool_is_valid(pool));
}

static inline void fill(struct seg_pool *pool, int c, unsigned n)
{
	for (unsigned i = 0; i < n; i++)
		require(held[i] = seg_alloc(pool, slice_of(c)));
}

static inline void empty(struct seg_pool *pool, unsigned n)
{
	while (n)
		require(seg_release(pool, held[--n]) == 0);
}

/* So that the next one comes from the stash. */
static inline void use_once(void *pool)
{
	void *two[2] = { seg_alloc(pool, 1), seg_alloc(pool, 1) };

	require(two[0] && two[1]);
	require(!seg_release(pool, two[0]) && !seg_release(pool, two[1]));
}

static inline void alloc_and_release(void *pool)
{
	void *segment[20];

	for (int i = 0; i < 20; i++)
		require(segment[i] = seg_alloc(pool, 1));
	for (int i = 0; i < 20; i++)
		require(seg_release(pool, segment[i]) == 0);
}

/* As a thread does that has more to do. */
static inline void use_and_stay(void *pool)
{
	use_once(pool);
	require(figures(pool, 0).cached > 0);
}

#endif
