/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * R5: the structs of regions are used again and again for regions of as many
 * slices, no generation comes twice, their memory goes back.  Linked with
 * fault_os.c in place of lib/os.c.
 */
#include <sys/mman.h>

#include "actors.h"
#include "fault_os.h"
#include "one_node.h"
#include "region_store.h"

enum { PAGE_BYTES = 4096, LIVES = 5, FOR_EVER = INT32_MAX };

static void test_the_same_struct_again(void **state)
{
	struct region_store s = { .bytes = { 0 } };
	struct region *eight = region_store_get(&s, 8, 1);
	struct region *nine = region_store_get(&s, 9, 0);
	struct region *two[2];

	(void)state;
	assert_int_equal(eight->slices, 8);
	assert_int_equal(nine->slices, 9);
	assert_int_equal(region_disown(eight, 0), true);
	region_give(eight, 0);
	region_store_put(&s, eight);
	region_store_put(&s, nine);
	/* They stand on one stack: the wrong one stays there. */
	two[0] = region_store_get(&s, 8, 0);
	assert_ptr_equal(two[0], eight);
	two[1] = region_store_get(&s, 8, 0);
	assert_ptr_not_equal(two[1], nine);
	assert_int_equal(two[1]->slices, 8);
	assert_ptr_equal(region_store_get(&s, 9, 0), nine);
	assert_true(region_is_valid(two[0]) && region_is_valid(nine));
	assert_int_equal(word_unused(region_look(two[0])), 8);
	region_store_put(&s, two[0]);
	region_store_put(&s, two[1]);
	region_store_put(&s, nine);
	assert_true(region_store_clear(&s));
	assert_int_equal(u64_load_relaxed(&s.bytes), 0);
	assert_int_equal(fault_mapped_bytes(), 0);
}

/* One hand-out of slice 0 after another; the last generation. */
static uint64_t live(struct region *r, uint64_t after, unsigned hand_outs)
{
	struct word_change change;
	uint32_t slice;

	for (unsigned i = 0; i < hand_outs; i++) {
		assert_int_equal(region_take(r, 1, &slice, NULL, &change), 1);
		assert_true(region_generation(r, slice) > after);
		assert_true(generation_is_out(region_generation(r, slice)));
		after = region_generation(r, slice);
		assert_true(region_disown(r, slice));
		region_give(r, slice);
	}
	return after;
}

static void test_no_generation_comes_twice(void **state)
{
	struct region_store s = { .bytes = { 0 } };
	uint64_t last = 0;

	(void)state;
	for (unsigned n = 0; n < LIVES; n++) {
		struct region *r = region_store_get(&s, 4, n % 2);

		if (n % 2) {
			assert_true(region_generation(r, 0) > last);
			last = region_generation(r, 0);
			assert_true(region_disown(r, 0));
			region_give(r, 0);
		}
		last = live(r, last, n);
		region_store_put(&s, r);
		for (uint32_t i = 0; i < 4; i++)
			assert_int_equal(region_generation(r, i), 0);
		/* What begins a life is a release's, not a hand-out's. */
		assert_true(r->floor >= last && r->floor % 2 == 0);
	}
	assert_true(region_store_clear(&s));
}

/* It was set up, but could not be mapped: its first slice was taken. */
static void test_one_that_was_never_published(void **state)
{
	struct region_store s = { .bytes = { 0 } };
	struct region *r = region_store_get(&s, 4, 1);
	uint64_t first = region_generation(r, 0);

	(void)state;
	region_store_put(&s, r);
	assert_int_equal(r->floor % 2, 0);
	r = region_store_get(&s, 4, 1);
	assert_true(generation_is_out(region_generation(r, 0)));
	assert_true(region_generation(r, 0) > first);
	region_store_put(&s, r);
	assert_true(region_store_clear(&s));
}

static unsigned resident_pages(struct region *r)
{
	unsigned char page[64];
	unsigned count = 0;
	size_t pages = (r->arrays_bytes + PAGE_BYTES - 1) / PAGE_BYTES;

	assert_true(pages <= sizeof(page));
	assert_int_equal(mincore(r->generations, r->arrays_bytes, page), 0);
	for (size_t i = 0; i < pages; i++)
		count += page[i] & 1;
	return count;
}

