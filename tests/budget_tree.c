/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * Budgets with parents: (B1) no limit of the tree is exceeded, (B4) a guarantee
 * can be had whatever others do, (B5) the books balance; limits, guarantees and
 * shares that change.
 */
#include "budgets.h"

#include "os.h"

enum { THREADS = 4, ROUNDS = 4000, WAKES = 300 };

/* ------------------------------------------------------------- creation */

static void test_create_refuses_bad_children(void **state)
{
	struct seg_budget *root = new_budget(10 * UNIT), *b = NULL;
	struct seg_budget_options o = { .size = sizeof(o),
					.limit_bytes = UNIT };

	(void)state;
	o.guaranteed_bytes = UNIT;
	assert_int_equal(seg_budget_create(&o, &b), -EINVAL);
	o.guaranteed_bytes = 0;
	o.share = 1;
	assert_int_equal(seg_budget_create(&o, &b), -EINVAL);
	o.share = 0;
	o.cgroup_percent = 101;
	assert_int_equal(seg_budget_create(&o, &b), -ERANGE);
	o.cgroup_percent = 1;
	o.parent = root;
	assert_int_equal(seg_budget_create(&o, &b), -EINVAL);
	assert_int_equal(create_child(root, 0, 0, 0, &b), -ERANGE);
	assert_int_equal(create_child(root, 4, 5, 0, &b), -ERANGE);
	assert_int_equal(create_child(root, 4, 0, 10001, &b), -ERANGE);
	assert_int_equal(create_child(root, 20, 11, 0, &b), -EBUSY);
	assert_null(b);
	assert_int_equal(budget_stats(root).children, 0);
	assert_books(root, 10, 0, 0, 0);
	end_budget(root);
}

static void test_trees_have_a_depth(void **state)
{
	struct seg_budget *b[BUDGET_DEPTH], *deeper = NULL;

	(void)state;
	b[0] = new_budget(100 * UNIT);
	for (int i = 1; i < BUDGET_DEPTH; i++)
		b[i] = new_child(b[i - 1], 100, 0);
	assert_int_equal(create_child(b[BUDGET_DEPTH - 1], 1, 0, 0, &deeper),
			 -EINVAL);
	assert_true(charge(b[BUDGET_DEPTH - 1], 100));
	assert_books(b[0], 100, 100, 0, 0);
	uncharge(b[BUDGET_DEPTH - 1], 100);
	assert_int_equal(seg_budget_destroy(b[3]), -EBUSY);
	for (int i = BUDGET_DEPTH - 1; i >= 0; i--)
		end_budget(b[i]);
}

/* The guarantee is charged to the parent at once, and goes back. */
static void test_a_guarantee_is_paid_for(void **state)
{
	struct seg_budget *root = new_budget(10 * UNIT);
	struct seg_budget *b = new_child(root, 8, 6), *c = NULL;

	(void)state;
	assert_books(root, 10, 6, 0, 0);
	assert_books(b, 8, 0, 6, 0);
	assert_int_equal(budget_stats(root).own_charged_bytes, 0);
	assert_int_equal(budget_stats(root).children, 1);
	assert_int_equal(budget_stats(b).share, 100);
	assert_int_equal(create_child(root, 8, 5, 0, &c), -EBUSY);
	c = new_child(root, 8, 4);
	assert_books(root, 10, 10, 0, 0);
	assert_false(charge(root, 1));
	assert_int_equal(seg_budget_destroy(root), -EBUSY);
	end_budget(c);
	assert_books(root, 10, 6, 0, 0);
	assert_true(charge(root, 4));
	assert_int_equal(budget_stats(root).own_charged_bytes, 4 * UNIT);
	uncharge(root, 4);
	end_budget(b);
	end_budget(root);
}

/* --------------------------------------------------------------- charges */

static void test_what_is_borrowed_is_charged_above(void **state)
{
	struct seg_budget *root = new_budget(10 * UNIT);
	struct seg_budget *b = new_child(root, 8, 3);

	(void)state;
	assert_true(charge(b, 2));
	assert_books(b, 8, 2, 3, 0);
	assert_books(root, 10, 3, 0, 0);
	assert_true(charge(b, 4));
	assert_books(b, 8, 6, 3, 3);
	assert_books(root, 10, 6, 0, 0);
	assert_false(charge(b, 3));
	assert_int_equal(budget_room(b), 2 * UNIT);
	assert_true(charge(b, 2));
	uncharge(b, 4);
	assert_books(b, 8, 4, 3, 1);
	uncharge(b, 2);
	assert_books(b, 8, 2, 3, 0);
	assert_books(root, 10, 3, 0, 0);
	uncharge(b, 2);
	assert_int_equal(budget_stats(b).peak_charged_bytes, 8 * UNIT);
	assert_int_equal(budget_stats(b).charge_refusals_total, 1);
	assert_int_equal(budget_stats(root).charge_refusals_total, 0);
	end_budget(b);
	end_budget(root);
}

