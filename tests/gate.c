/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * lib/gate.h: (G1) one holder at a time, (G2) a request is granted or seen by
 * the holder's unlock, (G3) with what was written before it.
 */
#include "testing.h"

#include "gate.h"

enum { THREADS = 4, TURNS = 20000 };

static void test_held_and_free(void **state)
{
	struct gate gate = { { 0 } };

	(void)state;
	assert_true(gate_try(&gate));
	assert_false(gate_try(&gate));
	assert_false(gate_try_long(&gate));
	assert_false(gate_unlock(&gate));
	assert_true(gate_try_long(&gate));
	assert_false(gate_unlock(&gate));
	gate_lock(&gate);
	assert_false(gate_try(&gate));
	assert_false(gate_unlock(&gate));
}

static void test_a_request_is_told_once(void **state)
{
	struct gate gate = { { 0 } };

	(void)state;
	assert_true(gate_try_or_ask(&gate));
	assert_false(gate_unlock(&gate));
	gate_lock(&gate);
	assert_false(gate_try_or_ask(&gate));
	assert_false(gate_try_or_ask(&gate));
	assert_true(gate_unlock(&gate));
	gate_lock(&gate);
	assert_false(gate_unlock(&gate));
}

/* Who only tries leaves no request. */
static void test_a_try_asks_for_nothing(void **state)
{
	struct gate gate = { { 0 } };

	(void)state;
	gate_lock(&gate);
	assert_false(gate_try(&gate));
	assert_false(gate_unlock(&gate));
}

struct waiting {
	struct gate *gate;
	sem_t *got;
	uint64_t *plain;	/* the gate protects it */
};

static void *wait_at_gate(void *arg)
{
	struct waiting *w = arg;

	gate_lock(w->gate);
	(*w->plain)++;
	gate_unlock(w->gate);
	sem_post(w->got);
	return NULL;
}

static void test_all_who_sleep_get_it_in_the_end(void **state)
{
	struct gate gate = { { 0 } };
	struct threads threads;
	uint64_t plain = 0;
	sem_t got;
	struct waiting w = { &gate, &got, &plain };

	(void)state;
	sem_init(&got, 0, 0);
	gate_lock(&gate);
	threads_start(&threads, THREADS, wait_at_gate, &w, 0);
	assert_false(happens_soon(&got));
	assert_int_equal(plain, 0);
	gate_unlock(&gate);
	assert_int_equal(threads_join(&threads), 0);
	assert_int_equal(plain, THREADS);
	assert_true(gate_try(&gate));
	sem_destroy(&got);
}

/* A request beside a sleeper: neither is lost for the other. */
static void test_asked_and_waited_at_once(void **state)
{
	struct gate gate = { { 0 } };
	struct threads threads;
	uint64_t plain = 0;
	sem_t got;
	struct waiting w = { &gate, &got, &plain };

	(void)state;
	sem_init(&got, 0, 0);
	gate_lock(&gate);
	threads_start(&threads, 1, wait_at_gate, &w, 0);
	assert_false(gate_try_or_ask(&gate));
	assert_false(happens_soon(&got));
	assert_true(gate_unlock(&gate));
	assert_int_equal(threads_join(&threads), 0);
	assert_int_equal(plain, 1);
	sem_destroy(&got);
}

struct excluded {
	struct gate *gate;
	uint64_t *plain;
};

static void *add_under_gate(void *arg)
{
	struct excluded *x = arg;

	for (int i = 0; i < TURNS; i++) {
		gate_lock(x->gate);
		(*x->plain)++;
		gate_unlock(x->gate);
	}
	return NULL;
}

static void test_one_holder_at_a_time(void **state)
{
	struct gate gate = { { 0 } };
	struct threads threads;
	uint64_t plain = 0;
	struct excluded x = { &gate, &plain };

	(void)state;
	threads_start(&threads, THREADS, add_under_gate, &x, 0);
	assert_int_equal(threads_join(&threads), 0);
	assert_int_equal(plain, (uint64_t)THREADS * TURNS);
}

/* What is asked for lies in a box of each thread's own. */
struct asking {
	struct gate *gate;
	struct atomic_u32 *wanted;
	uint64_t *served;
};

static void serve(struct asking *a)
{
	do {
		if (!gate_try_or_ask(a->gate))
			return;
		/* relaxed: (G3) has to do */
		*a->served += u32_load_relaxed(a->wanted);
		u32_store_relaxed(a->wanted, 0);
	} while (gate_unlock(a->gate));
}

static void *ask(void *arg)
{
	struct asking *a = arg;

	for (int i = 0; i < TURNS; i++) {
		/* relaxed: as above */
		u32_add_relaxed(a->wanted, 1);
		serve(a);
	}
	return NULL;
}

/* The one that adds while another zeroes may be lost, but not the last one:
 * at rest nothing may be left that nobody looked after. */
static void test_no_request_is_left_lying(void **state)
{
	struct gate gate = { { 0 } };
	struct atomic_u32 wanted = { 0 };
	uint64_t served = 0;
	struct asking a = { &gate, &wanted, &served };
	struct threads threads;

	(void)state;
	threads_start(&threads, THREADS, ask, &a, 0);
	assert_int_equal(threads_join(&threads), 0);
	assert_int_equal(u32_load_relaxed(&wanted), 0);
	assert_true(served > 0);
	assert_true(gate_try(&gate));
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_held_and_free),
		cmocka_unit_test(test_a_request_is_told_once),
		cmocka_unit_test(test_a_try_asks_for_nothing),
		cmocka_unit_test(test_all_who_sleep_get_it_in_the_end),
		cmocka_unit_test(test_asked_and_waited_at_once),
		cmocka_unit_test(test_one_holder_at_a_time),
		cmocka_unit_test(test_no_request_is_left_lying),
	};

	return run_group(tests);
}
