/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * Pools as their callers see them: P1 (bounded), P2 (exact), P3 (given back)
 * and what each function refuses.  The limit has its own file, limit.c.
 */
#include "poison.h"
#include "one_node.h"
#include "pools.h"

static void assert_refused(void *segment)
{
	assert_null(segment);
	assert_int_equal(errno, EINVAL);
	errno = 0;
}

static void expect_size(struct seg_pool *pool, size_t bytes, size_t size)
{
	char *segment = seg_alloc(pool, bytes);

	assert_non_null(segment);
	assert_int_equal((uintptr_t)segment % SEG_MIN_BYTES, 0);
	assert_int_equal(seg_size(pool, segment), size);
	segment[0] = 1;
	segment[size - 1] = 1;
	assert_int_equal(seg_release(pool, segment), 0);
	assert_int_equal(seg_size(pool, segment), 0);
}

static void test_a_request_is_rounded_up_to_its_class(void **state)
{
	struct seg_budget *budget = new_budget(64 * MIB);
	struct seg_pool *pool = make_pool(budget);

	(void)state;
	expect_size(pool, 1, SEG_MIN_BYTES);
	for (int c = 0; c < SEG_CLASSES; c++) {
		expect_size(pool, slice_of(c) - 1, slice_of(c));
		expect_size(pool, slice_of(c), slice_of(c));
		if (c + 1 < SEG_CLASSES)
			expect_size(pool, slice_of(c) + 1, slice_of(c + 1));
		assert_int_equal(figures(pool, c).regions, 1);
	}
	end_both(pool, budget);
}

static void test_sizes_that_are_none(void **state)
{
	struct seg_budget *budget = new_budget(64 * MIB);
	struct seg_pool *pool = make_pool(budget);
	const size_t sizes[] = { 0, SEG_MAX_BYTES + 1, SIZE_MAX };
	struct timespec now = monotonic_in(0, 0);

	(void)state;
	errno = 0;
	for (int i = 0; i < 3; i++) {
		assert_refused(seg_alloc(pool, sizes[i]));
		assert_refused(seg_alloc_zeroed(pool, sizes[i]));
		assert_refused(seg_alloc_on(pool, sizes[i], 0));
		assert_refused(seg_alloc_until(pool, sizes[i], &now));
	}
	assert_int_equal(figures(pool, SEG_ALL).refusals_total, 0);
	assert_int_equal(figures(pool, SEG_ALL).regions_mapped_total, 0);
	end_both(pool, budget);
}

static void test_nodes(void **state)
{
	struct seg_region_info info = { .size = sizeof(info) };
	struct seg_budget *budget = new_budget(MIB);
	struct seg_pool *pool = make_pool(budget);
	void *segment = seg_alloc(pool, 1);
	struct seg_pool_stats s = { .size = sizeof(s) };
	const int none = 4321;	/* no machine has it */
	void *other;

	(void)state;
	assert_int_equal(seg_region_of(pool, segment, &info), 0);
	other = seg_alloc_on(pool, 1, info.node);
	assert_non_null(other);
	assert_int_equal(seg_pool_stats(pool, info.node, 0, &s), 0);
	assert_int_equal(s.active, 2);
	errno = 0;
	assert_refused(seg_alloc_on(pool, 1, none));
	assert_refused(seg_alloc_on(pool, 1, -2));
	assert_int_equal(seg_pool_stats(pool, none, 0, &s), -EINVAL);
	assert_int_equal(seg_release(pool, segment), 0);
	assert_int_equal(seg_release(pool, other), 0);
	end_both(pool, budget);
}

static void expect_options(struct seg_pool_options o, int ret)
{
	struct seg_pool *pool = NULL;

	if (!o.size)
		o.size = sizeof(o);
	assert_int_equal(seg_pool_create(&o, &pool), ret);
	if (ret)
		assert_null(pool);
	else
		end_pool(pool);
}

