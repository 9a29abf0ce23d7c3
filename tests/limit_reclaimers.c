/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * The rules of the reclaim contract about who is asked: the application's
 * reclaimers, good ones and bad ones.
 */
#include "limits.h"

#include "one_node.h"
#include "os.h"

/* Of a large class, too, since what is given back is decommitted. */
static void test_what_is_needed_is_asked_for(void **state)
{
	struct scene s;

	(void)state;
	for (int c = 0; c <= 5; c++) {
		void *segment;

		scene_begin(&s, SEG_NO_WAIT);
		segment = seg_alloc(s.pool, slice_of(c));
		assert_non_null(segment);
		assert_true(s.h.asked_for >= slice_of(c));
		assert_int_equal(s.h.count, MOST - slice_of(c) / SMALL);
		assert_true(charged(s.budget) <= MOST * SMALL);
		assert_int_equal(seg_release(s.pool, segment), 0);
		scene_end(&s);
	}
}

static void test_asked_by_priority(void **state)
{
	const int64_t priority[] = { 0, -1000, 1000, 7, 0, 7 };
	const int place[] = { 4, 5, 0, 2, 3, 1 };
	struct holder h[6], *order[6], **next = order;
	struct scene s;

	(void)state;
	scene_begin(&s, SEG_NO_WAIT);
	assert_int_equal(take_out(s.budget, &s.h), 0);
	memset(h, 0, sizeof(h));
	for (int i = 0; i < 6; i++) {
		h[i].order = &next;
		assert_int_equal(add(s.budget, &h[i], priority[i]), 0);
	}
	assert_null(seg_alloc(s.pool, SMALL));
	assert_ptr_equal(next, order + 6);
	for (int i = 0; i < 6; i++) {
		assert_ptr_equal(order[place[i]], &h[i]);
		assert_int_equal(take_out(s.budget, &h[i]), 0);
	}
	assert_int_equal(add(s.budget, &s.h, 0), 0);
	scene_end(&s);
}

static uint64_t add_inside(void *ctx, uint64_t bytes)
{
	struct scene *s = ctx;
	struct holder other = { .pool = s->pool };

	(void)bytes;
	require(add(s->budget, &other, 0) == -EDEADLK);
	require(seg_budget_remove_reclaimer(s->budget, add_inside, s) ==
		-EDEADLK);
	return 0;
}

static void test_errors_of_add_and_remove(void **state)
{
	struct seg_reclaimer_options o = { .size = sizeof(o) };
	struct holder other = { .count = 0 };
	struct scene s;

	(void)state;
	scene_begin(&s, SEG_NO_WAIT);
	assert_int_equal(seg_budget_add_reclaimer(NULL, &o), -EINVAL);
	assert_int_equal(seg_budget_add_reclaimer(s.budget, NULL), -EINVAL);
	assert_int_equal(seg_budget_add_reclaimer(s.budget, &o), -EINVAL);
	o.fn = add_inside;
	o.ctx = &s;
	o.name = "123456789012345678901234";
	assert_int_equal(seg_budget_add_reclaimer(s.budget, &o), -EINVAL);
	o.name = "12345678901234567890123";
	o.priority = 1001;
	assert_int_equal(seg_budget_add_reclaimer(s.budget, &o), -ERANGE);
	o.priority = -1001;
	assert_int_equal(seg_budget_add_reclaimer(s.budget, &o), -ERANGE);
	o.priority = -1000;
	o.size = 8;
	assert_int_equal(seg_budget_add_reclaimer(s.budget, &o), -EINVAL);
	o.size = sizeof(o);
	assert_int_equal(seg_budget_add_reclaimer(s.budget, &o), 0);
	assert_int_equal(seg_budget_add_reclaimer(s.budget, &o), -EEXIST);
	assert_int_equal(budget_stats(s.budget).reclaimers, 2);
	assert_int_equal(budget_stats(s.budget).caches, 0);
	s.h.keeps = true;
	assert_null(seg_alloc(s.pool, SMALL));
	assert_int_equal(seg_budget_remove_reclaimer(NULL, o.fn, o.ctx),
			 -EINVAL);
	assert_int_equal(seg_budget_remove_reclaimer(s.budget, NULL, o.ctx),
			 -EINVAL);
	assert_int_equal(take_out(s.budget, &other), -ENOENT);
	seg_read_begin();
	assert_int_equal(take_out(s.budget, &s.h), -EDEADLK);
	seg_read_end();
	assert_int_equal(seg_budget_remove_reclaimer(s.budget, o.fn, o.ctx),
			 0);
	assert_int_equal(seg_budget_remove_reclaimer(s.budget, o.fn, o.ctx),
			 -ENOENT);
	scene_end(&s);
}

