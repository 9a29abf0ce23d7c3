/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * lib/cache_slots.h: the memory of entries and records: what is backed is
 * told, it is one's own, it may be refused, and the kernel may refuse to take
 * it back.  Linked with fault_os.c.
 */
#include "testing.h"

#include <fcntl.h>

#include "cache_slots.h"
#include "fault_os.h"

enum { GROUP = CACHE_GROUP_ENTRIES };

static struct cache_slots slots;

static uint64_t page_bytes(void)
{
	return (uint64_t)sysconf(_SC_PAGESIZE);
}

static int new_slots(void **state)
{
	(void)state;
	memset(&slots, 0, sizeof(slots));
	return !slots_init(&slots);
}

static int end_slots(void **state)
{
	(void)state;
	return !slots_clear(&slots) || fault_mapped_bytes() != 0 ||
	       fault_blocks() != 0;
}

static uint64_t made(void)
{
	return u64_load_relaxed(&slots.made); /* relaxed: one thread */
}

/* As a cache uses them: both are written. */
static struct cache_entry *get(void)
{
	struct cache_entry *e = slots_get(&slots);

	assert_non_null(e);
	entry_fill(e, 1, NULL, 1);
	return e;
}

static void get_up_to(uint64_t count)
{
	while (made() < count)
		get();
}

/* ---- what is backed ---- */

/* Bit 63 of a page's word: it is there; 62: it is swapped out. */
static uint64_t backed_at(const void *from, uint64_t bytes)
{
	uint64_t page = page_bytes();
	int map = open("/proc/self/pagemap", O_RDONLY | O_CLOEXEC);
	uint64_t backed = 0;

	assert_true(map >= 0);
	for (uint64_t at = 0; at < bytes; at += page) {
		uint64_t word = 0;
		off_t offset = (off_t)(((uintptr_t)from + at) / page *
				       sizeof(word));

		assert_int_equal(pread(map, &word, sizeof(word), offset),
				 sizeof(word));
		if (word >> 62)
			backed += page;
	}
	close(map);
	return backed;
}

static uint64_t backed(void)
{
	uint64_t sum = backed_at(slots.groups,
				 CACHE_GROUPS * sizeof(*slots.groups));

	for (uint64_t i = 0; i < CACHE_GROUPS && slots.groups[i]; i++)
		sum += backed_at(slots.groups[i], CACHE_GROUP_BYTES);
	return sum;
}

/* A huge page more at the most; in the first group, two small ones, which are
 * counted twice. */
static void test_what_is_backed_is_told(void **state)
{
	const uint64_t counts[] = { 1, 2, 63, 64, 65, 127, 128, 1000, GROUP - 2,
				    GROUP - 1, GROUP, 30000, 50000 };

	(void)state;
	if (emulated("its addresses are not the kernel's"))
		return;
	assert_int_equal(slots_bytes(&slots), 0);
	for (size_t i = 0; i < sizeof(counts) / sizeof(*counts); i++) {
		uint64_t is, told;

		get_up_to(counts[i]);
		is = backed();
		told = slots_bytes(&slots);
		if (told < is || told > is + CACHE_GROUP_BYTES)
			print_message("%llu entries: %llu backed, %llu told\n",
				      (unsigned long long)counts[i],
				      (unsigned long long)is,
				      (unsigned long long)told);
		assert_true(told >= is);
		assert_true(told <= is + CACHE_GROUP_BYTES);
		if (counts[i] < GROUP)
			assert_true(told <= is + 2 * page_bytes());
	}
}

static void test_a_small_cache_stays_small(void **state)
{
	(void)state;
	get();
	assert_true(slots_bytes(&slots) <= 4 * page_bytes());
	get_up_to(1000);
	assert_true(slots_bytes(&slots) <=
		    1000 * (sizeof(struct cache_entry) +
			    sizeof(struct cache_record)) + 6 * page_bytes());
}

/* ---- one's own ---- */

static void test_it_knows_its_own(void **state)
{
	struct cache_slots others = { .made = { 0 } };
	struct cache_entry *e, *last;

	(void)state;
	assert_true(slots_init(&others));
	e = slots_make(&others);
	assert_non_null(e);
	assert_false(slots_own(&slots, e));
	assert_false(slots_own(&slots, NULL));
	last = get();
	assert_true(slots_own(&slots, last));
	assert_false(slots_own(&slots, e));
	assert_false(slots_own(&others, last));
	get_up_to(GROUP + 1);
	last = get();
	assert_ptr_not_equal(cache_group_of(last), slots.groups[0]);
	assert_true(slots_own(&slots, last));
	assert_false(slots_own(&slots, e));
	assert_false(slots_own(&slots, (struct cache_entry *)
			       ((uintptr_t)last ^ (uintptr_t)1 << 46)));
	assert_false(slots_own(&slots, NULL));
	assert_true(slots_clear(&others));
	assert_false(slots_own(&others, e));
}

/* ---- no memory ---- */