static void test_options_in_and_out_of_range(void **state)
{
	struct seg_budget *b = new_budget(MIB);
	struct seg_pool_options o = { .budget = b, .size = sizeof(o) };
	struct seg_pool *pool = NULL;

	(void)state;
	assert_int_equal(seg_pool_create(NULL, &pool), -EINVAL);
	assert_int_equal(seg_pool_create(&o, NULL), -EINVAL);
	o.budget = NULL;
	expect_options(o, -EINVAL);
	for (uint64_t bytes = 4 * KIB; bytes <= 64 * MIB; bytes *= 2)
		expect_options((struct seg_pool_options){
			.budget = b, .region_bytes = bytes }, 0);
	const uint64_t bad[] = { 1, 2 * KIB, 12 * KIB, 4097, 128 * MIB,
				 UINT64_MAX };
	for (int i = 0; i < 6; i++)
		expect_options((struct seg_pool_options){
			.budget = b, .region_bytes = bad[i] }, -EINVAL);
	for (int wait = -3; wait < 3; wait++)
		expect_options((struct seg_pool_options){
			.budget = b, .wait_ms = wait },
			wait < SEG_NO_WAIT ? -EINVAL : 0);
	for (int level = -1; level < 7; level++)
		expect_options((struct seg_pool_options){
			.budget = b, .log_level = (enum seg_log_level)level },
			level < 0 || level > SEG_LOG_SEGMENT ? -EINVAL : 0);
	expect_options((struct seg_pool_options){
		.budget = b, .decay_ms = UINT32_MAX }, 0);
	expect_options((struct seg_pool_options){
		.budget = b, .publish = 2 }, -EINVAL);
	expect_options((struct seg_pool_options){
		.budget = b, .name = "31 bytes are enough for a name." }, 0);
	expect_options((struct seg_pool_options){
		.budget = b, .name = "32 bytes are too many, as is any" },
		-EINVAL);
	end_budget(b);
}

/* An older caller's struct is shorter, a newer one's longer. */
static void test_options_of_other_versions(void **state)
{
	struct seg_budget *b = new_budget(MIB);
	struct {
		struct seg_pool_options known;
		char later[4096];
	} o = { .known = { .budget = b } };
	const struct {
		size_t size;
		int ret;
	} sizes[] = {
		{ 0, -EINVAL }, { sizeof(size_t), -EINVAL },
		{ offsetof(struct seg_pool_options, policy) - 1, -EINVAL },
		{ offsetof(struct seg_pool_options, policy), 0 },
		{ sizeof(o.known), 0 },
		{ sizeof(o.known) + 1, 0 },
		{ 4096, 0 }, { 4097, -EINVAL }, { SIZE_MAX, -EINVAL },
	};
	struct seg_pool *pool = NULL;

	(void)state;
	for (size_t i = 0; i < sizeof(sizes) / sizeof(*sizes); i++) {
		o.known.size = sizes[i].size;
		assert_int_equal(seg_pool_create(&o.known, &pool),
				 sizes[i].ret);
		if (!sizes[i].ret)
			end_pool(pool);
	}
	o.known.size = sizeof(o.known) + 8;
	o.later[7] = 1;
	assert_int_equal(seg_pool_create(&o.known, &pool), -EINVAL);
	o.known.size--;
	assert_int_equal(seg_pool_create(&o.known, &pool), 0);
	end_both(pool, b);
}

static void test_budget_options(void **state)
{
	struct seg_budget_options o = { .size = sizeof(o) };
	const uint64_t out[] = { 0, 1, 4095, 16 * MIB * MIB, UINT64_MAX };
	struct seg_budget *b = NULL;

	(void)state;
	for (int i = 0; i < 5; i++) {
		o.limit_bytes = out[i];
		assert_int_equal(seg_budget_create(&o, &b), -ERANGE);
	}
	o.limit_bytes = 8191;
	o.name = "32 bytes are too many, as is any";
	assert_int_equal(seg_budget_create(&o, &b), -EINVAL);
	o.name = NULL;
	assert_int_equal(seg_budget_create(NULL, &b), -EINVAL);
	assert_int_equal(seg_budget_create(&o, NULL), -EINVAL);
	o.size = offsetof(struct seg_budget_options, parent) - 1;
	assert_int_equal(seg_budget_create(&o, &b), -EINVAL);
	assert_null(b);
	o.size = sizeof(o);
	assert_int_equal(seg_budget_create(&o, &b), 0);
	assert_int_equal(budget_stats(b).limit_bytes, 4096);
	assert_int_equal(seg_budget_stats(b, NULL), -EINVAL);
	end_budget(b);
}

