/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * lib/node.h: each request has its class, and regions are of a size that lets
 * all classes find room under the budget, however small (P6).
 */
#include "testing.h"

#include "keeper.h"
#include "node.h"
#include "os.h"
#include "rcu.h"
#include "topology.h"

enum { IDLE_NS = 100 };

static const uint64_t kib = 1024, mib = 1024 * 1024;

static void test_each_size_has_its_class(void **state)
{
	(void)state;
	assert_int_equal(class_of(1), 0);
	for (int c = 0; c < SEG_CLASSES; c++) {
		size_t bytes = (size_t)SEG_MIN_BYTES << c;

		assert_int_equal(class_of(bytes), c);
		assert_int_equal(class_of(bytes - 1), c);
		if (c + 1 < SEG_CLASSES)
			assert_int_equal(class_of(bytes + 1), c + 1);
	}
	assert_int_equal(class_of(SEG_MAX_BYTES), SEG_CLASSES - 1);
}

static void test_known_region_sizes(void **state)
{
	const struct {
		int class_index;
		uint64_t limit, most, expected;
	} known[] = {
		/* one slice, whatever the limit */
		{ 0, 4 * kib, 64 * mib, 4 * kib },
		{ 6, 256 * kib, 64 * mib, 256 * kib },
		{ 6, 4 * kib, 64 * mib, 256 * kib },
		/* 32 slices as long as that is a quarter of the limit */
		{ 0, 512 * kib, 64 * mib, 128 * kib },
		{ 0, 512 * kib - 4096, 64 * mib, 64 * kib },
		{ 4, 8 * mib, 64 * mib, 2 * mib },
		{ 6, 8 * mib, 64 * mib, 2 * mib },
		/* a 16th of the limit */
		{ 0, 600 * mib, 64 * mib, 32 * mib },
		{ 0, 1024 * mib, 64 * mib, 64 * mib },
		{ 6, 1024 * mib, 64 * mib, 64 * mib },
		{ 6, BUDGET_MAX_BYTES, 64 * mib, 64 * mib },
		/* what the program set, but one slice at least */
		{ 0, 1024 * mib, 16 * kib, 16 * kib },
		{ 6, 1024 * mib, 16 * kib, 256 * kib },
	};

	(void)state;
	for (size_t i = 0; i < sizeof(known) / sizeof(*known); i++)
		assert_int_equal(node_region_bytes(known[i].class_index,
						   known[i].limit,
						   known[i].most),
				 known[i].expected);
}

static uint64_t larger(uint64_t a, uint64_t b)
{
	return a > b ? a : b;
}

/* What node.h says, for one class under one limit. */
static void assert_region_bytes(int c, uint64_t limit)
{
	uint64_t bytes = node_region_bytes(c, limit, NODE_REGION_BYTES);
	uint64_t slice = (uint64_t)SEG_MIN_BYTES << c;

	assert_true((bytes & (bytes - 1)) == 0);
	assert_true(bytes >= slice);
	assert_true(bytes <= NODE_REGION_BYTES);
	assert_true(bytes / slice <= REGION_MAX_SLICES);
	assert_true(bytes <= larger(slice, limit / 4));
	if (limit / 4 >= slice * NODE_MIN_SLICES)
		assert_true(bytes >= slice * NODE_MIN_SLICES);
	else
		assert_true(bytes <= larger(slice, limit / 4) &&
			    bytes > larger(slice, limit / 4) / 2);
	if (limit / 16 >= slice * NODE_MIN_SLICES &&
	    limit / 16 <= NODE_REGION_BYTES)
		assert_true(bytes <= limit / 16 && bytes > limit / 32);
	if (limit / 16 >= NODE_REGION_BYTES)
		assert_int_equal(bytes, NODE_REGION_BYTES);
}

/* From one page to 16 TiB, at each power of two and beside it. */
static void test_region_sizes_over_all_budgets(void **state)
{
	(void)state;
	for (int c = 0; c < SEG_CLASSES; c++) {
		for (uint64_t limit = BUDGET_UNIT; limit < BUDGET_MAX_BYTES;
		     limit *= 2) {
			assert_region_bytes(c, limit);
			assert_region_bytes(c, limit + BUDGET_UNIT);
			assert_region_bytes(c, limit + limit / 2);
			if (limit > BUDGET_UNIT)
				assert_region_bytes(c, limit - BUDGET_UNIT);
		}
		assert_region_bytes(c, BUDGET_MAX_BYTES);
	}
}

/* ------------------------------------------------------------- a real one */

static struct {
	struct allocator allocator;
	struct node node;
} *f;

static int new_node(void **state)
{
	(void)state;
	f = os_map(sizeof(*f), CACHE_LINE);
	f->allocator.budget = new_budget(16 * mib);
	node_init(&f->node, &f->allocator, 3, 64 * mib);
	return 0;
}

static int end_node(void **state)
{
	(void)state;
	node_shed(&f->node, UINT64_MAX);
	keeper_flush();
	assert_true(node_is_valid(&f->node));
	end_budget(f->allocator.budget);
	node_clear(&f->node);
	region_table_clear(&f->allocator.table);
	return os_unmap(f, sizeof(*f));
}