/* The largest there is: all but the struct goes. */
static void test_the_memory_goes_back(void **state)
{
	struct region_store s = { .bytes = { 0 } };
	struct region *r = region_store_get(&s, REGION_MAX_SLICES, 0);
	uint64_t bytes = u64_load_relaxed(&s.bytes);

	(void)state;
	assert_int_equal(bytes, sizeof(*r) + r->arrays_bytes);
	for (int i = 0; i < REGION_MAX_SLICES; i++)
		live(r, 0, 1);
	for (uint32_t i = 0; i < r->slices; i++) {
		u64_store_relaxed(&r->generations[i], 2 + 2 * i);
		u16_store_relaxed(&r->owners[i], 7);
	}
	if (!emulated("which pages are in memory"))
		assert_true(resident_pages(r) > 30);
	region_store_put(&s, r);
	assert_int_equal(u64_load_relaxed(&s.bytes), 0);
	if (!emulated("which pages are in memory"))
		assert_int_equal(resident_pages(r), 0);
	assert_ptr_equal(region_store_get(&s, REGION_MAX_SLICES, 1), r);
	assert_int_equal(u64_load_relaxed(&s.bytes), bytes);
	assert_int_equal(region_generation(r, 0), 2 * REGION_MAX_SLICES + 1);
	for (uint32_t i = 0; i < r->slices; i++)
		assert_int_equal(u16_load_relaxed(&r->owners[i]), 0);
	region_store_put(&s, r);
	assert_true(region_store_clear(&s));
	assert_int_equal(fault_mapped_bytes(), 0);
}

enum { MANY = 1000, FEW_SLICES = 32, MAPS = 40 };

static void write_all(struct region *r, uint64_t value)
{
	for (uint32_t i = 0; i < r->slices; i++) {
		u64_store_relaxed(&r->generations[i], 2 * value);
		u16_store_relaxed(&r->owners[i], (uint16_t)value);
	}
}

static void assert_written(struct region *r, uint64_t value)
{
	assert_true((uintptr_t)r % CACHE_LINE == 0);
	for (uint32_t i = 0; i < r->slices; i++) {
		assert_int_equal(region_generation(r, i), 2 * value);
		assert_int_equal(u16_load_relaxed(&r->owners[i]), value);
	}
}

/* The others are left as they are, not gone through one by one: else their
 * order would be the opposite afterwards. */
static void test_the_rest_is_put_back_whole(void **state)
{
	struct region_store s = { .bytes = { 0 } };
	struct region *r[5];

	(void)state;
	for (int i = 0; i < 5; i++)
		r[i] = region_store_get(&s, FEW_SLICES, 0);
	for (int i = 0; i < 5; i++)
		region_store_put(&s, r[i]);
	for (int i = 4; i >= 0; i--)
		assert_ptr_equal(region_store_get(&s, FEW_SLICES, 0), r[i]);
	for (int i = 0; i < 5; i++)
		region_store_put(&s, r[i]);
	assert_true(region_store_clear(&s));
}

/* Many small ones, close together: none takes pages of its own, and none has
 * anything of another. */
static void test_small_ones_stand_together(void **state)
{
	static struct region *r[MANY];
	struct region_store s = { .bytes = { 0 } };
	uint64_t each = sizeof(**r) + region_arrays_bytes(FEW_SLICES);

	(void)state;
	fault_arm(FAULT_MAP, MAPS, FOR_EVER);
	for (unsigned i = 0; i < MANY; i++) {
		r[i] = region_store_get(&s, FEW_SLICES, 0);
		write_all(r[i], i + 1);
	}
	for (unsigned i = 0; i < MANY; i++)
		assert_written(r[i], i + 1);
	assert_int_equal(u64_load_relaxed(&s.bytes), MANY * each);
	assert_true(fault_mapped_bytes() < MANY * each * 5 / 4);
	for (unsigned i = 0; i < MANY; i++)
		region_store_put(&s, r[i]);
	for (unsigned i = 0; i < MANY; i++) {
		r[i] = region_store_get(&s, FEW_SLICES, 0);
		assert_true(r[i]->floor >= 2);
		assert_int_equal(region_generation(r[i], 0), 0);
	}
	assert_int_equal(fault_disarm(), 0);
	for (unsigned i = 0; i < MANY; i++)
		region_store_put(&s, r[i]);
	assert_true(region_store_clear(&s));
	assert_int_equal(fault_mapped_bytes(), 0);
}