static void test_what_each_function_refuses(void **state)
{
	struct seg_budget *b = new_budget(MIB);
	struct seg_pool *pool = make_pool(b);
	struct seg_pool_stats s = { .size = sizeof(s) };

	(void)state;
	assert_int_equal(seg_pool_trim(NULL, NULL), -EINVAL);
	assert_int_equal(seg_pool_stats(pool, -2, 0, &s), -EINVAL);
	assert_int_equal(seg_pool_stats(pool, SEG_ALL, -2, &s), -EINVAL);
	assert_int_equal(seg_pool_stats(pool, SEG_ALL, 7, &s), -EINVAL);
	assert_int_equal(seg_pool_stats(pool, SEG_ALL, 0, NULL), -EINVAL);
	s.size = 8;
	assert_int_equal(seg_pool_stats(pool, SEG_ALL, 0, &s), -EINVAL);
	s.size = 4097;
	assert_int_equal(seg_pool_stats(pool, SEG_ALL, 0, &s), -EINVAL);
	errno = 0;
	assert_refused(seg_alloc_until(pool, 1, NULL));
	assert_refused(seg_alloc_until(pool, 1,
				       &(struct timespec){ .tv_nsec = -1 }));
	assert_refused(seg_alloc_until(
		pool, 1, &(struct timespec){ .tv_nsec = 1000000000 }));
	assert_false(seg_pool_is_valid(NULL));
	assert_int_equal(seg_release(pool, NULL), 0);
	assert_int_equal(seg_size(pool, NULL), 0);
	assert_int_equal(seg_size(NULL, pool), 0);
	end_both(pool, b);
}

static void test_destroy_is_refused_while_in_use(void **state)
{
	struct seg_budget *b = new_budget(MIB);
	struct seg_pool *pool = make_pool(b);
	void *segment = seg_alloc(pool, 1);

	(void)state;
	assert_int_equal(seg_budget_destroy(b), -EBUSY);
	assert_int_equal(seg_pool_destroy(pool), -EBUSY);
	assert_true(seg_pool_is_valid(pool));
	memset(segment, 1, SEG_MIN_BYTES);
	assert_int_equal(seg_release(pool, segment), 0);
	segment = seg_alloc(pool, SEG_MAX_BYTES);
	assert_non_null(segment);
	assert_int_equal(seg_pool_destroy(pool), -EBUSY);
	assert_int_equal(seg_release(pool, segment), 0);
	assert_int_equal(budget_stats(b).pools, 1);
	end_pool(pool);
	assert_int_equal(budget_stats(b).pools, 0);
	end_budget(b);
	assert_int_equal(seg_pool_destroy(NULL), 0);
	assert_int_equal(seg_budget_destroy(NULL), 0);
}

static bool is_all(const char *bytes, size_t n, char value)
{
	return bytes[0] == value && !memcmp(bytes, bytes + 1, n - 1);
}

/* A budget of one slice: the next segment is the last one again. */
static void test_contents_are_kept_unless_zeroed(void **state)
{
	(void)state;
	for (int c = 0; c < SEG_CLASSES; c++) {
		struct seg_budget *b = new_budget(slice_of(c));
		struct seg_pool *pool = make_pool(b);
		char *first = seg_alloc_zeroed(pool, slice_of(c));
		char *again;

		assert_non_null(first);
		assert_true(is_all(first, slice_of(c), 0));
		memset(first, 0x5a, slice_of(c));
		assert_int_equal(seg_release(pool, first), 0);
		again = seg_alloc(pool, slice_of(c));
		assert_ptr_equal(again, first);
		/* Undefined is what Valgrind rightly calls them. */
		poison_forget(again, slice_of(c));
		assert_true(is_all(again, slice_of(c), 0x5a));
		assert_int_equal(seg_release(pool, again), 0);
		again = seg_alloc_zeroed(pool, slice_of(c) / 2 + 1);
		assert_ptr_equal(again, first);
		assert_true(is_all(again, slice_of(c), 0));
		assert_int_equal(seg_release(pool, again), 0);
		end_both(pool, b);
	}
}

static void test_fresh_slices_are_zeroed_too(void **state)
{
	struct seg_budget *b = new_budget(MIB);
	struct seg_pool *pool = make_pool(b);
	char *segment[64];

	(void)state;
	for (int round = 0; round < 2; round++) {
		for (int i = 0; i < 64; i++) {
			segment[i] = seg_alloc_zeroed(pool, 1);
			assert_non_null(segment[i]);
			assert_true(is_all(segment[i], SEG_MIN_BYTES, 0));
			memset(segment[i], i + 1, SEG_MIN_BYTES);
		}
		for (int i = 0; i < 64; i++) {
			assert_true(is_all(segment[i], SEG_MIN_BYTES,
					   (char)(i + 1)));
			assert_int_equal(seg_release(pool, segment[i]), 0);
		}
	}
	end_both(pool, b);
}

