/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * lib/budget.h: (B1) charged <= limit at every instant (P1), (B2) a charge is
 * refused only if it did not fit, (B3) no wake-up is lost; counters exact (P2).
 */
#include "testing.h"

#include "budget.h"
#include "os.h"

enum { UNIT = BUDGET_UNIT, THREADS = 4, ROUNDS = 5000, WAKES = 500 };

static struct {
	struct seg_budget_options o;
	char surplus[16];
} longer;

static int create(size_t size, uint64_t limit, struct seg_budget **ret_budget)
{
	longer.o = (struct seg_budget_options){ .size = size,
						.limit_bytes = limit };
	return seg_budget_create(&longer.o, ret_budget);
}

static void test_create_refuses_bad_options(void **state)
{
	const size_t size = sizeof(struct seg_budget_options);
	struct seg_budget *b = NULL;

	(void)state;
	assert_int_equal(seg_budget_create(NULL, &b), -EINVAL);
	assert_int_equal(create(size, UNIT, NULL), -EINVAL);
	assert_int_equal(create(0, UNIT, &b), -EINVAL);
	assert_int_equal(create(offsetof(struct seg_budget_options, parent) - 1,
				UNIT, &b), -EINVAL);
	longer.surplus[8] = 1;
	assert_int_equal(create(sizeof(longer), UNIT, &b), -EINVAL);
	longer.surplus[8] = 0;
	assert_null(b);
	assert_int_equal(create(sizeof(longer), UNIT, &b), 0);
	end_budget(b);
}

static void test_limit_has_a_range(void **state)
{
	const size_t size = sizeof(struct seg_budget_options);
	const uint64_t bad[] = { 0, UNIT - 1, BUDGET_MAX_BYTES + 1, 1ull << 44,
				 UINT64_MAX };
	struct seg_budget *b = NULL, *good = new_budget(UNIT);

	(void)state;
	assert_int_equal(BUDGET_MAX_BYTES, (1ull << 44) - UNIT);
	for (size_t i = 0; i < sizeof(bad) / sizeof(*bad); i++) {
		assert_int_equal(create(size, bad[i], &b), -ERANGE);
		assert_null(b);
		assert_int_equal(seg_budget_set_limit(good, bad[i]), -ERANGE);
		assert_int_equal(budget_stats(good).limit_bytes, UNIT);
	}
	assert_int_equal(seg_budget_set_limit(NULL, UNIT), -EINVAL);
	end_budget(good);
}

static void test_limit_is_rounded_down(void **state)
{
	struct seg_budget *b = new_budget(2 * UNIT - 1);

	(void)state;
	assert_int_equal(budget_stats(b).limit_bytes, UNIT);
	assert_int_equal(seg_budget_set_limit(b, 5 * UNIT + 1), 0);
	assert_int_equal(budget_stats(b).limit_bytes, 5 * UNIT);
	end_budget(b);
}

static void assert_word(struct seg_budget *b, uint64_t limit, uint64_t charged)
{
	uint64_t word = budget_look(b);

	assert_int_equal(budget_word_limit(word), limit);
	assert_int_equal(budget_word_charged(word), charged);
}

/* B1, B2, P2: to the last unit, and not one more. */
static void test_charge_is_exact(void **state)
{
	struct seg_budget *b = new_budget(10 * UNIT);

	(void)state;
	assert_true(budget_charge(b, 4 * UNIT));
	assert_false(budget_charge(b, 7 * UNIT));
	assert_word(b, 10 * UNIT, 4 * UNIT);
	assert_true(budget_charge(b, 6 * UNIT));
	assert_false(budget_charge(b, UNIT));
	assert_word(b, 10 * UNIT, 10 * UNIT);
	budget_uncharge(b, 3 * UNIT);
	assert_word(b, 10 * UNIT, 7 * UNIT);
	assert_true(budget_charge(b, 3 * UNIT));
	budget_uncharge(b, 10 * UNIT);
	assert_word(b, 10 * UNIT, 0);
	assert_int_equal(budget_stats(b).charge_refusals_total, 2);
	end_budget(b);
}

/* What is on its way to the kernel stays charged, and is known (step 5). */
static void test_deferred_bytes_are_charged(void **state)
{
	struct seg_budget *b = new_budget(10 * UNIT);

	(void)state;
	assert_true(budget_charge(b, 10 * UNIT));
	budget_defer(b, 4 * UNIT);
	budget_defer(b, 3 * UNIT);
	assert_int_equal(budget_deferred(b), 7 * UNIT);
	assert_int_equal(budget_stats(b).deferred_bytes, 7 * UNIT);
	assert_word(b, 10 * UNIT, 10 * UNIT);
	assert_false(budget_charge(b, UNIT));
	budget_uncharge_deferred(b, 4 * UNIT);
	assert_int_equal(budget_deferred(b), 3 * UNIT);
	assert_word(b, 10 * UNIT, 6 * UNIT);
	budget_uncharge_deferred(b, 3 * UNIT);
	budget_uncharge(b, 3 * UNIT);
	assert_int_equal(budget_deferred(b), 0);
	end_budget(b);
}

