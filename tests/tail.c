/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * Bytes behind a segment that can be read, too: where others follow it, and
 * where nothing does, which without the option is the end of a mapping.
 */
#include "pools.h"

enum { SEGMENTS = 64, TAIL = 16 };

static struct seg_pool *pool_with_tail(struct seg_budget *budget,
				       unsigned bytes)
{
	return make_pool_with((struct seg_pool_options){
		.budget = budget, .tail_bytes = bytes,
		.region_bytes = 4 * SEG_MIN_BYTES });
}

static unsigned sum_of(const unsigned char *bytes, size_t n)
{
	unsigned sum = 0;

	while (n--)
		sum += *bytes++;
	return sum;
}

/* All segments of several regions; the last one of each has nothing behind it
 * but what the option puts there. */
static void read_tails(unsigned tail)
{
	struct seg_budget *budget = new_budget(SEGMENTS * SEG_MIN_BYTES);
	struct seg_pool *pool = pool_with_tail(budget, tail);
	unsigned char *segment[SEGMENTS];
	unsigned sum = 0;

	for (int i = 0; i < SEGMENTS; i++) {
		segment[i] = seg_alloc(pool, SEG_MIN_BYTES);
		assert_non_null(segment[i]);
		memset(segment[i], 0, SEG_MIN_BYTES);
	}
	assert_int_equal(charged(budget), SEGMENTS * SEG_MIN_BYTES);
	for (int i = 0; i < SEGMENTS; i++)
		sum += sum_of(segment[i] + SEG_MIN_BYTES, tail);
	assert_int_equal(sum, 0);
	/* Also where the neighbour was released, or decommitted. */
	for (int i = 1; i < SEGMENTS; i += 2)
		assert_int_equal(seg_release(pool, segment[i]), 0);
	for (int i = 0; i < SEGMENTS; i += 2)
		sum += sum_of(segment[i] + SEG_MIN_BYTES, tail);
	assert_int_equal(seg_pool_drain(pool, 0, NULL), 0);
	for (int i = 0; i < SEGMENTS; i += 2)
		sum += sum_of(segment[i] + SEG_MIN_BYTES, tail);
	assert_int_equal(sum, 0);
	for (int i = 0; i < SEGMENTS; i += 2)
		assert_int_equal(seg_release(pool, segment[i]), 0);
	assert_true(seg_pool_is_valid(pool));
	end_both(pool, budget);
}

static void test_the_tail_can_be_read(void **state)
{
	(void)state;
	read_tails(TAIL);
	read_tails(SEG_MIN_BYTES);
	read_tails(1);
}

/* Whether a page is mapped at that address: the kernel's answer. */
static bool is_mapped(const void *address)
{
	FILE *maps = fopen("/proc/self/maps", "r");
	unsigned long from, to;
	bool found = false;
	char line[512];

	require(maps);
	while (!found && fgets(line, sizeof(line), maps))
		found = sscanf(line, "%lx-%lx", &from, &to) == 2 &&
			(uintptr_t)address >= from && (uintptr_t)address < to;
	fclose(maps);
	return found;
}

/* What lies behind is the region's, and goes with it. */
static void test_the_tail_goes_with_the_region(void **state)
{
	struct seg_budget *budget = new_budget(MIB);
	struct seg_pool *pool = pool_with_tail(budget, TAIL);
	struct seg_region_info info = { .size = sizeof(info) };
	char *segment = seg_alloc(pool, SEG_MIN_BYTES), *end;

	(void)state;
	assert_int_equal(seg_region_of(pool, segment, &info), 0);
	end = (char *)info.base + info.bytes;
	assert_true(is_mapped(end));
	assert_int_equal(seg_region_of(pool, end, &info), -ENOENT);
	assert_int_equal(seg_release(pool, segment), 0);
	assert_int_equal(seg_pool_trim(pool, NULL), 0);
	assert_false(is_mapped(end - SEG_MIN_BYTES));
	assert_false(is_mapped(end));
	assert_int_equal(figures(pool, SEG_ALL).mapped_bytes, 0);
	end_both(pool, budget);
}

static void test_a_tail_that_is_too_long(void **state)
{
	struct seg_budget *budget = new_budget(MIB);
	struct seg_pool_options o = { .size = sizeof(o), .budget = budget,
				      .tail_bytes = SEG_MIN_BYTES + 1 };
	struct seg_pool *pool;

	(void)state;
	assert_int_equal(seg_pool_create(&o, &pool), -EINVAL);
	end_budget(budget);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_the_tail_can_be_read),
		cmocka_unit_test(test_the_tail_goes_with_the_region),
		cmocka_unit_test(test_a_tail_that_is_too_long),
	};

	return run_group(tests);
}