static void alloc_and_release_each_class(struct seg_pool *pool)
{
	void *segment[SEG_CLASSES];

	for (int c = 0; c < SEG_CLASSES; c++) {
		segment[c] = seg_alloc(pool, slice_of(c));
		assert_non_null(segment[c]);
	}
	for (int c = 0; c < SEG_CLASSES; c++)
		assert_int_equal(seg_release(pool, segment[c]), 0);
}

/* P3 */
static void test_nothing_is_mapped_at_creation(void **state)
{
	struct seg_budget *b = new_budget(64 * MIB);
	struct seg_pool *pool = make_pool(b);
	struct seg_pool_stats s = figures(pool, SEG_ALL);

	(void)state;
	assert_int_equal(s.mapped_bytes, 0);
	assert_int_equal(s.peak_mapped_bytes, 0);
	assert_int_equal(s.regions_mapped_total, 0);
	assert_int_equal(charged(b), 0);
	assert_int_equal(budget_stats(b).peak_charged_bytes, 0);
	end_both(pool, b);
}

/* P3: nobody calls anything; looking does not help it along. */
static void test_idle_regions_are_unmapped_by_themselves(void **state)
{
	struct seg_budget *b = new_budget(64 * MIB);
	struct seg_pool *pool = make_pool_with((struct seg_pool_options){
		.budget = b, .decay_ms = 40 });
	struct seg_pool_stats s;

	(void)state;
	for (uint64_t round = 1; round <= 2; round++) {
		alloc_and_release_each_class(pool);
		wait_until(charged(b) == 0 &&
			   figures(pool, SEG_ALL).regions_unmapped_total ==
				   SEG_CLASSES * round);
		s = figures(pool, SEG_ALL);
		assert_int_equal(s.mapped_bytes, 0);
		assert_int_equal(s.regions, 0);
		assert_int_equal(s.deferred_regions, 0);
		assert_int_equal(s.deferred_bytes, 0);
		assert_int_equal(s.regions_retired_total, SEG_CLASSES * round);
		assert_int_equal(s.regions_mapped_total, SEG_CLASSES * round);
	}
	end_both(pool, b);
}

/* P3, P4: a segment that is out keeps its region, and only that. */
static void test_a_held_segment_keeps_its_region(void **state)
{
	struct seg_budget *b = new_budget(64 * MIB);
	struct seg_pool *pool = make_pool_with((struct seg_pool_options){
		.budget = b, .decay_ms = 20 });
	char *held = seg_alloc(pool, SEG_MAX_BYTES);

	(void)state;
	memset(held, 7, SEG_MAX_BYTES);
	alloc_and_release_each_class(pool);
	wait_until(figures(pool, SEG_ALL).regions_unmapped_total ==
		   SEG_CLASSES - 1);
	assert_int_equal(figures(pool, 6).regions, 1);
	assert_true(is_all(held, SEG_MAX_BYTES, 7));
	assert_int_equal(seg_release(pool, held), 0);
	wait_until(charged(b) == 0);
	end_both(pool, b);
}

/* P3 */
static void test_trim_gives_all_back_at_once(void **state)
{
	struct seg_budget *b = new_budget(64 * MIB);
	struct seg_pool *pool = make_pool(b);
	uint64_t bytes = 1, before;
	void *held;

	(void)state;
	assert_int_equal(seg_pool_trim(pool, &bytes), 0);
	assert_int_equal(bytes, 0);
	alloc_and_release_each_class(pool);
	before = charged(b);
	assert_int_not_equal(before, 0);
	assert_int_equal(seg_pool_trim(pool, &bytes), 0);
	assert_int_equal(bytes, before);
	assert_int_equal(charged(b), 0);
	assert_int_equal(figures(pool, SEG_ALL).mapped_bytes, 0);
	held = seg_alloc(pool, 1);
	assert_int_equal(seg_pool_trim(pool, NULL), 0);
	assert_int_equal(figures(pool, 0).regions, 1);
	assert_int_equal(seg_release(pool, held), 0);
	end_both(pool, b);
}

