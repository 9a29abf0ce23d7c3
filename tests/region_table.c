/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * lib/region_table.h: an address gives its region, exactly; what was there is
 * told from what never was (P7); any address at all may be asked for.
 * The regions are made up: the table never looks at what it points to.
 */
#include "testing.h"

#include "os.h"
#include "rcu.h"
#include "region_table.h"

enum {
	GRANULE = 1 << TABLE_GRANULE_BITS,
	LEAF_BYTES = 8 << TABLE_LEAF_BITS,
	MANY = 3000,
	THREADS = 4,
	INSERTS = 200,
};

#define LEAF_SPAN ((uintptr_t)GRANULE << TABLE_LEAF_BITS)
#define END_OF_ADDRESSES ((uintptr_t)1 << 48)
#define SOMEWHERE ((uintptr_t)5 << 40)

static struct region_table *table;

static int new_table(void **state)
{
	(void)state;
	table = os_map(sizeof(*table), CACHE_LINE);
	return table ? 0 : -1;
}

static int end_table(void **state)
{
	(void)state;
	region_table_clear(table);
	return os_unmap(table, sizeof(*table));
}

static struct region made_up(uintptr_t base, size_t bytes)
{
	return (struct region){ .base_address.value = (void *)base,
				.bytes = bytes };
}

struct answer {
	struct region *region;
	bool gone;
};

static struct answer find(uintptr_t address)
{
	struct answer a = { .gone = true };

	rcu_enter();
	a.region = region_table_find(table, (void *)address, &a.gone);
	rcu_leave();
	return a;
}

static void assert_found(uintptr_t address, struct region *r)
{
	struct answer a = find(address);

	assert_ptr_equal(a.region, r);
	assert_false(a.gone);
}

static void assert_gone(uintptr_t address)
{
	struct answer a = find(address);

	assert_null(a.region);
	assert_true(a.gone);
}

static void assert_edges(struct region *r)
{
	uintptr_t base = (uintptr_t)region_base(r);

	assert_found(base, r);
	assert_found(base + 1, r);
	assert_found(base + r->bytes / 2, r);
	assert_found(base + r->bytes - 1, r);
}

/* Sizes below, of and above a granule; in all, nothing beside them. */
static void test_find_knows_the_edges(void **state)
{
	const size_t bytes[] = { 4096, 256 << 10, GRANULE, 3 * GRANULE,
				 64 << 20 };

	(void)state;
	for (size_t i = 0; i < sizeof(bytes) / sizeof(*bytes); i++) {
		uintptr_t base = SOMEWHERE + i * ((uintptr_t)1 << 30);
		struct region r = made_up(base, bytes[i]);

		assert_found(base, NULL);
		assert_true(region_table_insert(table, &r));
		assert_edges(&r);
		assert_found(base - 1, NULL);
		assert_found(base + bytes[i], NULL);
		region_table_remove(table, &r);
		assert_gone(base);
		assert_gone(base + bytes[i] - 1);
		assert_found(base - 1, NULL);
	}
}

static void test_a_new_region_where_one_was(void **state)
{
	struct region big = made_up(SOMEWHERE, 4 * GRANULE);
	struct region small = made_up(SOMEWHERE + GRANULE, 4096);

	(void)state;
	assert_true(region_table_insert(table, &big));
	region_table_remove(table, &big);
	assert_true(region_table_insert(table, &small));
	assert_edges(&small);
	assert_gone(SOMEWHERE);
	assert_found(SOMEWHERE + GRANULE + 4096, NULL);
	assert_gone(SOMEWHERE + 2 * GRANULE);
	region_table_remove(table, &small);
	assert_gone(SOMEWHERE + GRANULE);
}

static void test_the_gone_flag_may_be_left_out(void **state)
{
	struct region r = made_up(SOMEWHERE, GRANULE);

	(void)state;
	assert_true(region_table_insert(table, &r));
	rcu_enter();
	assert_ptr_equal(region_table_find(table, region_base(&r), NULL), &r);
	region_table_remove(table, &r);
	assert_null(region_table_find(table, region_base(&r), NULL));
	rcu_leave();
}

/* Neighbours share no granule, and do not hide each other. */
static void test_neighbours(void **state)
{
	struct region a = made_up(SOMEWHERE, GRANULE);
	struct region b = made_up(SOMEWHERE + GRANULE, 2 * GRANULE);

	(void)state;
	assert_true(region_table_insert(table, &a));
	assert_true(region_table_insert(table, &b));
	assert_edges(&a);
	assert_edges(&b);
	region_table_remove(table, &a);
	assert_gone(SOMEWHERE + GRANULE - 1);
	assert_edges(&b);
}

/* One region in two leaves; each leaf is made once. */
static void test_across_leaves(void **state)
{
	uintptr_t border = SOMEWHERE + LEAF_SPAN;
	struct region r = made_up(border - 2 * GRANULE, 5 * GRANULE);

	(void)state;
	assert_int_equal(u64_load_relaxed(&table->leaf_bytes), 0);
	assert_true(region_table_insert(table, &r));
	assert_int_equal(u64_load_relaxed(&table->leaf_bytes), 2 * LEAF_BYTES);
	assert_edges(&r);
	assert_found(border, &r);
	assert_found(border - 1, &r);
	region_table_remove(table, &r);
	assert_gone(border);
	assert_gone(border - 1);
	assert_true(region_table_insert(table, &r));
	assert_int_equal(u64_load_relaxed(&table->leaf_bytes), 2 * LEAF_BYTES);
}

