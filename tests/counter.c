/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* lib/counter.h: nothing is lost, peaks stay, threads are spread. */
#include "testing.h"

#include "counter.h"

enum { THREADS = 4, TURNS = 50000, SHORT_LIVED = 200 };

static void test_each_add_counts(void **state)
{
	static struct counter c;

	(void)state;
	assert_int_equal(counter_sum(&c), 0);
	for (int i = 1; i <= 1000; i++) {
		counter_add(&c);
		assert_int_equal(counter_sum(&c), i);
	}
}

static void *add_many(void *arg)
{
	for (int i = 0; i < TURNS; i++)
		counter_add(arg);
	return NULL;
}

static void test_threads_add_together(void **state)
{
	static struct counter c;
	struct threads threads;

	(void)state;
	threads_start(&threads, THREADS, add_many, &c, 0);
	assert_int_equal(threads_join(&threads), 0);
	assert_int_equal(counter_sum(&c), (uint64_t)THREADS * TURNS);
}

/* A thread and its slot, which the others are to see. */
struct owner {
	sem_t *ready, *go;
	unsigned slot;
	uint32_t place;
	struct atomic_u64 *figures;	/* COUNTER_SLOTS */
};

static void *own_a_slot(void *arg)
{
	struct owner *o = arg;

	o->slot = counter_slot();
	o->place = counter_place();
	for (int i = 0; i < 1000; i++)
		counter_bump(&o->figures[o->slot], o->slot, 3);
	sem_post(o->ready);
	wait_for(o->go);
	return counter_slot() == o->slot ? NULL : arg;
}

/* More threads at once than there are slots with one owner. */
static void test_owners_are_alone_and_nothing_is_lost(void **state)
{
	static struct atomic_u64 figures[COUNTER_SLOTS];
	static struct owner owners[TESTING_MAX_THREADS];
	unsigned seen[COUNTER_SLOTS] = { 0 };
	struct threads threads;
	uint64_t sum = 0;
	sem_t ready, go;

	(void)state;
	sem_init(&ready, 0, 0);
	sem_init(&go, 0, 0);
	for (int i = 0; i < TESTING_MAX_THREADS; i++)
		owners[i] = (struct owner){ &ready, &go, 0, 0, figures };
	threads_start(&threads, TESTING_MAX_THREADS, own_a_slot, owners,
		      sizeof(*owners));
	for (int i = 0; i < TESTING_MAX_THREADS; i++)
		wait_for(&ready);
	for (int i = 0; i < TESTING_MAX_THREADS; i++)
		sem_post(&go);
	assert_int_equal(threads_join(&threads), 0);
	for (int i = 0; i < TESTING_MAX_THREADS; i++) {
		assert_true(owners[i].slot < counter_slots());
		seen[owners[i].slot]++;
		assert_int_equal(owners[i].place,
				 owners[i].slot >= COUNTER_OWNERS ? 0 :
				 counter_place_of(owners[i].slot));
	}
	for (unsigned i = 0; i < COUNTER_SLOTS; i++) {
		assert_true(i >= COUNTER_OWNERS || seen[i] <= 1);
		sum += u64_load_relaxed(&figures[i]);
	}
	assert_int_equal(sum, (uint64_t)TESTING_MAX_THREADS * 3000);
	assert_true(counter_slots() <= COUNTER_SLOTS);
	sem_destroy(&ready);
	sem_destroy(&go);
}

/* Where places lead. */
static void test_places(void **state)
{
	static char array[COUNTER_SLOTS][COUNTER_PLACE_BYTES];

	(void)state;
	for (unsigned i = 0; i < COUNTER_SLOTS; i++) {
		assert_true(counter_place_of(i) & COUNTER_PLACED);
		assert_ptr_equal(counter_at(array, counter_place_of(i)),
				 array[i]);
	}
	counter_slot();
	assert_int_equal(counter_place(), counter_place_of(counter_slot()));
}

static void *slot_of(void *ret_slot)
{
	*(unsigned *)ret_slot = counter_slot();
	return NULL;
}

/* Threads that come after each other do not use the slots up. */
static void test_a_slot_is_given_back(void **state)
{
	struct threads threads;
	unsigned first, slot;

	(void)state;
	threads_start(&threads, 1, slot_of, &first, 0);
	assert_int_equal(threads_join(&threads), 0);
	assert_true(counter_owns(first));
	for (int i = 0; i < SHORT_LIVED; i++) {
		threads_start(&threads, 1, slot_of, &slot, 0);
		assert_int_equal(threads_join(&threads), 0);
		assert_int_equal(slot, first);
	}
}

static void test_stripes_are_in_range(void **state)
{
	(void)state;
	assert_int_equal(counter_stripe(1), 0);
	assert_true(counter_stripe(COUNTER_STRIPES) < COUNTER_STRIPES);
	assert_int_equal(counter_slot(), counter_thread.number - 1);
}

static void test_a_gauge_remembers_its_peak(void **state)
{
	struct gauge g = { { 0 }, { 0 } };

	(void)state;
	gauge_add(&g, 5);
	gauge_sub(&g, 3);
	gauge_add(&g, 2);
	assert_int_equal(gauge_value(&g), 4);
	assert_int_equal(gauge_peak(&g), 5);
	gauge_add(&g, 2);
	assert_int_equal(gauge_peak(&g), 6);
	gauge_sub(&g, 6);
	assert_int_equal(gauge_value(&g), 0);
	assert_int_equal(gauge_peak(&g), 6);
}

static void *up_and_down(void *arg)
{
	for (int i = 0; i < TURNS; i++) {
		gauge_add(arg, 3);
		gauge_sub(arg, 3);
	}
	return NULL;
}

static void test_threads_share_a_gauge(void **state)
{
	static struct gauge g;
	struct threads threads;

	(void)state;
	threads_start(&threads, THREADS, up_and_down, &g, 0);
	assert_int_equal(threads_join(&threads), 0);
	assert_int_equal(gauge_value(&g), 0);
	assert_true(gauge_peak(&g) >= 3 && gauge_peak(&g) <= 3 * THREADS);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_each_add_counts),
		cmocka_unit_test(test_threads_add_together),
		cmocka_unit_test(test_owners_are_alone_and_nothing_is_lost),
		cmocka_unit_test(test_places),
		cmocka_unit_test(test_a_slot_is_given_back),
		cmocka_unit_test(test_stripes_are_in_range),
		cmocka_unit_test(test_a_gauge_remembers_its_peak),
		cmocka_unit_test(test_threads_share_a_gauge),
	};

	return run_group(tests);
}
