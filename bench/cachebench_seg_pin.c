/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* libseg's cache without short_reads: each look-up is a pin. */
#include "cachebench.h"
#include "cachebench_seg.h"
#include "seg.h"

static void *seg_pin_setup(const struct bench_setup *setup)
{
	return bench_cache(setup->capacity * BENCH_WEIGHT, false);
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

static inline const void *do_hit(void *state, uint64_t key)
{
	return do_pin(state, key);
}

static inline void do_put(void *state, uint64_t key)
{
	bench_cache_put(state, key, BENCH_WEIGHT);
}

#include "cachebench_loops.h"

/* In the rows of hits it would repeat the one of pins. */
const struct bench_subject bench_seg_pin = {
	.name = "libseg-pin",
	.loops = 1 << LOOP_PIN | 1 << LOOP_INSERT | 1 << LOOP_MIX,
	.setup = seg_pin_setup,
	.teardown = bench_cache_end,
	.put = loop_put,
	.loop = { loop_hit, loop_pin, loop_insert, loop_mix },
};