/* P3: no oscillation, though the region is all unused each time. */
static void test_one_segment_in_and_out_maps_once(void **state)
{
	struct seg_budget *b = new_budget(64 * MIB);
	struct seg_pool *pool = make_pool(b);

	(void)state;
	for (int i = 0; i < 100000; i++) {
		void *segment = seg_alloc(pool, 1);

		require(segment && seg_release(pool, segment) == 0);
	}
	assert_int_equal(figures(pool, 0).regions_mapped_total, 1);
	assert_int_equal(figures(pool, 0).allocations_total, 100000);
	assert_int_equal(figures(pool, 0).releases_total, 100000);
	end_both(pool, b);
}

/* Of the regions there are; cached is what the thread has at hand. */
static uint64_t free_slices(struct seg_pool *pool, int class_index)
{
	struct seg_pool_stats s = figures(pool, class_index);

	assert_int_equal(s.active + s.cached + s.unused + s.decommitted,
			 s.slices);
	return s.cached + s.unused;
}

/* P3 */
static void test_a_burst_up_and_down_maps_once(void **state)
{
	struct seg_budget *b = new_budget(64 * MIB);
	struct seg_pool *pool = make_pool_with((struct seg_pool_options){
		.budget = b, .decay_ms = 600000, .region_bytes = 256 * KIB });
	enum { BURST = 3 * 256 / 16 };
	void *segment[BURST];

	(void)state;
	for (int round = 0; round < 50; round++) {
		for (int i = 0; i < BURST; i++) {
			segment[i] = seg_alloc(pool, slice_of(2));
			require(segment[i]);
		}
		assert_int_equal(figures(pool, 2).regions, 3);
		assert_int_equal(figures(pool, 2).active, BURST);
		for (int i = 0; i < BURST; i++)
			require(seg_release(pool, segment[i]) == 0);
		assert_int_equal(free_slices(pool, 2), BURST);
	}
	assert_int_equal(figures(pool, 2).regions_mapped_total, 3);
	assert_int_equal(figures(pool, 2).peak_mapped_bytes, 768 * KIB);
	end_both(pool, b);
}

/* The sum over the classes, and what is in their regions. */
static uint64_t charged_of(struct seg_pool *pool)
{
	struct seg_pool_stats s = figures(pool, SEG_ALL);
	uint64_t charged = 0;

	for (int c = 0; c < SEG_CLASSES; c++) {
		struct seg_pool_stats of = figures(pool, c);

		charged += (of.active + of.cached + of.unused) * slice_of(c);
	}
	assert_int_equal(s.charged_bytes, charged + s.deferred_bytes);
	assert_true(s.charged_bytes <= s.mapped_bytes);
	return s.charged_bytes;
}

/* P1, P2: charged = mapped - decommitted */
static void test_what_is_charged_is_what_is_mapped(void **state)
{
	struct seg_budget *b = new_budget(16 * MIB);
	struct seg_pool *pools[2] = { make_pool(b), make_pool(b) };
	void *segment[400];
	uint64_t seed = random_seed(0x5e6);

	(void)state;
	for (int i = 0; i < 400; i++) {
		int c = (int)(random_next(&seed) % 6);

		segment[i] = seg_alloc(pools[i % 2], slice_of(c));
		assert_int_equal(charged(b),
				 charged_of(pools[0]) + charged_of(pools[1]));
		assert_true(charged(b) <= 16 * MIB);
	}
	for (int i = 0; i < 400; i++)
		assert_int_equal(seg_release(pools[i % 2], segment[i]), 0);
	assert_int_equal(seg_pool_trim(pools[0], NULL), 0);
	assert_int_equal(charged(b), figures(pools[1], SEG_ALL).charged_bytes);
	end_pool(pools[0]);
	end_both(pools[1], b);
}

/* P6: what one pool does not use, in regions that it does, another gets. */
static void test_pools_give_unused_slices_to_each_other(void **state)
{
	struct seg_budget *b = new_budget(16 * MIB);
	struct seg_pool *pools[2] = { make_pool(b), make_pool(b) };
	char *first[256], *second[256];
	uint64_t odd = 0;

	(void)state;
	for (int i = 0; i < 256; i++) {
		first[i] = seg_alloc(pools[0], 64 * KIB);
		assert_non_null(first[i]);
		memset(first[i], i, 64 * KIB);
	}
	assert_null(seg_alloc(pools[1], 64 * KIB));
	for (int i = 0; i < 256; i += 2)
		assert_int_equal(seg_release(pools[0], first[i]), 0);
	for (int i = 0; i < 256; i += 2) {
		second[i] = seg_alloc(pools[1], 64 * KIB);
		assert_non_null(second[i]);
		memset(second[i], ~i, 64 * KIB);
	}
	assert_null(seg_alloc(pools[1], SEG_MIN_BYTES));
	assert_int_equal(charged(b), 16 * MIB);
	assert_int_equal(charged_of(pools[0]), 8 * MIB);
	assert_int_equal(charged_of(pools[1]), 8 * MIB);
	for (int i = 1; i < 256; i += 2)
		odd += first[i][0] == (char)i && first[i][65535] == (char)i;
	assert_int_equal(odd, 128);
	for (int i = 0; i < 256; i++)
		assert_int_equal(seg_release(pools[i % 2 == 0], i % 2 ?
					     first[i] : second[i]), 0);
	end_pool(pools[0]);
	end_both(pools[1], b);
}