/* B4: the parent is full, and yet. */
static void test_a_guarantee_can_be_had(void **state)
{
	struct seg_budget *root = new_budget(10 * UNIT);
	struct seg_budget *b = new_child(root, 10, 4);
	struct seg_budget *c = new_child(root, 10, 0);

	(void)state;
	assert_true(charge(c, 6));
	assert_false(charge(c, 1));
	assert_false(charge(root, 1));
	assert_int_equal(budget_room(b), 4 * UNIT);
	assert_int_equal(budget_room(c), 0);
	assert_true(charge(b, 3));
	assert_false(charge(b, 2));
	assert_books(b, 10, 3, 4, 0);
	assert_true(charge(b, 1));
	uncharge(c, 1);
	assert_true(charge(b, 1));
	assert_books(b, 10, 5, 4, 1);
	assert_false(charge(c, 1));
	uncharge(b, 5);
	uncharge(c, 5);
	end_budget(c);
	end_budget(b);
	end_budget(root);
}

/* A part of what is wanted from the reserve, the rest from two levels up. */
static void test_three_levels(void **state)
{
	struct seg_budget *root = new_budget(20 * UNIT);
	struct seg_budget *b = new_child(root, 15, 5);
	struct seg_budget *c = new_child(b, 12, 3);

	(void)state;
	assert_books(b, 15, 3, 5, 0);
	assert_true(charge(c, 10));
	assert_books(c, 12, 10, 3, 7);
	assert_books(b, 15, 10, 5, 5);
	assert_books(root, 20, 10, 0, 0);
	assert_true(charge(root, 10));
	assert_int_equal(budget_room(c), 0);
	assert_false(charge(c, 1));
	assert_books(c, 12, 10, 3, 7);
	assert_books(b, 15, 10, 5, 5);
	uncharge(c, 10);
	assert_books(b, 15, 3, 5, 0);
	assert_books(root, 20, 15, 0, 0);
	assert_int_equal(budget_limit(c), 12 * UNIT);
	uncharge(root, 10);
	assert_int_equal(seg_budget_set_limit(root, 9 * UNIT), 0);
	assert_int_equal(budget_limit(c), 9 * UNIT);
	end_budget(c);
	end_budget(b);
	end_budget(root);
}

/* ------------------------------------------------------- what may change */

static void test_guarantees_change(void **state)
{
	struct seg_budget *root = new_budget(10 * UNIT);
	struct seg_budget *b = new_child(root, 8, 2);

	(void)state;
	assert_int_equal(seg_budget_set_guarantee(NULL, 0), -EINVAL);
	assert_int_equal(seg_budget_set_guarantee(root, 0), -EINVAL);
	assert_int_equal(seg_budget_set_guarantee(b, 9 * UNIT), -ERANGE);
	assert_true(charge(b, 6));
	assert_books(root, 10, 6, 0, 0);
	assert_int_equal(seg_budget_set_guarantee(b, 5 * UNIT), 0);
	assert_books(b, 8, 6, 5, 1);
	assert_books(root, 10, 6, 0, 0);
	assert_int_equal(seg_budget_set_guarantee(b, 8 * UNIT), 0);
	assert_books(b, 8, 6, 8, 0);
	assert_books(root, 10, 8, 0, 0);
	assert_int_equal(seg_budget_set_guarantee(b, 7 * UNIT), 0);
	assert_books(b, 8, 6, 7, 0);
	assert_int_equal(seg_budget_set_guarantee(b, 3 * UNIT), 0);
	assert_books(b, 8, 6, 3, 3);
	assert_books(root, 10, 6, 0, 0);
	assert_int_equal(seg_budget_set_guarantee(b, 0), 0);
	assert_books(b, 8, 6, 0, 6);
	uncharge(b, 6);
	assert_books(root, 10, 0, 0, 0);
	end_budget(b);
	end_budget(root);
}

/* What the child has borrowed already needs no room; more does. */
static void test_raising_a_guarantee_succeeds_or_changes_nothing(void **state)
{
	struct seg_budget *root = new_budget(10 * UNIT);
	struct seg_budget *b = new_child(root, 10, 1);

	(void)state;
	assert_true(charge(b, 4));
	assert_true(charge(root, 6));
	assert_int_equal(seg_budget_set_guarantee(b, 5 * UNIT), -EBUSY);
	assert_books(b, 10, 4, 1, 3);
	assert_books(root, 10, 10, 0, 0);
	assert_int_equal(seg_budget_set_guarantee(b, 4 * UNIT), 0);
	assert_books(b, 10, 4, 4, 0);
	assert_books(root, 10, 10, 0, 0);
	uncharge(b, 4);
	uncharge(root, 6);
	end_budget(b);
	end_budget(root);
}

