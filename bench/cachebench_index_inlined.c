/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * The look-up of cachebench_index.c, all of it inlined into the loop: what the
 * index alone could do in a program of its own, without a library.
 */
#include "cache.h"
#include "cachebench.h"
#include "cachebench_seg.h"
#include "rcu.h"

static void *inlined_setup(const struct bench_setup *setup)
{
	return bench_cache(setup->capacity * BENCH_WEIGHT, true);
}

static inline const void *do_hit(void *state, uint64_t key)
{
	const struct seg_cache *cache = state;
	const struct cache_entry *entry;
	const void *value;
	uint64_t word;

	rcu_enter();
	entry = cache_index_find_first(&cache->index, key, &word);
	value = entry ? cache_index_value(entry, word) : NULL;
	rcu_leave();
	return value;
}

static void inlined_put(void *state, uint64_t key)
{
	bench_cache_put(state, key, BENCH_WEIGHT);
}

#define LOOPS_OF_A_TABLE
#include "cachebench_loops.h"

const struct bench_subject bench_index_inlined = {
	.name = "index-inl",
	.loops = 1 << LOOP_HIT,
	.setup = inlined_setup,
	.teardown = bench_cache_end,
	.put = inlined_put,
	.loop = { [LOOP_HIT] = loop_hit },
};
