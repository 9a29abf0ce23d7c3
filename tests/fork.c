/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * P11: fork, as seg(7) states it.  Parent and child go on, each with its copy,
 * and each with a thread of the library that gives idle memory back.
 * A child can't use cmocka's assertions: it fails by require().
 */
#include "pools.h"

enum { OTHERS = 4 };

/* What the parent has out when it forks. */
struct scene {
	struct seg_budget *budget;
	struct seg_pool *pool;
	struct seg_page *page;
	struct seg_txlog *log;
	char *segment;
};

static struct scene scene_begin(unsigned decay_ms)
{
	const size_t bytes[] = { 60000, 1 };
	struct scene s = { .budget = new_budget(64 * MIB) };
	struct seg_page *logged;

	s.pool = make_pool_with((struct seg_pool_options){
		.budget = s.budget, .decay_ms = decay_ms });
	s.segment = seg_alloc(s.pool, SEG_MAX_BYTES);
	assert_non_null(s.segment);
	memset(s.segment, 'p', SEG_MAX_BYTES);
	assert_int_equal(seg_page_create(s.pool, bytes, 2, &s.page), 0);
	assert_int_equal(seg_page_create(s.pool, bytes, 2, &logged), 0);
	assert_int_equal(seg_txlog_create(s.pool, NULL, &s.log), 0);
	assert_int_equal(seg_txlog_put(s.log, 1, logged, NULL), 0);
	return s;
}

static void alloc_and_release_each_class(struct seg_pool *pool)
{
	for (int c = 0; c < SEG_CLASSES; c++) {
		void *segment = seg_alloc(pool, slice_of(c));

		require(segment && seg_size(pool, segment) == slice_of(c));
		require(seg_release(pool, segment) == 0);
	}
}

static void release_all(struct scene *s)
{
	require(s->segment[0] == 'p' && s->segment[SEG_MAX_BYTES - 1] == 'p');
	require(seg_release(s->pool, s->segment) == 0);
	require(seg_page_release(s->page) == 0);
	seg_txlog_destroy(s->log);
	require(figures(s->pool, SEG_ALL).active == 0);
}

/* By either: as far as the budget. */
static void scene_end(struct scene *s)
{
	release_all(s);
	require(seg_pool_trim(s->pool, NULL) == 0);
	require(charged(s->budget) == 0);
	require(seg_pool_is_valid(s->pool));
	require(seg_pool_destroy(s->pool) == 0);
	require(seg_budget_destroy(s->budget) == 0);
}

static int child_uses_all(void *ctx)
{
	struct scene *s = ctx;
	struct seg_pool *more;
	struct seg_pool_options o = { .size = sizeof(o),
				      .budget = s->budget };

	require(seg_pool_is_valid(s->pool));
	alloc_and_release_each_class(s->pool);
	require(seg_pool_create(&o, &more) == 0);
	alloc_and_release_each_class(more);
	require(seg_pool_destroy(more) == 0);
	memset(s->segment + 1, 'c', 100);
	scene_end(s);
	return 0;
}

static void test_both_go_on(void **state)
{
	struct scene s = scene_begin(600000);

	(void)state;
	for (int i = 0; i < 5; i++)
		assert_int_equal(run_in_child(child_uses_all, &s), 0);
	assert_int_equal(s.segment[1], 'p');
	alloc_and_release_each_class(s.pool);
	assert_true(seg_pool_is_valid(s.pool));
	scene_end(&s);
}

/* P3, in the child: nobody but its own keeper unmaps. */
static int child_decays(void *ctx)
{
	struct scene *s = ctx;

	alloc_and_release_each_class(s->pool);
	release_all(s);
	wait_until(charged(s->budget) == 0);
	require(figures(s->pool, SEG_ALL).mapped_bytes == 0);
	require(seg_pool_is_valid(s->pool));
	require(seg_pool_destroy(s->pool) == 0);
	return 0;
}

static void test_the_child_gives_back_by_itself(void **state)
{
	struct scene s = scene_begin(20);

	(void)state;
	assert_int_equal(run_in_child(child_decays, &s), 0);
	release_all(&s);
	wait_until(charged(s.budget) == 0);
	end_both(s.pool, s.budget);
}

/* What is cold and what is charged is as in the parent, and the child's own:
 * it discards and charges its own copies. */
static int child_drains(void *ctx)
{
	struct scene *s = ctx;
	struct seg_drain d = { .size = sizeof(d) };
	uint64_t before = charged(s->budget);

	require(seg_pool_is_valid(s->pool));
	require(charged(s->budget) == figures(s->pool, SEG_ALL).charged_bytes);
	alloc_and_release_each_class(s->pool);
	require(seg_pool_drain(s->pool, 0, &d) == 0);
	require(d.kept_bytes == d.active_bytes);
	require(charged(s->budget) == before);
	return child_uses_all(ctx);
}

static void test_the_child_decommits_by_itself(void **state)
{
	struct scene s = scene_begin(600000);
	struct seg_drain d = { .size = sizeof(d) };

	(void)state;
	assert_int_equal(seg_pool_drain(s.pool, 0, &d), 0);
	assert_true(d.decommitted_bytes > 0);
	assert_int_equal(run_in_child(child_drains, &s), 0);
	assert_int_equal(charged(s.budget), d.kept_bytes);
	assert_int_equal(s.segment[1], 'p');
	alloc_and_release_each_class(s.pool);
	assert_true(seg_pool_is_valid(s.pool));
	scene_end(&s);
}

static int child_forks(void *ctx)
{
	require(run_in_child(child_decays, ctx) == 0);
	return child_decays(ctx);
}