static void test_peak_stays(void **state)
{
	struct seg_budget *b = new_budget(10 * UNIT);

	(void)state;
	assert_int_equal(budget_stats(b).peak_charged_bytes, 0);
	assert_true(budget_charge(b, 7 * UNIT));
	budget_uncharge(b, 5 * UNIT);
	assert_true(budget_charge(b, 2 * UNIT));
	assert_int_equal(budget_stats(b).peak_charged_bytes, 7 * UNIT);
	assert_false(budget_charge(b, 9 * UNIT));
	assert_int_equal(budget_stats(b).peak_charged_bytes, 7 * UNIT);
	budget_uncharge(b, 4 * UNIT);
	end_budget(b);
}

static void test_limit_goes_up_and_down(void **state)
{
	struct seg_budget *b = new_budget(4 * UNIT);

	(void)state;
	assert_true(budget_charge(b, 4 * UNIT));
	assert_false(budget_try_limit(b, 3 * UNIT));
	assert_int_equal(seg_budget_set_limit(b, 3 * UNIT), -EBUSY);
	assert_word(b, 4 * UNIT, 4 * UNIT);
	assert_int_equal(seg_budget_set_limit(b, 6 * UNIT), 0);
	assert_true(budget_charge(b, 2 * UNIT));
	assert_false(budget_charge(b, UNIT));
	budget_uncharge(b, 3 * UNIT);
	assert_int_equal(seg_budget_set_limit(b, 3 * UNIT), 0);
	assert_word(b, 3 * UNIT, 3 * UNIT);
	budget_uncharge(b, 3 * UNIT);
	end_budget(b);
}

/* Both halves of the word full: no carry from one into the other. */
static void test_the_largest_budget(void **state)
{
	struct seg_budget *b = new_budget(BUDGET_MAX_BYTES);

	(void)state;
	assert_false(budget_charge(b, BUDGET_MAX_BYTES + UNIT));
	assert_false(budget_charge(b, UINT64_MAX / UNIT * UNIT));
	assert_true(budget_charge(b, BUDGET_MAX_BYTES));
	assert_word(b, BUDGET_MAX_BYTES, BUDGET_MAX_BYTES);
	assert_false(budget_charge(b, UNIT));
	assert_false(budget_charge(b, BUDGET_MAX_BYTES));
	assert_word(b, BUDGET_MAX_BYTES, BUDGET_MAX_BYTES);
	assert_int_equal(budget_stats(b).peak_charged_bytes, BUDGET_MAX_BYTES);
	budget_uncharge(b, BUDGET_MAX_BYTES - UNIT);
	assert_int_equal(seg_budget_set_limit(b, UNIT), 0);
	assert_word(b, UNIT, UNIT);
	assert_int_equal(seg_budget_set_limit(b, BUDGET_MAX_BYTES), 0);
	assert_word(b, BUDGET_MAX_BYTES, UNIT);
	budget_uncharge(b, UNIT);
	end_budget(b);
}

static void test_stats_obey_the_size_rule(void **state)
{
	struct seg_budget *b = new_budget(UNIT);
	struct seg_budget_stats s = { .size = 8 };

	(void)state;
	assert_int_equal(seg_budget_stats(b, NULL), -EINVAL);
	assert_int_equal(seg_budget_stats(b, &s), -EINVAL);
	s.size = sizeof(s);
	assert_int_equal(seg_budget_stats(NULL, &s), -EINVAL);
	s.size = offsetof(struct seg_budget_stats, charged_bytes);
	s.charged_bytes = 99;
	assert_int_equal(seg_budget_stats(b, &s), 0);
	assert_int_equal(s.limit_bytes, UNIT);
	assert_int_equal(s.charged_bytes, 99);
	end_budget(b);
}

static void test_destroy_takes_null_and_refuses_a_shared_one(void **state)
{
	struct seg_budget *b = new_budget(1 << 20);
	struct seg_pool *p = new_pool(b), *q = new_pool(b);

	(void)state;
	assert_int_equal(seg_budget_destroy(NULL), 0);
	assert_int_equal(budget_stats(b).pools, 2);
	assert_int_equal(seg_budget_destroy(b), -EBUSY);
	end_pool(p);
	assert_int_equal(budget_stats(b).pools, 1);
	assert_int_equal(seg_budget_destroy(b), -EBUSY);
	end_pool(q);
	end_budget(b);
}