/* Nothing is lost, and what is there already can still be had. */
static void test_none_at_first(void **state)
{
	struct cache_slots other = { .made = { 0 } };

	(void)state;
	fault_arm(FAULT_MAP, 1, 1);
	assert_false(slots_init(&other));
	assert_true(slots_clear(&other));
	fault_arm(FAULT_MAP, 1, UINT64_MAX);
	assert_null(slots_get(&slots));
	assert_null(slots_get(&slots));
	assert_int_equal(fault_disarm(), 2);
	assert_int_equal(made(), 0);
	assert_int_equal(slots_bytes(&slots), 0);
	get();
	assert_int_equal(made(), 1);
}

static void test_none_for_the_second_group(void **state)
{
	struct cache_entry *e = get();
	uint64_t bytes;

	(void)state;
	fault_arm(FAULT_MAP, 1, UINT64_MAX);
	get_up_to(GROUP - 1);
	bytes = slots_bytes(&slots);
	assert_null(slots_get(&slots));
	assert_null(slots_get(&slots));
	assert_int_equal(made(), GROUP - 1);
	assert_int_equal(slots_bytes(&slots), bytes);
	/* What comes back can be had. */
	slots_put(&slots, e);
	assert_ptr_equal(get(), e);
	assert_null(slots_get(&slots));
	slots_retire(&slots, e);
	assert_null(slots_get(&slots));
	assert_true(slots_send(&slots, 1));
	assert_null(slots_get(&slots));
	slots_arrive(&slots);
	slots_receive(&slots);
	assert_ptr_equal(get(), e);
	assert_int_equal(fault_disarm(), 5);
	assert_int_equal(entry_number(get()), 1 << CACHE_GROUP_BITS);
	assert_int_equal(made(), GROUP);
}

/* Which pages are there, is advice. */
static void test_advice_may_be_refused(void **state)
{
	(void)state;
	fault_arm(FAULT_ADVISE, 1, UINT64_MAX);
	get_up_to(GROUP + 1);
	assert_int_equal(fault_disarm(), 2);
}

/* ---- back to the kernel ---- */

static void test_it_is_given_back(void **state)
{
	(void)state;
	get_up_to(2 * GROUP + 1);
	assert_true(slots_clear(&slots));
	assert_null(slots.groups);
	assert_int_equal(fault_mapped_bytes(), 0);
	assert_int_equal(slots_bytes(&slots), 0);
	assert_true(slots_clear(&slots));
}

/* Cleared once more, it goes on where it was refused. */
static void refuse_and_clear_again(uint64_t refused)
{
	assert_true(slots_init(&slots));
	get_up_to(2 * GROUP + 1);
	fault_arm(FAULT_UNMAP, refused, 1);
	assert_false(slots_clear(&slots));
	assert_int_equal(fault_disarm(), 1);
	assert_int_equal(fault_mapped_bytes(),
			 CACHE_GROUPS * sizeof(*slots.groups) +
				 (4 - refused) * CACHE_GROUP_BYTES);
	assert_true(slots_clear(&slots));
	assert_int_equal(fault_mapped_bytes(), 0);
}

/* As if it were new, but that the versions go on. */
static void refuse_and_use_again(uint64_t refused)
{
	assert_true(slots_init(&slots));
	get_up_to(2 * GROUP + 1);
	slots_put(&slots, &slots.groups[2]->entry[0]);
	fault_arm(FAULT_UNMAP, refused, 1);
	assert_false(slots_clear(&slots));
	fault_disarm();
	assert_int_equal(slots_bytes(&slots), 0);
	for (uint64_t n = 1; n <= 2 * GROUP + 1; n++) {
		struct cache_entry *e = get();

		assert_int_equal(entry_number(e) >> CACHE_GROUP_BITS,
				 n / GROUP);
		assert_int_equal(entry_number(e) % (1 << CACHE_GROUP_BITS),
				 n % GROUP);
		assert_true(slots_own(&slots, e));
	}
	assert_true(slots_clear(&slots));
	assert_int_equal(fault_mapped_bytes(), 0);
}

/* Three groups, then the table. */
static void test_the_kernel_refuses(void **state)
{
	(void)state;
	assert_true(slots_clear(&slots));
	for (uint64_t refused = 1; refused <= 4; refused++) {
		refuse_and_clear_again(refused);
		refuse_and_use_again(refused);
	}
}

#define memory_test(f) cmocka_unit_test_setup_teardown(f, new_slots, end_slots)

int main(void)
{
	const struct CMUnitTest tests[] = {
		memory_test(test_what_is_backed_is_told),
		memory_test(test_a_small_cache_stays_small),
		memory_test(test_it_knows_its_own),
		memory_test(test_none_at_first),
		memory_test(test_none_for_the_second_group),
		memory_test(test_advice_may_be_refused),
		memory_test(test_it_is_given_back),
		memory_test(test_the_kernel_refuses),
	};

	return run_group(tests);
}