static void test_a_grandchild(void **state)
{
	struct scene s = scene_begin(20);

	(void)state;
	assert_int_equal(run_in_child(child_forks, &s), 0);
	scene_end(&s);
}

/* The limit's waiters are woken in the child, too. */
static int child_fills_the_budget(void *ctx)
{
	struct scene *s = ctx;
	void *other;

	release_all(s);
	require(seg_pool_trim(s->pool, NULL) == 0);
	require(seg_budget_set_limit(s->budget, SEG_MAX_BYTES) == 0);
	for (int c = 0; c < SEG_CLASSES; c++) {
		other = alloc_patiently(s->pool, slice_of(c));
		require(other && seg_release(s->pool, other) == 0);
	}
	require(seg_pool_destroy(s->pool) == 0);
	return 0;
}

static void test_the_child_at_the_limit(void **state)
{
	struct scene s = scene_begin(600000);

	(void)state;
	assert_int_equal(run_in_child(child_fills_the_budget, &s), 0);
	scene_end(&s);
}

/* Threads with segments, outside of any call. */
struct parked {
	struct seg_pool *pool;
	sem_t *parked, *go;
	void *segment;
};

static void *park(void *arg)
{
	struct parked *p = arg;

	p->segment = seg_alloc(p->pool, 1);
	require(p->segment);
	sem_post(p->parked);
	wait_for(p->go);
	require(seg_release(p->pool, p->segment) == 0);
	return NULL;
}

struct crowd {
	struct scene scene;
	struct parked parked[OTHERS];
};

static int child_of_a_crowd(void *ctx)
{
	struct crowd *crowd = ctx;
	struct seg_pool *pool = crowd->scene.pool;

	alloc_and_release_each_class(pool);
	require(seg_pool_is_valid(pool));
	require(seg_pool_destroy(pool) == -EBUSY);
	require(figures(pool, 0).active == OTHERS + 2);
	for (int i = 0; i < OTHERS; i++)
		require(!seg_release(pool, crowd->parked[i].segment));
	scene_end(&crowd->scene);
	return 0;
}

static void test_threads_that_are_parked(void **state)
{
	struct crowd crowd = { .scene = scene_begin(600000) };
	struct threads threads;
	sem_t parked, go;

	(void)state;
	sem_init(&parked, 0, 0);
	sem_init(&go, 0, 0);
	for (int i = 0; i < OTHERS; i++)
		crowd.parked[i] = (struct parked){ crowd.scene.pool, &parked,
						   &go, NULL };
	threads_start(&threads, OTHERS, park, crowd.parked,
		      sizeof(*crowd.parked));
	for (int i = 0; i < OTHERS; i++)
		wait_for(&parked);
	assert_int_equal(run_in_child(child_of_a_crowd, &crowd), 0);
	for (int i = 0; i < OTHERS; i++)
		sem_post(&go);
	assert_int_equal(threads_join(&threads), 0);
	scene_end(&crowd.scene);
	sem_destroy(&parked);
	sem_destroy(&go);
}

/* Threads that go on in the parent while it forks. */
struct busy {
	struct seg_pool *pool;
	sem_t *began, *stop;
};

static void *keep_busy(void *arg)
{
	struct busy *busy = arg;

	alloc_and_release_each_class(busy->pool);
	sem_post(busy->began);
	while (sem_trywait(busy->stop))
		alloc_and_release_each_class(busy->pool);
	return NULL;
}

/* How far the others had come is unknown: no walk, no destroy. */
static int child_of_busy_threads(void *ctx)
{
	struct scene *s = ctx;

	alloc_and_release_each_class(s->pool);
	require(s->segment[0] == 'p');
	require(seg_release(s->pool, s->segment) == 0);
	require(seg_pool_trim(s->pool, NULL) == 0);
	alloc_and_release_each_class(s->pool);
	return 0;
}

/* In the middle of their first calls they may have memory that nothing but
 * their stacks leads to: in the child, which does not have these, memcheck
 * would say that it is lost. */
static void test_threads_that_allocate_meanwhile(void **state)
{
	struct scene s = scene_begin(5);
	struct busy busy[2];
	struct threads threads;
	sem_t began, stop;

	(void)state;
	sem_init(&began, 0, 0);
	sem_init(&stop, 0, 0);
	for (int i = 0; i < 2; i++)
		busy[i] = (struct busy){ s.pool, &began, &stop };
	threads_start(&threads, 2, keep_busy, busy, sizeof(*busy));
	for (int i = 0; i < 2; i++)
		wait_for(&began);
	for (int i = 0; i < 15; i++)
		assert_int_equal(run_in_child(child_of_busy_threads, &s), 0);
	sem_post(&stop);
	sem_post(&stop);
	assert_int_equal(threads_join(&threads), 0);
	scene_end(&s);
	sem_destroy(&began);
	sem_destroy(&stop);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_both_go_on),
		cmocka_unit_test(test_the_child_decommits_by_itself),
		cmocka_unit_test(test_the_child_gives_back_by_itself),
		cmocka_unit_test(test_a_grandchild),
		cmocka_unit_test(test_the_child_at_the_limit),
		cmocka_unit_test(test_threads_that_are_parked),
		cmocka_unit_test(test_threads_that_allocate_meanwhile),
	};

#ifdef SEG_TSAN
	/* It does not follow a child that has threads. */
	return TESTING_SKIPPED;
#endif
	if (emulated("a child of several threads can start none"))
		return TESTING_SKIPPED;
	return run_group(tests);
}
