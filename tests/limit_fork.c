/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * Fork while other threads are at the limit: those that wait and those that are
 * in a reclaimer are not there in the child, which goes on without them.
 */
#include "limits.h"

#include "one_node.h"
#include "pool.h"

static int child_of_waiters(void *ctx)
{
	struct pair *p = ctx;
	void *segment;

	require(!alloc_without_wait(p->waits, 1));
	require(seg_release(p->holds, p->held[0]) == 0);
	segment = alloc_patiently(p->waits, SEG_MAX_BYTES);
	require(segment && seg_release(p->waits, segment) == 0);
	require(seg_pool_destroy(p->waits) == 0);
	require(seg_release(p->holds, p->held[1]) == 0);
	require(seg_pool_is_valid(p->holds));
	require(seg_pool_destroy(p->holds) == 0);
	require(charged(p->budget) == 0);
	require(seg_budget_destroy(p->budget) == 0);
	return 0;
}

static void test_fork_while_others_wait(void **state)
{
	struct pair p;
	struct waiter w[2];

	(void)state;
	pair_begin(&p);
	for (int i = 0; i < 2; i++)
		waiter_start(&w[i], p.waits, SEG_MAX_BYTES);
	wait_until(budget_stats(p.budget).waiters == 2);
	assert_int_equal(run_in_child(child_of_waiters, &p), 0);
	for (int i = 0; i < 2; i++)
		assert_int_equal(seg_release(p.holds, p.held[i]), 0);
	waiter_is_served(&w[0]);
	waiter_is_served(&w[1]);
	pair_end(&p);
}

/* In the child none is asked, and each can be removed, whatever it was in the
 * middle of. */
struct stopped {
	struct scene scene;
	sem_t inside, go_on;
};

static uint64_t stop_inside(void *ctx, uint64_t bytes)
{
	struct stopped *s = ctx;

	(void)bytes;
	sem_post(&s->inside);
	wait_for(&s->go_on);
	return 0;
}

static int child_of_asked(void *ctx)
{
	struct stopped *s = ctx;

	require(!alloc_without_wait(s->scene.pool, SMALL));
	require(s->scene.h.calls == 0);
	require(!seg_budget_remove_reclaimer(s->scene.budget, stop_inside, s));
	require(!take_out(s->scene.budget, &s->scene.h));
	require(!add(s->scene.budget, &s->scene.h, 0));
	require(alloc_without_wait(s->scene.pool, SMALL));
	require(s->scene.h.calls == 1);
	return 0;
}

static void *be_asked(void *arg)
{
	struct stopped *s = arg;
	void *segment = alloc_without_wait(s->scene.pool, SMALL);

	require(segment && seg_release(s->scene.pool, segment) == 0);
	return NULL;
}

static void test_fork_while_another_asks(void **state)
{
	struct seg_reclaimer_options o = { .size = sizeof(o),
					   .fn = stop_inside, .priority = 1 };
	struct stopped s;
	struct threads t;

	(void)state;
	scene_begin(&s.scene, SEG_NO_WAIT);
	sem_init(&s.inside, 0, 0);
	sem_init(&s.go_on, 0, 0);
	o.ctx = &s;
	assert_int_equal(seg_budget_add_reclaimer(s.scene.budget, &o), 0);
	threads_start(&t, 1, be_asked, &s, 0);
	wait_for(&s.inside);
	assert_int_equal(run_in_child(child_of_asked, &s), 0);
	sem_post(&s.go_on);
	assert_int_equal(threads_join(&t), 0);
	assert_int_equal(seg_budget_remove_reclaimer(s.scene.budget,
						     stop_inside, &s), 0);
	scene_end(&s.scene);
	sem_destroy(&s.inside);
	sem_destroy(&s.go_on);
}

/* Else each allocation of the class that finds no slice would wait for it. */
static int child_of_mapping(void *ctx)
{
	struct seg_pool *pool = ctx;

	for (int c = 0; c < SEG_CLASSES; c++)
		require(class_pool_begin_open(&pool->node.pools[c]));
	return 0;
}