/* A member that gives back what it holds, in steps of `most`. */
struct holder {
	struct budget_member member;	/* first */
	struct seg_budget *budget;
	uint64_t held, most, asked;
};

static uint64_t holder_shed(struct budget_member *member, uint64_t bytes)
{
	struct holder *h = (struct holder *)member;
	uint64_t given = bytes < h->most ? bytes : h->most;

	h->asked += bytes;
	given = given < h->held ? given : h->held;
	h->held -= given;
	budget_uncharge(h->budget, given);
	return given;
}

static void holder_join(struct holder *h, struct seg_budget *b, uint64_t held,
			uint64_t most)
{
	*h = (struct holder){ .member.shed = holder_shed, .budget = b,
			      .held = held, .most = most };
	assert_true(budget_charge(b, held));
	budget_join(b, &h->member);
}

static void holder_leave(struct holder *h)
{
	budget_leave(h->budget, &h->member);
	budget_uncharge(h->budget, h->held);
}

/* The last that joined is asked first; who is not needed is not asked. */
static void test_members_are_asked_until_it_is_enough(void **state)
{
	struct seg_budget *b = new_budget(100 * UNIT);
	struct holder a, c, d;

	(void)state;
	assert_int_equal(budget_shed(b, UNIT), 0);
	holder_join(&a, b, 10 * UNIT, 10 * UNIT);
	holder_join(&c, b, 10 * UNIT, 2 * UNIT);
	holder_join(&d, b, 10 * UNIT, 0);
	assert_int_equal(budget_stats(b).pools, 3);
	assert_int_equal(budget_shed(b, 5 * UNIT), 5 * UNIT);
	assert_int_equal(d.asked, 5 * UNIT);
	assert_int_equal(c.asked, 5 * UNIT);
	assert_int_equal(a.asked, 3 * UNIT);
	assert_int_equal(budget_shed(b, 2 * UNIT), 2 * UNIT);
	assert_int_equal(a.asked, 3 * UNIT);
	holder_leave(&c);
	assert_int_equal(budget_shed(b, 50 * UNIT), 7 * UNIT);
	assert_int_equal(c.asked, 7 * UNIT);
	holder_leave(&a);
	holder_leave(&d);
	assert_int_equal(budget_stats(b).pools, 0);
	end_budget(b);
}

static void test_lowering_the_limit_asks_for_just_the_surplus(void **state)
{
	struct seg_budget *b = new_budget(20 * UNIT);
	struct holder h;

	(void)state;
	holder_join(&h, b, 16 * UNIT, 8 * UNIT);
	assert_int_equal(seg_budget_set_limit(b, 18 * UNIT), 0);
	assert_int_equal(h.asked, 0);
	assert_int_equal(seg_budget_set_limit(b, 12 * UNIT), 0);
	assert_int_equal(h.asked, 4 * UNIT);
	assert_word(b, 12 * UNIT, 12 * UNIT);
	assert_int_equal(seg_budget_set_limit(b, UNIT), -EBUSY);
	assert_int_equal(h.asked, 15 * UNIT);
	assert_word(b, 12 * UNIT, 4 * UNIT);
	holder_leave(&h);
	end_budget(b);
}

/* B3: if a sleep outlasted its ticket, it would last for ever. */
static void test_notify_since_the_ticket_ends_the_sleep(void **state)
{
	struct seg_budget *b = new_budget(UNIT);
	uint32_t ticket;

	(void)state;
	budget_wait_begin(b);
	ticket = budget_wait_ticket(b);
	budget_notify(b);
	assert_int_not_equal(budget_wait_ticket(b), ticket);
	budget_wait_sleep(b, ticket, OS_FOREVER);
	assert_int_equal(budget_stats(b).waiters, 1);
	assert_int_equal(budget_stats(b).waits_total, 1);
	budget_wait_end(b);
	assert_int_equal(budget_stats(b).waiters, 0);
	ticket = budget_wait_ticket(b);
	budget_notify(b);
	assert_int_equal(budget_wait_ticket(b), ticket);
	end_budget(b);
}

/* B3: two threads hand the only unit to and fro; each sleeps for it. */
static void *charge_sleepily(void *arg)
{
	struct seg_budget *b = arg;

	for (int i = 0; i < WAKES; i++) {
		budget_wait_begin(b);
		for (;;) {
			uint32_t ticket = budget_wait_ticket(b);

			if (budget_charge(b, UNIT))
				break;
			budget_wait_sleep(b, ticket, OS_FOREVER);
		}
		budget_wait_end(b);
		sched_yield();
		budget_uncharge(b, UNIT);
		budget_notify(b);
	}
	return NULL;
}