static void test_a_budget_with_a_reclaimer_stays(void **state)
{
	struct seg_budget *b = new_budget(MIB);
	struct holder h = { .count = 0 };

	(void)state;
	assert_int_equal(add(b, &h, 1), 0);
	assert_int_equal(seg_budget_destroy(b), -EBUSY);
	assert_int_equal(take_out(b, &h), 0);
	end_budget(b);
}

/* Inside, what is there is had, and nobody is asked. */
static void test_recursion(void **state)
{
	struct seg_refusal r = { .size = sizeof(r) };
	struct scene s;
	void *segment;

	(void)state;
	scene_begin(&s, SEG_NO_WAIT);
	s.h.alloc_inside = SMALL;
	segment = seg_alloc(s.pool, SMALL);
	assert_non_null(segment);
	assert_int_equal(s.h.served_inside, s.h.calls);
	assert_int_equal(s.h.deepest, 1);
	s.h.keeps = true;
	s.h.served_inside = 0;
	assert_null(seg_alloc(s.pool, SMALL));
	assert_int_equal(s.h.served_inside, 0);
	assert_int_equal(s.h.deepest, 1);
	assert_int_equal(seg_pool_last_refusal(s.pool, &r), 0);
	assert_int_equal(r.reason, SEG_REFUSED_INSIDE);
	assert_int_equal(r.asks, 0);
	assert_int_equal(seg_release(s.pool, segment), 0);
	scene_end(&s);
}

/* Though the pool says to wait for a quarter of an hour. */
static void test_recursion_does_not_wait(void **state)
{
	struct scene s;
	struct timespec soon;

	(void)state;
	scene_begin(&s, 1000000);
	s.h.keeps = true;
	s.h.alloc_inside = SMALL;
	/* A slow machine is past a short deadline before it waits at all. */
	for (unsigned ms = 20; !budget_stats(s.budget).waits_total; ms *= 2) {
		assert_true(ms < 1000 * PATIENCE_S);
		soon = monotonic_in(0, ms);
		assert_null(seg_alloc_until(s.pool, SMALL, &soon));
	}
	assert_true(s.h.calls > 0);
	assert_int_equal(s.h.deepest, 1);
	assert_int_equal(s.h.served_inside, 0);
	assert_int_equal(budget_stats(s.budget).waits_total, 1);
	scene_end(&s);
}

/* It is asked by who has nothing else, and refusal is all it can lead to; and
 * whenever a rest of 10 ms is over. */
static void test_one_that_frees_nothing(void **state)
{
	uint64_t began_ns = os_now_ns();
	struct scene s;

	(void)state;
	scene_begin(&s, SEG_NO_WAIT);
	s.h.keeps = true;
	for (unsigned i = 1; i <= 20; i++) {
		assert_null(seg_alloc(s.pool, SMALL));
		assert_in_range(s.h.calls, i, 2 * i +
				(os_now_ns() - began_ns) / 10000000);
	}
	scene_end(&s);
}

/* As long as another gives, it is left alone but for once in a while. */
static void test_one_that_frees_nothing_is_skipped(void **state)
{
	struct holder useless = { .keeps = true };
	struct scene s;

	(void)state;
	scene_begin(&s, SEG_NO_WAIT);
	assert_int_equal(add(s.budget, &useless, 1000), 0);
	for (int i = 0; i < 1000; i++) {
		void *segment = seg_alloc(s.pool, SMALL);

		require(segment && s.h.count < MOST);
		s.h.held[s.h.count++] = segment;
	}
	assert_int_equal(s.h.calls, 1000);
	assert_true(useless.calls >= 2 && useless.calls < 500);
	assert_int_equal(take_out(s.budget, &useless), 0);
	scene_end(&s);
}

/* What it releases it takes again at once, and says that it gave. */
static void test_one_that_throws_its_work_away(void **state)
{
	struct timespec soon;
	struct scene s;

	(void)state;
	scene_begin(&s, SEG_NO_WAIT);
	s.h.lies = true;
	assert_null(seg_alloc(s.pool, SMALL));
	assert_true(s.h.calls >= 1 && s.h.calls <= 4);
	assert_int_equal(s.h.count, MOST);
	soon = monotonic_in(0, 20);
	assert_null(seg_alloc_until(s.pool, SMALL, &soon));
	assert_true(monotonic_is_past(&soon));
	assert_int_equal(s.h.count, MOST);
	s.h.lies = false;
	scene_end(&s);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_what_is_needed_is_asked_for),
		cmocka_unit_test(test_asked_by_priority),
		cmocka_unit_test(test_errors_of_add_and_remove),
		cmocka_unit_test(test_a_budget_with_a_reclaimer_stays),
		cmocka_unit_test(test_recursion),
		cmocka_unit_test(test_recursion_does_not_wait),
		cmocka_unit_test(test_one_that_frees_nothing),
		cmocka_unit_test(test_one_that_frees_nothing_is_skipped),
		cmocka_unit_test(test_one_that_throws_its_work_away),
	};

	return run_group(tests);
}
