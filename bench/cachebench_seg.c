/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * libseg's cache.  A plain hit is a read section with seg_cache_peek() in it;
 * a pin is seg_cache_get(), seg_pin_value() and seg_unpin().
 */
#include <errno.h>
#include <stdlib.h>

#include "cachebench.h"
#include "cachebench_seg.h"
#include "seg.h"

/* Called once for each value that goes; a value is nobody's memory here. */
static void gone(void *ctx, uint64_t key, void *value, uint64_t weight,
		 enum seg_cause cause)
{
	(void)ctx;
	(void)key;
	(void)value;
	(void)weight;
	(void)cause;
}

struct seg_cache *bench_cache(uint64_t max_weight, bool short_reads)
{
	struct seg_cache_options options = {
		.size = sizeof(options),
		.max_weight = max_weight,
		.listener = gone,
		.short_reads = short_reads,
	};
	struct seg_cache *cache;
	int ret = seg_cache_create(&options, &cache);

	errno = -ret;
	if (ret)
		bench_die("seg_cache_create");
	return cache;
}

/* Another thread may have put the key meanwhile. */
void bench_cache_put(struct seg_cache *cache, uint64_t key, uint64_t weight)
{
	int ret = seg_cache_put(cache, key, cache, weight, NULL);

	errno = -ret;
	if (ret && ret != -EEXIST)
		bench_die("seg_cache_put");
}

void bench_cache_end(void *cache)
{
	int ret = seg_cache_destroy(cache);

	errno = -ret;
	if (ret)
		bench_die("seg_cache_destroy");
}

static void *seg_setup(const struct bench_setup *setup)
{
	return bench_cache(setup->capacity * BENCH_WEIGHT, true);
}

static inline const void *do_hit(void *state, uint64_t key)
{
	void *value = NULL;

	seg_read_begin();
	if (seg_cache_peek(state, key, &value))
		value = NULL;
	seg_read_end();
	return value;
}

static inline const void *do_pin(void *state, uint64_t key)
{
	const void *value;
	struct seg_pin pin;

	if (seg_cache_get(state, key, &pin))
		return NULL;
	value = seg_pin_value(&pin);
	seg_unpin(&pin);
	return value;
}

static inline void do_put(void *state, uint64_t key)
{
	bench_cache_put(state, key, BENCH_WEIGHT);
}

#include "cachebench_loops.h"

const struct bench_subject bench_seg = {
	.name = "libseg",
	.loops = (1 << LOOPS) - 1,
	.setup = seg_setup,
	.teardown = bench_cache_end,
	.put = loop_put,
	.loop = { loop_hit, loop_pin, loop_insert, loop_mix },
};