static void test_no_wake_up_is_lost(void **state)
{
	struct seg_budget *b = new_budget(UNIT);
	struct threads t;

	(void)state;
	threads_start(&t, THREADS, charge_sleepily, b, 0);
	assert_int_equal(threads_join(&t), 0);
	assert_int_equal(budget_stats(b).waits_total, THREADS * WAKES);
	assert_int_equal(budget_stats(b).waiters, 0);
	assert_int_equal(budget_stats(b).peak_charged_bytes, UNIT);
	end_budget(b);
}

/* A raise of the limit wakes, too. */
static void *charge_when_raised(void *arg)
{
	struct seg_budget *b = arg;
	uint32_t ticket;

	budget_wait_begin(b);
	while (ticket = budget_wait_ticket(b), !budget_charge(b, 2 * UNIT))
		budget_wait_sleep(b, ticket, OS_FOREVER);
	budget_wait_end(b);
	budget_uncharge(b, 2 * UNIT);
	return NULL;
}

static void test_raising_the_limit_wakes(void **state)
{
	struct seg_budget *b = new_budget(UNIT);
	struct threads t;

	(void)state;
	threads_start(&t, 1, charge_when_raised, b, 0);
	while (budget_stats(b).charge_refusals_total == 0)
		sched_yield();
	assert_int_equal(seg_budget_set_limit(b, 2 * UNIT), 0);
	assert_int_equal(threads_join(&t), 0);
	end_budget(b);
}

/* B2: what always fits is never refused, whatever the others do meanwhile. */
static void *charge_what_fits(void *arg)
{
	struct seg_budget *b = arg;

	for (int i = 0; i < ROUNDS; i++) {
		if (!budget_charge(b, UNIT))
			return arg;
		budget_uncharge(b, UNIT);
	}
	return NULL;
}

static void test_what_fits_is_never_refused(void **state)
{
	struct seg_budget *b = new_budget(THREADS * UNIT);
	struct threads t;

	(void)state;
	threads_start(&t, THREADS, charge_what_fits, b, 0);
	assert_int_equal(threads_join(&t), 0);
	assert_int_equal(budget_stats(b).charge_refusals_total, 0);
	end_budget(b);
}

/* B1: all want more than there is, and the limit moves under them. */
static struct atomic_u32 finished;

struct charger {
	struct seg_budget *budget;
	uint64_t seed;
};

static void *charge_at_random(void *arg)
{
	struct charger *c = arg;
	uint64_t held = 0;

	for (int i = 0; i < ROUNDS; i++) {
		uint64_t bytes = (1 + random_below(&c->seed, 8)) * UNIT;

		if (budget_charge(c->budget, bytes))
			held += bytes;
		if (random_below(&c->seed, 2)) {
			budget_uncharge(c->budget, held);
			held = 0;
		}
	}
	budget_uncharge(c->budget, held);
	u32_add_seq_cst(&finished, 1);
	return NULL;
}

static void test_never_above_the_limit(void **state)
{
	struct seg_budget *b = new_budget(24 * UNIT);
	struct charger c[THREADS];
	bool above = false;
	struct threads t;

	(void)state;
	for (uint64_t i = 0; i < THREADS; i++)
		c[i] = (struct charger){ b, random_seed(i + 1) };
	threads_start(&t, THREADS, charge_at_random, c, sizeof(*c));
	for (uint64_t i = 0; u32_load_acquire(&finished) < THREADS; i++) {
		uint64_t word = budget_look(b);

		above |= budget_word_charged(word) > budget_word_limit(word);
		budget_try_limit(b, (8 + i % 17) * UNIT);
	}
	assert_int_equal(threads_join(&t), 0);
	assert_false(above);
	assert_true(budget_stats(b).peak_charged_bytes <= 24 * UNIT);
	end_budget(b);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_create_refuses_bad_options),
		cmocka_unit_test(test_limit_has_a_range),
		cmocka_unit_test(test_limit_is_rounded_down),
		cmocka_unit_test(test_charge_is_exact),
		cmocka_unit_test(test_deferred_bytes_are_charged),
		cmocka_unit_test(test_peak_stays),
		cmocka_unit_test(test_limit_goes_up_and_down),
		cmocka_unit_test(test_the_largest_budget),
		cmocka_unit_test(test_stats_obey_the_size_rule),
		cmocka_unit_test(
			test_destroy_takes_null_and_refuses_a_shared_one),
		cmocka_unit_test(test_members_are_asked_until_it_is_enough),
		cmocka_unit_test(
			test_lowering_the_limit_asks_for_just_the_surplus),
		cmocka_unit_test(test_notify_since_the_ticket_ends_the_sleep),
		cmocka_unit_test(test_no_wake_up_is_lost),
		cmocka_unit_test(test_raising_the_limit_wakes),
		cmocka_unit_test(test_what_fits_is_never_refused),
		cmocka_unit_test(test_never_above_the_limit),
	};

	return run_group(tests);
}