static void test_fork_while_others_map(void **state)
{
	struct seg_budget *b = new_budget(MIB);
	struct seg_pool *pool = make_pool(b);

	(void)state;
	for (int c = 0; c < SEG_CLASSES; c++)
		assert_true(class_pool_begin_open(&pool->node.pools[c]));
	assert_int_equal(run_in_child(child_of_mapping, pool), 0);
	for (int c = 0; c < SEG_CLASSES; c++)
		class_pool_end_open(&pool->node.pools[c]);
	end_both(pool, b);
}

/* The same with a reclaimer of a child budget, asked by a sibling: in the child
 * of the fork that budget is used, asked and destroyed as any other. */
struct tenants {
	struct seg_budget *root, *asker, *asked;
	struct seg_pool *pool;		/* of the asker */
	struct stopped s;		/* all memory of the root */
};

static struct seg_budget *tenant_of(struct seg_budget *parent)
{
	struct seg_budget_options o = { .size = sizeof(o), .parent = parent,
					.limit_bytes = MOST * SMALL };
	struct seg_budget *b = NULL;

	require(seg_budget_create(&o, &b) == 0);
	return b;
}

static int child_of_tenants(void *ctx)
{
	struct tenants *t = ctx;
	struct holder *h = &t->s.scene.h;
	void *segment;

	require(!seg_budget_remove_reclaimer(t->asked, stop_inside, &t->s));
	require(!add(t->asked, h, 0));
	segment = alloc_without_wait(t->pool, SMALL);
	require(segment && h->calls == 1);
	require(!seg_release(t->pool, segment));
	require(!take_out(t->asked, h));
	while (h->count)
		require(!seg_release(h->pool, h->held[--h->count]));
	require(!seg_pool_destroy(h->pool));
	require(!seg_budget_destroy(t->asked));
	return 0;
}

static void *ask_a_sibling(void *arg)
{
	struct tenants *t = arg;

	require(!alloc_without_wait(t->pool, SMALL));
	return NULL;
}

static void tenants_begin(struct tenants *t)
{
	struct seg_reclaimer_options o = { .size = sizeof(o),
					   .fn = stop_inside, .ctx = &t->s };
	struct seg_pool_options p = { .wait_ms = SEG_NO_WAIT,
				      .decay_ms = 600000 };
	struct holder *h = &t->s.scene.h;

	*t = (struct tenants){ .root = new_budget(MOST * SMALL) };
	t->asker = p.budget = tenant_of(t->root);
	t->pool = make_pool_with(p);
	t->asked = p.budget = tenant_of(t->root);
	h->pool = make_pool_with(p);
	while (h->count < MOST)
		h->held[h->count++] = alloc_patiently(h->pool, SMALL);
	sem_init(&t->s.inside, 0, 0);
	sem_init(&t->s.go_on, 0, 0);
	assert_int_equal(seg_budget_add_reclaimer(t->asked, &o), 0);
}

static void tenants_end(struct tenants *t)
{
	struct holder *h = &t->s.scene.h;

	assert_int_equal(seg_budget_remove_reclaimer(t->asked, stop_inside,
						     &t->s), 0);
	while (h->count)
		assert_int_equal(seg_release(h->pool, h->held[--h->count]), 0);
	end_both(h->pool, t->asked);
	end_both(t->pool, t->asker);
	assert_int_equal(seg_budget_destroy(t->root), 0);
	sem_destroy(&t->s.inside);
	sem_destroy(&t->s.go_on);
}

static void test_fork_while_a_tenant_is_asked(void **state)
{
	struct tenants t;
	struct threads thread;

	(void)state;
	tenants_begin(&t);
	threads_start(&thread, 1, ask_a_sibling, &t, 0);
	wait_for(&t.s.inside);
	assert_int_equal(run_in_child(child_of_tenants, &t), 0);
	for (int i = 0; i < MOST; i++)
		sem_post(&t.s.go_on);
	assert_int_equal(threads_join(&thread), 0);
	tenants_end(&t);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_fork_while_others_wait),
		cmocka_unit_test(test_fork_while_another_asks),
		cmocka_unit_test(test_fork_while_a_tenant_is_asked),
		cmocka_unit_test(test_fork_while_others_map),
	};

#ifdef SEG_TSAN
	/* It does not follow a child that has threads. */
	return TESTING_SKIPPED;
#endif
	if (emulated("a child of several threads can start none"))
		return TESTING_SKIPPED;
	return run_group(tests);
}
