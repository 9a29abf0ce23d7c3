/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * lib/atomic.h: each operation does what its name says, costs no lock (P5), and
 * adds nothing to the size of its value.  That acquire and release order plain
 * memory is seen under ThreadSanitizer, which reports it where they do not.
 */
#include "testing.h"

#include "atomic.h"

enum { THREADS = 4, ADDS = 20000, MESSAGES = 2000, DUELS = 20000 };

#define CHECK_TYPE(name, type, one, two)                                       \
	static void test_##name##_load_and_store(void **state)                 \
	{                                                                      \
		struct atomic_##name a = { .value = one };                     \
		type first = one;                                              \
		type second = two;                                             \
									       \
		(void)state;                                                   \
		assert_int_equal(sizeof(a), sizeof(type));                     \
		assert_true(atomic_is_lock_free(&a.value));                    \
		assert_true(name##_load_relaxed(&a) == first);                 \
		name##_store_relaxed(&a, second);                              \
		assert_true(name##_load_acquire(&a) == second);                \
		name##_store_release(&a, first);                               \
		assert_true(name##_load_seq_cst(&a) == first);                 \
		name##_store_seq_cst(&a, second);                              \
		assert_true(name##_exchange_acquire(&a, first) == second);     \
		assert_true(name##_load_relaxed(&a) == first);                 \
	}                                                                      \
	CHECK_CAS(name, type, relaxed, one, two)                               \
	CHECK_CAS(name, type, acquire, one, two)                               \
	CHECK_CAS(name, type, release, one, two)                               \
	CHECK_CAS(name, type, acq_rel, one, two)                               \
	CHECK_CAS(name, type, seq_cst, one, two)                               \
	static void test_##name##_compare_exchange(void **state)               \
	{                                                                      \
		(void)state;                                                   \
		check_##name##_relaxed();                                      \
		check_##name##_acquire();                                      \
		check_##name##_release();                                      \
		check_##name##_acq_rel();                                      \
		check_##name##_seq_cst();                                      \
	}

/* A failure gives the value found and changes nothing. */
#define CHECK_CAS(name, type, order, one, two)                                 \
	static void check_##name##_##order(void)                               \
	{                                                                      \
		struct atomic_##name a = { .value = one };                     \
		type first = one;                                              \
		type second = two;                                             \
		type old = second;                                             \
									       \
		assert_false(name##_cas_strong_##order(&a, &old, second));     \
		assert_true(old == first);                                     \
		assert_true(name##_load_relaxed(&a) == first);                 \
		assert_true(name##_cas_strong_##order(&a, &old, second));      \
		assert_true(name##_load_relaxed(&a) == second);                \
		assert_false(name##_cas_weak_##order(&a, &old, first));        \
		assert_true(old == second);                                    \
		while (!name##_cas_weak_##order(&a, &old, first))              \
			assert_true(old == second);                            \
		assert_true(name##_load_relaxed(&a) == first);                 \
	}

static char here, there;

CHECK_TYPE(u16, uint16_t, 1, UINT16_MAX)
CHECK_TYPE(u32, uint32_t, 1, UINT32_MAX)
CHECK_TYPE(u64, uint64_t, 1, UINT64_MAX)
CHECK_TYPE(ptr, void *, &here, &there)

static void test_updates_return_the_value_before(void **state)
{
	struct atomic_u32 a = { .value = 5 };
	struct atomic_u64 b = { .value = (uint64_t)1 << 40 };

	(void)state;
	assert_int_equal(u32_add_relaxed(&a, 2), 5);
	assert_int_equal(u32_add_seq_cst(&a, 3), 7);
	assert_int_equal(u32_sub_seq_cst(&a, 11), 10);
	assert_int_equal(u32_load_relaxed(&a), UINT32_MAX);
	assert_int_equal(u64_add_relaxed(&b, 8), (uint64_t)1 << 40);
	assert_int_equal(u64_sub_relaxed(&b, 4), ((uint64_t)1 << 40) + 8);
	assert_int_equal(u64_sub_seq_cst(&b, 1), ((uint64_t)1 << 40) + 4);
	assert_int_equal(u64_or_seq_cst(&b, 0xf0), ((uint64_t)1 << 40) + 3);
	assert_int_equal(u64_and_seq_cst(&b, 0xff), ((uint64_t)1 << 40) + 0xf3);
	assert_int_equal(u64_load_relaxed(&b), 0xf3);
}

static struct atomic_u64 added, swapped;

static void *add_and_swap(void *arg)
{
	uint64_t old;

	(void)arg;
	for (int i = 0; i < ADDS; i++) {
		u64_add_relaxed(&added, 1);
		old = u64_load_relaxed(&swapped);
		while (!u64_cas_weak_relaxed(&swapped, &old, old + 1))
			;
	}
	return NULL;
}

static void test_no_update_of_four_threads_is_lost(void **state)
{
	struct threads t;

	(void)state;
	threads_start(&t, THREADS, add_and_swap, NULL, 0);
	assert_int_equal(threads_join(&t), 0);
	assert_int_equal(u64_load_relaxed(&added), THREADS * ADDS);
	assert_int_equal(u64_load_relaxed(&swapped), THREADS * ADDS);
}

/* The flag goes 0 -> full by the sender, full -> 0 by the receiver. */
static struct atomic_u32 full;
static uint64_t message;

static void *send_messages(void *arg)
{
	(void)arg;
	for (uint64_t i = 1; i <= MESSAGES; i++) {
		while (u32_load_acquire(&full))
			sched_yield();
		message = i;
		u32_store_release(&full, 1);
	}
	return NULL;
}

static void test_release_and_acquire_carry_plain_memory(void **state)
{
	struct threads t;

	(void)state;
	threads_start(&t, 1, send_messages, NULL, 0);
	for (uint64_t i = 1; i <= MESSAGES; i++) {
		uint32_t old = 1;

		while (!u32_cas_weak_acq_rel(&full, &old, 1)) {
			old = 1;
			sched_yield();
		}
		assert_int_equal(message, i);
		u32_store_release(&full, 0);
	}
	assert_int_equal(threads_join(&t), 0);
}

/*
 * Each writes its own and reads the other's: in one total order of all seq_cst
 * operations not both can read 0.  This is what the budget's event count
 * (budget.h) and the hints (bands.h) stand on; a weaker order shows on x86.
 */
static struct {
	_Alignas(64) struct atomic_u32 mine, round;
} side[2];
static uint32_t saw[2][DUELS];

/* They start each round together, and so meet in the store buffers. */
static void meet(unsigned me, uint32_t round)
{
	u32_store_release(&side[me].round, round);
	for (unsigned spins = 0;
	     u32_load_acquire(&side[!me].round) < round; spins++)
		if (spins > 1000)
			sched_yield();
}

static void *store_then_load(void *arg)
{
	unsigned me = *(unsigned *)arg;

	for (uint32_t i = 0; i < DUELS; i++) {
		meet(me, i + 1);
		u32_store_seq_cst(&side[me].mine, i + 1);
		saw[me][i] = u32_load_seq_cst(&side[!me].mine);
	}
	return NULL;
}

static void test_seq_cst_is_one_order(void **state)
{
	unsigned who[2] = { 0, 1 };
	struct threads t;

	(void)state;
	threads_start(&t, 2, store_then_load, who, sizeof(*who));
	assert_int_equal(threads_join(&t), 0);
	for (uint32_t i = 0; i < DUELS; i++)
		assert_true(saw[0][i] > i || saw[1][i] > i);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_u16_load_and_store),
		cmocka_unit_test(test_u32_load_and_store),
		cmocka_unit_test(test_u64_load_and_store),
		cmocka_unit_test(test_ptr_load_and_store),
		cmocka_unit_test(test_u16_compare_exchange),
		cmocka_unit_test(test_u32_compare_exchange),
		cmocka_unit_test(test_u64_compare_exchange),
		cmocka_unit_test(test_ptr_compare_exchange),
		cmocka_unit_test(test_updates_return_the_value_before),
		cmocka_unit_test(test_no_update_of_four_threads_is_lost),
		cmocka_unit_test(test_release_and_acquire_carry_plain_memory),
		cmocka_unit_test(test_seq_cst_is_one_order),
	};

	return run_group(tests);
}
