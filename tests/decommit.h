/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * What the tests of lib/decommit.c share: one class pool of small regions, its
 * log, and ways to take, give and decommit.  No keeper runs: keeper_flush()
 * does what it would do.
 */
#ifndef SEG_TESTS_DECOMMIT_H
#define SEG_TESTS_DECOMMIT_H

#include "testing.h"

#include <sys/mman.h>

#include "class_pool.h"
#include "cold.h"
#include "keeper.h"
#include "os.h"
#include "rcu.h"

enum {
	SLICE = 4096,
	SLICES = 16,
	REGION = SLICES * SLICE,
	LIMIT = 8 * REGION,
	HUGE_SLICES = REGION_ALIGN / SLICE,
};

static struct {
	struct allocator allocator;
	struct class_pool pool;
} *f;

static struct recorder recorder;

static inline int new_class_pool(void **state)
{
	(void)state;
	f = os_map(sizeof(*f), CACHE_LINE);
	recorder = (struct recorder)RECORDER_INIT;
	f->allocator.budget = new_budget(LIMIT);
	f->allocator.log = (struct log){ .fn = recorder_log, .ctx = &recorder,
					 .level = SEG_LOG_ERROR };
	class_pool_init(&f->pool, &f->allocator, 0, REGION);
	return 0;
}

static inline uint64_t charged(void)
{
	return budget_stats(f->allocator.budget).charged_bytes;
}

/* charged = mapped - cold, whatever happened. */
static inline void assert_equations(void)
{
	assert_true(class_pool_is_valid(&f->pool));
	assert_int_equal(charged(), class_pool_charged(&f->pool));
	assert_true(charged() <= LIMIT);
}

static inline int end_class_pool(void **state)
{
	(void)state;
	assert_equations();
	class_pool_trim(&f->pool);
	keeper_flush();
	assert_int_equal(class_pool_sum(&f->pool).regions, 0);
	assert_int_equal(u64_load_relaxed(&f->pool.cold_bytes), 0);
	assert_int_equal(u64_load_relaxed(&f->pool.deferred_cold_bytes), 0);
	assert_int_equal(gauge_value(&f->allocator.mapped), 0);
	end_budget(f->allocator.budget);
	class_pool_clear(&f->pool);
	region_table_clear(&f->allocator.table);
	return os_unmap(f, sizeof(*f));
}

static inline char *open_region(uint32_t charged_slices)
{
	struct taken t;

	assert_int_equal(class_pool_open(&f->pool, REGION, charged_slices, &t),
			 OPEN_DONE);
	return memset(t.segment, 1, SLICE);
}

/* Touches what it takes. */
static inline char *take(void)
{
	struct taken t = class_pool_take(&f->pool);

	return t.segment ? memset(t.segment, 1, SLICE) : NULL;
}

static inline struct region *region_of(const void *segment)
{
	struct region *r;

	rcu_enter();
	r = region_table_find(&f->allocator.table, segment, NULL);
	rcu_leave();
	return r;
}

static inline bool try_give(void *segment)
{
	struct region *r;
	uint32_t slice = 0;
	bool done;

	rcu_enter();
	r = region_table_find(&f->allocator.table, segment, NULL);
	if (r)
		slice = (uint32_t)((size_t)((char *)segment - region_base(r)) /
				   SLICE);
	done = r && region_disown(r, slice);
	if (done)
		class_pool_give(&f->pool, r, slice);
	rcu_leave();
	return done;
}

static inline void give(void *segment)
{
	assert_true(try_give(segment));
}

static inline uint64_t decommit(uint64_t bytes)
{
	uint64_t given = 0;

	for (unsigned band = BAND_SPARE + 1; band-- > 0 && given < bytes;)
		given += class_pool_decommit(&f->pool, band, bytes - given);
	return given;
}

/* How many of so many pages the kernel backs. */
static inline unsigned backed_of(char *base, unsigned pages)
{
	unsigned char present[HUGE_SLICES];
	unsigned n = 0;

	assert_int_equal(mincore(base, (size_t)pages * SLICE, present), 0);
	for (unsigned i = 0; i < pages; i++)
		n += present[i] & 1;
	return n;
}

static inline bool is_zero(const char *segment)
{
	return segment[0] == 0 && !memcmp(segment, segment + 1, SLICE - 1);
}

#define pool_test(t)                                                           \
	cmocka_unit_test_setup_teardown(t, new_class_pool, end_class_pool)

#endif