static void test_limits_of_children_change(void **state)
{
	struct seg_budget *root = new_budget(10 * UNIT);
	struct seg_budget *b = new_child(root, 8, 3);

	(void)state;
	assert_int_equal(seg_budget_set_limit(b, 2 * UNIT), -ERANGE);
	assert_true(charge(b, 5));
	assert_int_equal(seg_budget_set_limit(b, 4 * UNIT), -EBUSY);
	assert_books(b, 8, 5, 3, 2);
	assert_int_equal(seg_budget_set_limit(b, 5 * UNIT), 0);
	assert_books(b, 5, 5, 3, 2);
	assert_false(charge(b, 1));
	uncharge(b, 4);
	assert_int_equal(seg_budget_set_limit(b, 3 * UNIT), 0);
	assert_books(b, 3, 1, 3, 0);
	assert_int_equal(seg_budget_set_limit(b, 50 * UNIT), 0);
	assert_int_equal(budget_room(b), 9 * UNIT);
	uncharge(b, 1);
	end_budget(b);
	end_budget(root);
}

static void test_shares_change(void **state)
{
	struct seg_budget *root = new_budget(10 * UNIT), *b = NULL;

	(void)state;
	assert_int_equal(create_child(root, 4, 0, 7, &b), 0);
	assert_int_equal(budget_stats(b).share, 7);
	assert_int_equal(seg_budget_set_share(b, 10000), 0);
	assert_int_equal(budget_stats(b).share, 10000);
	assert_int_equal(seg_budget_set_share(b, 10001), -ERANGE);
	assert_int_equal(seg_budget_set_share(root, 1), -EINVAL);
	assert_int_equal(seg_budget_set_share(NULL, 1), -EINVAL);
	assert_int_equal(budget_stats(b).share, 10000);
	assert_int_equal(seg_budget_set_share(b, 0), 0);
	assert_int_equal(budget_stats(b).share, 100);
	end_budget(b);
	end_budget(root);
}

/* --------------------------------------------------------------- threads */

static void *destroy(void *arg)
{
	return seg_budget_destroy(arg) ? arg : NULL;
}

/* A child that is looked at while it is destroyed: until that is over, it is
 * its parent's child. */
static void test_a_parent_outlives_its_children(void **state)
{
	struct seg_budget *root = new_budget(4 * UNIT);
	struct seg_budget *b = new_child(root, 4, 2);
	uint32_t leaving, visit = 2;	/* see budget_tree.c */
	struct threads t;

	(void)state;
	leaving = u32_add_seq_cst(&b->visits, visit) + visit + 1;
	threads_start(&t, 1, destroy, b, 0);
	while (u32_load_acquire(&b->visits) != leaving)
		sched_yield();
	assert_int_equal(seg_budget_destroy(root), -EBUSY);
	assert_books(root, 4, 2, 0, 0);
	u32_sub_seq_cst(&b->visits, visit);
	os_futex_wake_all(&b->visits);
	assert_int_equal(threads_join(&t), 0);
	assert_books(root, 4, 0, 0, 0);
	end_budget(root);
}

/* B3: the one unit goes to and fro between children, and each sleeps. */
static void *charge_sleepily(void *arg)
{
	struct seg_budget *b = *(struct seg_budget **)arg;

	for (int i = 0; i < WAKES; i++) {
		budget_wait_begin(b);
		for (;;) {
			uint32_t ticket = budget_wait_ticket(b);

			if (charge(b, 2))
				break;
			budget_wait_sleep(b, ticket, OS_FOREVER);
		}
		budget_wait_end(b);
		sched_yield();
		uncharge(b, 2);
		budget_notify(b);
	}
	return NULL;
}

static void test_siblings_wake_each_other(void **state)
{
	struct seg_budget *root = new_budget((THREADS + 1) * UNIT);
	struct seg_budget *b[THREADS];
	struct threads t;

	(void)state;
	for (int i = 0; i < THREADS; i++)
		b[i] = new_child(root, 2, 1);
	threads_start(&t, THREADS, charge_sleepily, b, sizeof(*b));
	assert_int_equal(threads_join(&t), 0);
	assert_int_equal(budget_stats(root).waiters, 0);
	for (int i = 0; i < THREADS; i++) {
		assert_int_equal(budget_stats(b[i]).waits_total, WAKES);
		assert_int_equal(budget_stats(b[i]).waiters, 0);
		end_budget(b[i]);
	}
	end_budget(root);
}