static void test_the_kernel_refuses(void **state)
{
	struct region_store s = { .bytes = { 0 } };
	struct region *r[3];

	(void)state;
	fault_arm(FAULT_MAP, 1, 1);
	assert_null(region_store_get(&s, 600, 1));
	assert_int_equal(fault_disarm(), 1);
	for (int i = 0; i < 3; i++)
		assert_non_null(r[i] = region_store_get(&s, 600, 0));
	/* What could not be discarded is zero all the same. */
	fault_arm(FAULT_ADVISE, 1, FOR_EVER);
	for (int i = 0; i < 3; i++) {
		live(r[i], 0, 3);
		u16_store_relaxed(&r[i]->owners[599], 7);
		region_store_put(&s, r[i]);
		assert_int_equal(region_generation(r[i], 0), 0);
		assert_int_equal(u16_load_relaxed(&r[i]->owners[599]), 0);
	}
	assert_int_equal(fault_disarm(), 3);
	fault_arm(FAULT_UNMAP, 2, FOR_EVER);
	assert_false(region_store_clear(&s));
	assert_true(fault_disarm() > 0);
	r[0] = region_store_get(&s, 600, 1);
	assert_true(region_generation(r[0], 0) > 5);
	region_store_put(&s, r[0]);
	assert_true(region_store_clear(&s));
	assert_int_equal(u64_load_relaxed(&s.bytes), 0);
	assert_int_equal(fault_mapped_bytes(), 0);
}

/* ------------------------------------------- wrong releases come meanwhile */

enum { WRONG = 2, ROUNDS = 300 };

struct wrong {
	struct seg_pool *pool;
	struct seg_handle handle;	/* released long ago */
	struct atomic_u32 *end;
	uint64_t tries;
};

/* Whatever lies at its address by now. */
static void *release_wrongly(void *arg)
{
	struct wrong *w = arg;
	char *inside = (char *)w->handle.segment + 64;
	void *found;

	while (!u32_load_acquire(w->end)) {
		require(seg_release_handle(w->pool, &w->handle) == -ESTALE);
		require(seg_resolve(w->pool, &w->handle, &found) == -ESTALE);
		require(seg_release(w->pool, inside) < 0);
		w->tries++;
	}
	return NULL;
}

/* Regions of all classes, at the same addresses as a rule. */
static void come_and_go(struct seg_pool *pool, int round)
{
	size_t bytes = slice_of(round % SEG_CLASSES);
	void *held[3];

	for (int i = 0; i < 3; i++)
		require(held[i] = seg_alloc(pool, bytes));
	for (int i = 0; i < 3; i++)
		require(seg_release(pool, held[i]) == 0);
	require(seg_pool_trim(pool, NULL) == 0);
	require(figures(pool, SEG_ALL).regions == 0);
}

static void test_wrong_releases_meanwhile(void **state)
{
	struct seg_budget *b = new_budget(16 * MIB);
	struct seg_pool *pool = make_pool_with((struct seg_pool_options){
		.budget = b, .wait_ms = SEG_NO_WAIT, .decay_ms = 600000,
		.log_level = SEG_LOG_OFF });
	struct atomic_u32 end = { 0 };
	struct wrong wrong[WRONG];
	struct threads threads;
	uint64_t tries = 0;
	void *segment = seg_alloc(pool, 1);
	struct seg_handle handle;
	struct seg_pool_stats s;

	(void)state;
	assert_int_equal(seg_handle_of(pool, segment, &handle), 0);
	assert_int_equal(seg_release(pool, segment), 0);
	for (int i = 0; i < WRONG; i++)
		wrong[i] = (struct wrong){ .pool = pool, .handle = handle,
					   .end = &end };
	threads_start(&threads, WRONG, release_wrongly, wrong, sizeof(*wrong));
	for (int i = 0; i < ROUNDS; i++)
		come_and_go(pool, i);
	u32_store_release(&end, 1);
	assert_int_equal(threads_join(&threads), 0);
	for (int i = 0; i < WRONG; i++)
		tries += wrong[i].tries;
	s = figures(pool, SEG_ALL);
	assert_int_equal(s.misuses_total, 2 * tries);
	assert_int_equal(s.allocations_total, 3 * ROUNDS + 1);
	assert_int_equal(s.releases_total, 3 * ROUNDS + 1);
	end_both(pool, b);
	assert_int_equal(fault_mapped_bytes(), 0);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_the_same_struct_again),
		cmocka_unit_test(test_no_generation_comes_twice),
		cmocka_unit_test(test_one_that_was_never_published),
		cmocka_unit_test(test_the_memory_goes_back),
		cmocka_unit_test(test_the_rest_is_put_back_whole),
		cmocka_unit_test(test_small_ones_stand_together),
		cmocka_unit_test(test_the_kernel_refuses),
		cmocka_unit_test(test_wrong_releases_meanwhile),
	};

	return run_group(tests);
}