static void test_any_address_may_be_asked_for(void **state)
{
	const uintptr_t odd[] = { 0, 1, 4096, END_OF_ADDRESSES - 1,
				  END_OF_ADDRESSES, END_OF_ADDRESSES + 1,
				  SOMEWHERE | END_OF_ADDRESSES,
				  SOMEWHERE | (uintptr_t)1 << 63,
				  UINTPTR_MAX };
	struct region r = made_up(SOMEWHERE, GRANULE);

	(void)state;
	assert_true(region_table_insert(table, &r));
	for (size_t i = 0; i < sizeof(odd) / sizeof(*odd); i++)
		assert_found(odd[i], NULL);
}

static void test_the_last_granule(void **state)
{
	struct region r = made_up(END_OF_ADDRESSES - GRANULE, GRANULE);

	(void)state;
	assert_true(region_table_insert(table, &r));
	assert_edges(&r);
	assert_found(END_OF_ADDRESSES, NULL);
}

/* Beyond what the tree covers: refused, and nothing is left of it. */
static void test_out_of_range_is_refused(void **state)
{
	struct region far = made_up(END_OF_ADDRESSES, GRANULE);
	struct region half = made_up(END_OF_ADDRESSES - GRANULE, 2 * GRANULE);

	(void)state;
	assert_false(region_table_insert(table, &far));
	assert_false(region_table_insert(table, &half));
	assert_found(END_OF_ADDRESSES - GRANULE, NULL);
	assert_found(END_OF_ADDRESSES, NULL);
	assert_int_equal(u64_load_relaxed(&table->leaf_bytes), 0);
}

/* Regions all over the address space, some removed; none is mistaken. */
static void test_many_regions(void **state)
{
	static struct region regions[MANY];
	const uintptr_t apart = END_OF_ADDRESSES / MANY & ~(uintptr_t)
				(GRANULE - 1);
	uint64_t seed = random_seed(1);

	(void)state;
	for (uintptr_t i = 0; i < MANY; i++) {
		size_t bytes = (size_t)4096 << random_below(&seed, 15);

		regions[i] = made_up(i * apart, bytes);
		assert_true(region_table_insert(table, &regions[i]));
	}
	for (int i = 0; i < MANY; i += 3)
		region_table_remove(table, &regions[i]);
	for (int i = 0; i < MANY; i++) {
		if (i % 3)
			assert_edges(&regions[i]);
		else
			assert_gone((uintptr_t)region_base(&regions[i]));
	}
}

/* Four threads fill new leaves at the same places, and find their own. */
static struct region each[THREADS][INSERTS];

static void *insert_and_find(void *arg)
{
	struct region *mine = arg;
	uintptr_t me = (uintptr_t)(mine - each[0]) / INSERTS;

	for (uintptr_t i = 0; i < INSERTS; i++) {
		uintptr_t base = SOMEWHERE + i * LEAF_SPAN + me * GRANULE;

		mine[i] = made_up(base, GRANULE);
		if (!region_table_insert(table, &mine[i]) ||
		    find(base + 1).region != &mine[i])
			return arg;
		if (i % 2)
			region_table_remove(table, &mine[i]);
	}
	return NULL;
}

static void test_threads_share_new_leaves(void **state)
{
	struct threads t;

	(void)state;
	threads_start(&t, THREADS, insert_and_find, each, sizeof(each[0]));
	assert_int_equal(threads_join(&t), 0);
	assert_int_equal(u64_load_relaxed(&table->leaf_bytes),
			 INSERTS * LEAF_BYTES);
	for (int i = 0; i < THREADS * INSERTS; i++) {
		struct region *r = &each[i / INSERTS][i % INSERTS];

		if (i % 2)
			assert_gone((uintptr_t)region_base(r));
		else
			assert_edges(r);
	}
}

/* A reader meets regions as they come: their fields are there with them. */
static void *look_for_all(void *arg)
{
	bool wrong = false;

	for (int i = 0; i < INSERTS; i++) {
		uintptr_t address = SOMEWHERE + (uintptr_t)i * GRANULE;
		struct region *r;

		while (!(r = find(address + 4095).region))
			sched_yield();
		wrong |= r != &each[0][i] || r->slices != (uint32_t)i;
	}
	return wrong ? arg : NULL;
}

static void test_a_reader_sees_whole_regions(void **state)
{
	struct threads t;
	int arg;

	(void)state;
	threads_start(&t, 1, look_for_all, &arg, 0);
	for (uint32_t i = 0; i < INSERTS; i++) {
		each[0][i] = made_up(SOMEWHERE + (uintptr_t)i * GRANULE, 4096);
		each[0][i].slices = i;
		assert_true(region_table_insert(table, &each[0][i]));
	}
	assert_int_equal(threads_join(&t), 0);
}

#define table_test(f) cmocka_unit_test_setup_teardown(f, new_table, end_table)

int main(void)
{
	const struct CMUnitTest tests[] = {
		table_test(test_find_knows_the_edges),
		table_test(test_a_new_region_where_one_was),
		table_test(test_the_gone_flag_may_be_left_out),
		table_test(test_neighbours),
		table_test(test_across_leaves),
		table_test(test_any_address_may_be_asked_for),
		table_test(test_the_last_granule),
		table_test(test_out_of_range_is_refused),
		table_test(test_many_regions),
		table_test(test_threads_share_new_leaves),
		table_test(test_a_reader_sees_whole_regions),
	};

	return run_group(tests);
}