/* B1, B4, B5: all charge at random, two in each child, as guarantees, limits
 * and shares change; one child is the other's parent. */
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
		uint64_t units = 1 + random_below(&c->seed, 6);

		if (charge(c->budget, units))
			held += units;
		if (random_below(&c->seed, 2)) {
			units = random_below(&c->seed, held + 1);
			uncharge(c->budget, units);
			held -= units;
		}
	}
	uncharge(c->budget, held);
	u32_add_seq_cst(&finished, 1);
	return NULL;
}

static bool is_above(struct seg_budget *b)
{
	uint64_t word = budget_look(b);

	return budget_word_charged(word) > budget_word_limit(word);
}

static void change(struct seg_budget *b, uint64_t *seed)
{
	int ret = seg_budget_set_guarantee(b, random_below(seed, 9) * UNIT);

	assert_true(ret == 0 || ret == -EBUSY || ret == -ERANGE);
	ret = seg_budget_set_limit(b, (8 + random_below(seed, 9)) * UNIT);
	assert_true(ret == 0 || ret == -EBUSY || ret == -ERANGE);
}

static void test_books_balance_after_all(void **state)
{
	struct seg_budget *root = new_budget(24 * UNIT), *b[3];
	uint64_t seed = random_seed(11);
	struct charger c[THREADS];
	bool above = false;
	struct threads t;

	(void)state;
	b[0] = new_child(root, 16, 4);
	b[1] = new_child(b[0], 12, 2);
	b[2] = new_child(root, 16, 2);
	for (unsigned i = 0; i < THREADS; i++)
		c[i] = (struct charger){ b[1 + i % 2], random_seed(i + 1) };
	u32_store_release(&finished, 0);
	threads_start(&t, THREADS, charge_at_random, c, sizeof(*c));
	while (u32_load_acquire(&finished) < THREADS) {
		change(b[random_below(&seed, 3)], &seed);
		for (int i = 0; i < 3; i++)
			above |= is_above(b[i]);
		above |= is_above(root);
	}
	assert_int_equal(threads_join(&t), 0);
	assert_false(above);
	assert_int_equal(budget_stats(b[1]).charged_bytes, 0);
	assert_int_equal(budget_stats(b[2]).charged_bytes, 0);
	assert_int_equal(budget_stats(b[0]).charged_bytes,
			 budget_stats(b[1]).guaranteed_bytes);
	assert_int_equal(budget_stats(b[0]).own_charged_bytes, 0);
	assert_int_equal(budget_stats(root).own_charged_bytes, 0);
	end_budget(b[2]);
	end_budget(b[1]);
	end_budget(b[0]);
	end_budget(root);
}

/* B4, with threads: one tenant always gets its guarantee, whole. */
static void *charge_guarantee(void *arg)
{
	struct charger *c = arg;
	void *bad = NULL;

	for (int i = 0; i < ROUNDS && !bad; i++) {
		for (int k = 0; k < 4; k++)
			if (!charge(c->budget, 1))
				bad = arg;
		if (!bad)
			uncharge(c->budget, 4);
	}
	u32_add_seq_cst(&finished, 1);
	return bad;
}

static void test_a_guarantee_is_never_refused(void **state)
{
	struct seg_budget *root = new_budget(12 * UNIT);
	struct charger c[2];
	struct threads good, greedy;

	(void)state;
	c[0] = (struct charger){ new_child(root, 8, 4), 0 };
	c[1] = (struct charger){ new_child(root, 12, 0), random_seed(5) };
	threads_start(&good, 1, charge_guarantee, &c[0], 0);
	threads_start(&greedy, 1, charge_at_random, &c[1], 0);
	assert_int_equal(threads_join(&good), 0);
	assert_int_equal(threads_join(&greedy), 0);
	end_budget(c[0].budget);
	end_budget(c[1].budget);
	end_budget(root);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_create_refuses_bad_children),
		cmocka_unit_test(test_trees_have_a_depth),
		cmocka_unit_test(test_a_guarantee_is_paid_for),
		cmocka_unit_test(test_what_is_borrowed_is_charged_above),
		cmocka_unit_test(test_a_guarantee_can_be_had),
		cmocka_unit_test(test_three_levels),
		cmocka_unit_test(test_guarantees_change),
		cmocka_unit_test(
			test_raising_a_guarantee_succeeds_or_changes_nothing),
		cmocka_unit_test(test_limits_of_children_change),
		cmocka_unit_test(test_shares_change),
		cmocka_unit_test(test_a_parent_outlives_its_children),
		cmocka_unit_test(test_siblings_wake_each_other),
		cmocka_unit_test(test_books_balance_after_all),
		cmocka_unit_test(test_a_guarantee_is_never_refused),
	};

	return run_group(tests);
}