/* P3: the keeper looks all the time, and may be at the same region. */
static void test_trim_and_destroy_meet_the_keeper(void **state)
{
	struct seg_budget *b = new_budget(64 * MIB);

	(void)state;
	for (int i = 0; i < 50; i++) {
		struct seg_pool *pool = make_pool_with(
			(struct seg_pool_options){ .budget = b, .decay_ms = 1,
						   .region_bytes = 256 * KIB });

		for (int j = 0; j < 5; j++) {
			alloc_and_release_each_class(pool);
			assert_int_equal(seg_pool_trim(pool, NULL), 0);
			assert_int_equal(charged(b), 0);
		}
		alloc_and_release_each_class(pool);
		end_pool(pool);
		assert_int_equal(charged(b), 0);
	}
	end_budget(b);
}

enum { USERS = 4, TURNS = 5000 };

static void *in_and_out(void *pool)
{
	for (int i = 0; i < TURNS; i++) {
		void *segment = seg_alloc(pool, SEG_MAX_BYTES);

		require(segment && seg_release(pool, segment) == 0);
	}
	return NULL;
}

/*
 * P3: regions become all unused and used again while the keeper looks at them.
 * None of them may be lost to its sight.
 */
static void test_the_keeper_loses_no_region(void **state)
{
	struct seg_budget *b = new_budget(64 * MIB);
	struct seg_pool *pool = make_pool_with((struct seg_pool_options){
		.budget = b, .decay_ms = 1 });
	struct threads threads;

	(void)state;
	for (int round = 0; round < 5; round++) {
		threads_start(&threads, USERS, in_and_out, pool, 0);
		assert_int_equal(threads_join(&threads), 0);
		assert_true(seg_pool_is_valid(pool));
		wait_until(charged(b) == 0);
	}
	end_both(pool, b);
}

static void test_pools_come_and_go(void **state)
{
	struct seg_budget *b = new_budget(16 * MIB);

	(void)state;
	for (int i = 0; i < 30; i++) {
		struct seg_pool *one = make_pool(b);
		struct seg_pool *two = make_pool(b);

		assert_int_equal(budget_stats(b).pools, 2);
		alloc_and_release_each_class(i % 2 ? one : two);
		end_pool(i % 3 ? one : two);
		end_pool(i % 3 ? two : one);
	}
	end_budget(b);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_a_request_is_rounded_up_to_its_class),
		cmocka_unit_test(test_sizes_that_are_none),
		cmocka_unit_test(test_nodes),
		cmocka_unit_test(test_options_in_and_out_of_range),
		cmocka_unit_test(test_options_of_other_versions),
		cmocka_unit_test(test_budget_options),
		cmocka_unit_test(test_what_each_function_refuses),
		cmocka_unit_test(test_destroy_is_refused_while_in_use),
		cmocka_unit_test(test_contents_are_kept_unless_zeroed),
		cmocka_unit_test(test_fresh_slices_are_zeroed_too),
		cmocka_unit_test(test_nothing_is_mapped_at_creation),
		cmocka_unit_test(test_idle_regions_are_unmapped_by_themselves),
		cmocka_unit_test(test_a_held_segment_keeps_its_region),
		cmocka_unit_test(test_trim_gives_all_back_at_once),
		cmocka_unit_test(test_one_segment_in_and_out_maps_once),
		cmocka_unit_test(test_a_burst_up_and_down_maps_once),
		cmocka_unit_test(test_what_is_charged_is_what_is_mapped),
		cmocka_unit_test(test_pools_give_unused_slices_to_each_other),
		cmocka_unit_test(test_trim_and_destroy_meet_the_keeper),
		cmocka_unit_test(test_the_keeper_loses_no_region),
		cmocka_unit_test(test_pools_come_and_go),
	};

	return run_group(tests);
}