/* A region of the class, all of it unused. */
static uint64_t open_spare(int c)
{
	struct class_pool *cp = &f->node.pools[c];
	size_t bytes = node_region_bytes(c, 16 * mib, 64 * mib);
	struct region *r;
	struct taken t;

	assert_int_equal(class_pool_open(cp, bytes,
					 (uint32_t)(bytes / cp->slice_bytes),
					 &t), OPEN_DONE);
	rcu_enter();
	r = region_table_find(&f->allocator.table, t.segment, NULL);
	assert_true(region_disown(r, 0));
	class_pool_give(cp, r, 0);
	rcu_leave();
	return bytes;
}

static uint64_t charged(void)
{
	keeper_flush();
	return budget_stats(f->allocator.budget).charged_bytes;
}

static void test_init_sets_up_all_classes(void **state)
{
	(void)state;
	assert_int_equal(f->node.id, 3);
	for (int c = 0; c < SEG_CLASSES; c++) {
		struct class_pool *cp = &f->node.pools[c];

		assert_int_equal(cp->class_index, c);
		assert_int_equal(cp->slice_bytes, SEG_MIN_BYTES << c);
		assert_int_equal(cp->most_bytes, 64 * mib);
		assert_ptr_equal(cp->allocator, &f->allocator);
	}
	assert_int_equal(charged(), 0);
	assert_true(node_is_valid(&f->node));
}

static void test_shed_takes_the_largest_classes_first(void **state)
{
	uint64_t bytes[SEG_CLASSES], left = 0;

	(void)state;
	assert_int_equal(node_shed(&f->node, UINT64_MAX), 0);
	for (int c = 0; c < SEG_CLASSES; c++)
		left += bytes[c] = open_spare(c);
	assert_int_equal(charged(), left);
	for (int c = SEG_CLASSES - 1; c >= 0; c--) {
		assert_int_equal(node_shed(&f->node, 1), bytes[c]);
		left -= bytes[c];
		assert_int_equal(charged(), left);
		assert_int_equal(class_pool_sum(&f->node.pools[c]).regions, 0);
	}
	assert_int_equal(node_shed(&f->node, 1), 0);
}

static void test_shed_goes_on_until_it_is_enough(void **state)
{
	uint64_t large, middle;

	(void)state;
	open_spare(0);
	middle = open_spare(3);
	large = open_spare(6);
	assert_int_equal(node_shed(&f->node, large + 1), large + middle);
	assert_int_equal(node_shed(&f->node, UINT64_MAX),
			 node_region_bytes(0, 16 * mib, 64 * mib));
}

/* P3: each class, and until nothing is left to look at. */
static void test_decay_looks_at_all_classes(void **state)
{
	(void)state;
	assert_false(node_decay(&f->node, 1000, IDLE_NS));
	for (int c = 0; c < SEG_CLASSES; c++)
		open_spare(c);
	assert_true(node_decay(&f->node, 1000, IDLE_NS));
	assert_true(node_decay(&f->node, 1000 + IDLE_NS - 1, IDLE_NS));
	assert_true(charged() > 0);
	assert_false(node_decay(&f->node, 1000 + IDLE_NS, IDLE_NS));
	assert_int_equal(charged(), 0);
}

static void test_valid_sees_each_class(void **state)
{
	(void)state;
	for (int c = 0; c < SEG_CLASSES; c++) {
		struct atomic_u64 *mapped = &f->node.pools[c].regions_mapped;

		u64_add_relaxed(mapped, 1);
		assert_false(node_is_valid(&f->node));
		u64_sub_relaxed(mapped, 1);
		assert_true(node_is_valid(&f->node));
	}
}

/* A region of the class of which one slice is unused: it asks for the next. */
static void use_up(int c)
{
	struct class_pool *cp = &f->node.pools[c];

	open_spare(c);
	while (class_pool_sum(cp).unused > 1)
		assert_non_null(class_pool_take(cp).segment);
}

static void give_all_back(int c)
{
	struct class_pool *cp = &f->node.pools[c];
	struct region *r;

	rcu_enter();
	r = bands_at(&cp->bands, 0);
	for (uint32_t i = 0; i < r->slices; i++)
		if (region_disown(r, i))
			class_pool_give(cp, r, i);
	rcu_leave();
}

/* P9: where there was no memory a moment ago, none is wanted ahead. */
static void test_each_class_grows_ahead_where_there_is_memory(void **state)
{
	(void)state;
	f->allocator.ahead = SEG_AHEAD_BACK;
	topology_check();
	use_up(0);
	use_up(3);
	u64_store_relaxed(&f->node.rest_until_ns, 1000);
	assert_false(node_open_ahead(&f->node, 999));
	assert_int_equal(class_pool_sum(&f->node.pools[0]).regions, 1);
	assert_true(node_open_ahead(&f->node, 1000));
	while (node_open_ahead(&f->node, 1000))
		;
	for (int c = 0; c < SEG_CLASSES; c++)
		assert_int_equal(class_pool_sum(&f->node.pools[c]).spares,
				 c == 0 || c == 3);
	give_all_back(0);
	give_all_back(3);
}

#define node_test(t) cmocka_unit_test_setup_teardown(t, new_node, end_node)

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_each_size_has_its_class),
		cmocka_unit_test(test_known_region_sizes),
		cmocka_unit_test(test_region_sizes_over_all_budgets),
		node_test(test_init_sets_up_all_classes),
		node_test(test_shed_takes_the_largest_classes_first),
		node_test(test_shed_goes_on_until_it_is_enough),
		node_test(test_decay_looks_at_all_classes),
		node_test(test_valid_sees_each_class),
		node_test(test_each_class_grows_ahead_where_there_is_memory),
	};

	return run_group(tests);
}
