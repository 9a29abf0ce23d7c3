/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * lib/reclaim.h, and caches as reclaimers of their budget: at the limit they
 * give back what is needed, and not below their floor; without need, nothing.
 */
#include "caches.h"

#include "reclaim.h"

enum { ASKS = 1000 };

/* ---- the list, with reclaimers of our own ---- */

static struct reclaimers all;

static uint64_t ask(uint64_t bytes)
{
	return reclaim_ask(&all, bytes, RECLAIM_WILLING);
}

struct giver {
	struct reclaimer reclaimer;	/* first */
	uint64_t gives, calls, asked_for;
	bool asks;			/* again, from inside */
	uint64_t got_inside;
	bool pauses;
	sem_t inside, go_on;
};

static uint64_t give(struct reclaimer *r, uint64_t bytes)
{
	struct giver *g = (struct giver *)r;

	g->calls++;
	g->asked_for = bytes;
	if (g->asks)
		g->got_inside += ask(bytes);
	if (g->pauses) {
		sem_post(&g->inside);
		wait_for(&g->go_on);
	}
	return g->gives;
}

static void report(struct reclaimer *r, struct seg_refusal *refusal,
		   struct pin_sums *pins)
{
	(void)r;
	(void)pins;
	refusal->cache_weight++;
}

static void giver_join(struct giver *g, uint64_t gives)
{
	*g = (struct giver){ .gives = gives };
	g->reclaimer.give = give;
	g->reclaimer.report = report;
	sem_init(&g->inside, 0, 0);
	sem_init(&g->go_on, 0, 0);
	reclaim_join(&all, &g->reclaimer);
}

static void giver_leave(struct giver *g)
{
	reclaim_leave(&all, &g->reclaimer);
	sem_destroy(&g->inside);
	sem_destroy(&g->go_on);
}

static void test_nobody_to_ask(void **state)
{
	(void)state;
	assert_int_equal(ask(100), 0);
	assert_int_equal(u64_load_relaxed(&all.count), 0);
}

static void test_asked_until_it_is_enough(void **state)
{
	struct giver a, b, c;

	(void)state;
	giver_join(&a, 50);
	giver_join(&b, 50);
	giver_join(&c, 50);
	assert_int_equal(u64_load_relaxed(&all.count), 3);
	assert_int_equal(ask(80), 100);
	assert_int_equal(a.calls + b.calls + c.calls, 2);
	assert_int_equal(ask(1), 50);
	assert_int_equal(a.calls + b.calls + c.calls, 3);
	assert_int_equal(ask(1000), 150);
	assert_int_equal(a.calls + b.calls + c.calls, 6);
	giver_leave(&b);
	assert_int_equal(ask(1000), 100);
	giver_leave(&a);
	giver_leave(&c);
	assert_int_equal(u64_load_relaxed(&all.count), 0);
}

/* Each is asked for what the ones before did not give. */
static void test_asked_for_the_rest(void **state)
{
	struct giver a, b;

	(void)state;
	giver_join(&a, 30);
	giver_join(&b, 30);
	assert_int_equal(ask(100), 60);
	assert_int_equal(a.asked_for + b.asked_for, 170);
	giver_leave(&a);
	giver_leave(&b);
}

/* R3 */
static void test_who_is_asked_asks_nobody(void **state)
{
	struct giver a, b;

	(void)state;
	giver_join(&a, 10);
	giver_join(&b, 10);
	a.asks = b.asks = true;
	assert_int_equal(ask(100), 20);
	assert_int_equal(a.calls, 1);
	assert_int_equal(b.calls, 1);
	assert_int_equal(a.got_inside + b.got_inside, 0);
	a.asks = b.asks = false;
	assert_int_equal(ask(100), 20);
	giver_leave(&a);
	giver_leave(&b);
}

/* R4: most of the time; it is asked again after a while. */
static void test_who_has_nothing_is_left_alone(void **state)
{
	struct giver a, b;

	(void)state;
	giver_join(&a, 0);
	giver_join(&b, 10);
	for (int i = 0; i < ASKS; i++)
		assert_int_equal(ask(100), 10);
	assert_int_equal(b.calls, ASKS);
	assert_true(a.calls >= 2 && a.calls < ASKS / 2);
	a.gives = 5;
	wait_until(ask(100) == 15);
	assert_int_equal(ask(100), 15);
	giver_leave(&a);
	giver_leave(&b);
}

static void test_a_report_asks_all(void **state)
{
	struct seg_refusal refusal = { .size = sizeof(refusal) };
	struct giver a, b;

	(void)state;
	giver_join(&a, 0);
	giver_join(&b, 0);
	reclaim_report(&all, &refusal, NULL);
	assert_int_equal(refusal.cache_weight, 2);
	giver_leave(&a);
	giver_leave(&b);
}

/* R1 */
struct leaver {
	struct giver *giver;
	sem_t left;
};

static void *ask_for_some(void *arg)
{
	(void)arg;
	ask(1);
	return NULL;
}

static void *leave_it(void *arg)
{
	struct leaver *l = arg;

	reclaim_leave(&all, &l->giver->reclaimer);
	sem_post(&l->left);
	return NULL;
}

static void test_leaving_waits_for_the_call_that_runs(void **state)
{
	struct giver a;
	struct leaver l = { .giver = &a };
	struct threads asker, leaver;

	(void)state;
	sem_init(&l.left, 0, 0);
	giver_join(&a, 1);
	a.pauses = true;
	threads_start(&asker, 1, ask_for_some, NULL, 0);
	wait_for(&a.inside);
	threads_start(&leaver, 1, leave_it, &l, 0);
	assert_false(happens_soon(&l.left));
	/* Whoever asks now does not get in any more. */
	wait_until(u32_load_acquire(&a.reclaimer.word) & 1);
	assert_int_equal(ask(1), 0);
	sem_post(&a.go_on);
	assert_int_equal(threads_join(&asker), 0);
	assert_int_equal(threads_join(&leaver), 0);
	assert_int_equal(a.calls, 1);
	sem_destroy(&l.left);
	sem_destroy(&a.inside);
	sem_destroy(&a.go_on);
}

static void test_left_and_joined_again(void **state)
{
	struct giver a;

	(void)state;
	giver_join(&a, 7);
	reclaim_leave(&all, &a.reclaimer);
	assert_int_equal(ask(1), 0);
	reclaim_join(&all, &a.reclaimer);
	assert_int_equal(ask(1), 7);
	giver_leave(&a);
	assert_int_equal(a.calls, 1);
}

struct comer {
	uint64_t turns;
};

/* Of several threads at once; what it gives is in it. */
static uint64_t give_what_is_there(struct reclaimer *r, uint64_t bytes)
{
	(void)bytes;
	return ((struct giver *)r)->gives;
}

static void *come_and_go(void *arg)
{
	struct comer *c = arg;

	for (uint64_t i = 0; i < c->turns; i++) {
		struct giver g = { .gives = 1 };

		g.reclaimer.give = give_what_is_there;
		reclaim_join(&all, &g.reclaimer);
		require(ask(100) > 0);
		reclaim_leave(&all, &g.reclaimer);
		memset(&g, 0, sizeof(g));
	}
	return NULL;
}

static void *ask_all_the_time(void *arg)
{
	struct comer *c = arg;

	for (uint64_t i = 0; i < 50 * c->turns; i++)
		ask(100);
	return NULL;
}

/* On the stack of threads: who is called after it left is seen by ASan. */
static void test_they_come_and_go_while_asked(void **state)
{
	struct comer c = { .turns = 100 };
	struct threads comers, askers;

	(void)state;
	threads_start(&askers, 1, ask_all_the_time, &c, 0);
	threads_start(&comers, 3, come_and_go, &c, 0);
	assert_int_equal(threads_join(&comers), 0);
	assert_int_equal(threads_join(&askers), 0);
	assert_int_equal(u64_load_relaxed(&all.count), 0);
	assert_null(ptr_load_relaxed(&all.first));
}

/* ---- caches ---- */

enum { PAGE_BYTES = 4096, PAGES = 64 };

struct scene {
	struct seg_budget *budget;
	struct seg_pool *pool;
};

static struct scene scene_begin(int wait_ms)
{
	struct scene s = { .budget = new_budget(PAGES * PAGE_BYTES) };

	s.pool = make_pool_with((struct seg_pool_options){
		.budget = s.budget, .wait_ms = wait_ms, .decay_ms = 600000 });
	return s;
}

static struct box *cache_of(struct scene *s, uint64_t floor)
{
	return box_begin_with((struct seg_cache_options){
		.max_weight = 1 << 30, .floor_weight = floor,
		.pages = s->pool, .budget = s->budget, .name = "PageCache",
		.log_level = SEG_LOG_EVICT });
}

static struct seg_page *new_page(struct scene *s, size_t bytes)
{
	struct seg_page *page = NULL;

	require(seg_page_create(s->pool, &bytes, 1, &page) == 0);
	return page;
}

static void fill(struct scene *s, struct box *box, uint64_t pages)
{
	for (uint64_t key = 0; key < pages; key++)
		put(box->cache, key, new_page(s, PAGE_BYTES), 0);
}

static void test_without_need_nothing_goes(void **state)
{
	struct scene s = scene_begin(SEG_NO_WAIT);
	struct box *box = cache_of(&s, 0);

	(void)state;
	fill(&s, box, PAGES);
	assert_int_equal(charged(s.budget), PAGES * PAGE_BYTES);
	assert_int_equal(box_heard(box), 0);
	assert_int_equal(budget_stats(s.budget).reclaimed_bytes_total, 0);
	box_end(box);
	end_both(s.pool, s.budget);
}

static void test_an_allocation_at_the_limit_is_served(void **state)
{
	struct scene s = scene_begin(SEG_NO_WAIT);
	struct box *box = cache_of(&s, 0);
	void *segment[PAGES];

	(void)state;
	fill(&s, box, PAGES);
	for (int i = 0; i < PAGES; i++) {
		segment[i] = seg_alloc(s.pool, PAGE_BYTES);
		assert_non_null(segment[i]);
	}
	assert_int_equal(box_heard(box), PAGES);
	for (uint64_t i = 0; i < PAGES; i++)
		assert_int_equal(box->call[i].cause, SEG_CAUSE_RECLAIMED);
	assert_int_equal(cache_stats(box->cache).reclaims_total, PAGES);
	assert_int_equal(budget_stats(s.budget).reclaimed_bytes_total,
			 PAGES * PAGE_BYTES);
	assert_true(budget_stats(s.budget).reclaims_total > 0);
	assert_int_equal(recorder_has(&box->lines, "PageCache EVICT: returning "
				      "page 0, cause=RECLAIMED"), 1);
	assert_null(seg_alloc(s.pool, PAGE_BYTES));
	for (int i = 0; i < PAGES; i++)
		assert_int_equal(seg_release(s.pool, segment[i]), 0);
	box_end(box);
	end_both(s.pool, s.budget);
}

/* Of another class: regions have to go first, for which it waits. */
static void test_another_class_is_served_by_waiting(void **state)
{
	struct scene s = scene_begin(60000);
	struct box *box = cache_of(&s, 0);
	void *segment;

	(void)state;
	fill(&s, box, PAGES);
	segment = seg_alloc(s.pool, PAGES * PAGE_BYTES / 2);
	assert_non_null(segment);
	assert_true(box_heard(box) >= PAGES / 2);
	assert_true(charged(s.budget) <= PAGES * PAGE_BYTES);
	assert_int_equal(seg_release(s.pool, segment), 0);
	box_end(box);
	end_both(s.pool, s.budget);
}

/* Not by one entry below, whatever they weigh. */
static void test_never_below_the_floor(void **state)
{
	const uint64_t floors[] = { 0, 1, 10 * PAGE_BYTES,
				    10 * PAGE_BYTES + 100, 1 << 30 };

	(void)state;
	for (int f = 0; f < 5; f++) {
		struct scene s = scene_begin(SEG_NO_WAIT);
		struct box *box = cache_of(&s, floors[f]);
		void *segment[PAGES];
		unsigned got = 0;

		fill(&s, box, PAGES);
		while (got < PAGES &&
		       (segment[got] = seg_alloc(s.pool, PAGE_BYTES)) != NULL)
			got++;
		assert_true(cache_stats(box->cache).weight >= floors[f] ||
			    got == 0);
		assert_int_equal(got, box_heard(box));
		assert_true(floors[f] > PAGES * PAGE_BYTES ||
			    got >= PAGES - 1 - floors[f] / PAGE_BYTES);
		while (got > 0)
			assert_int_equal(seg_release(s.pool, segment[--got]),
					 0);
		box_end(box);
		end_both(s.pool, s.budget);
	}
}

static void test_what_is_pinned_is_not_given_back(void **state)
{
	struct scene s = scene_begin(SEG_NO_WAIT);
	struct box *box = cache_of(&s, 0);
	struct seg_pin pin[PAGES];
	void *segment;

	(void)state;
	fill(&s, box, PAGES);
	for (uint64_t i = 0; i < PAGES; i++)
		pin[i] = get(box->cache, i);
	assert_null(seg_alloc(s.pool, PAGE_BYTES));
	assert_int_equal(box_heard(box), 0);
	unpin(&pin[5]);
	/* One that gave nothing is left alone for a while. */
	wait_until((segment = seg_alloc(s.pool, PAGE_BYTES)) != NULL);
	assert_int_equal(box_heard(box), 1);
	assert_int_equal(box->call[0].key, 5);
	assert_int_equal(seg_release(s.pool, segment), 0);
	for (int i = 0; i < PAGES; i++)
		unpin(&pin[i]);
	box_end(box);
	end_both(s.pool, s.budget);
}

/* The next victim weighs more than all that may go, but is pinned. */
static void test_a_heavy_pin_is_in_nobodys_way(void **state)
{
	struct scene s = scene_begin(SEG_NO_WAIT);
	struct box *box = cache_of(&s, 0);
	void *segment[PAGES];
	struct seg_pin pin;

	(void)state;
	put(box->cache, 0, new_page(&s, PAGE_BYTES), 9 * PAGE_BYTES);
	pin = get(box->cache, 0);
	put(box->cache, 1, new_page(&s, PAGE_BYTES), 0);
	for (int i = 0; i < PAGES - 1; i++) {
		segment[i] = seg_alloc(s.pool, PAGE_BYTES);
		assert_non_null(segment[i]);
	}
	assert_int_equal(box_heard(box), 1);
	assert_int_equal(box->call[0].key, 1);
	for (int i = 0; i < PAGES - 1; i++)
		assert_int_equal(seg_release(s.pool, segment[i]), 0);
	unpin(&pin);
	box_end(box);
	end_both(s.pool, s.budget);
}

static void test_two_caches_give_back(void **state)
{
	struct scene s = scene_begin(SEG_NO_WAIT);
	struct box *a = cache_of(&s, 8 * PAGE_BYTES);
	struct box *b = cache_of(&s, 8 * PAGE_BYTES);
	void *segment[PAGES];
	unsigned got = 0;

	(void)state;
	fill(&s, a, PAGES / 2);
	fill(&s, b, PAGES / 2);
	while ((segment[got] = seg_alloc(s.pool, PAGE_BYTES)) != NULL)
		got++;
	assert_int_equal(got, PAGES - 16);
	assert_int_equal(cache_stats(a->cache).weight, 8 * PAGE_BYTES);
	assert_int_equal(cache_stats(b->cache).weight, 8 * PAGE_BYTES);
	while (got > 0)
		assert_int_equal(seg_release(s.pool, segment[--got]), 0);
	box_end(a);
	box_end(b);
	end_both(s.pool, s.budget);
}

/* Its own allocation takes what it can get, and asks nobody. */
static void alloc_inside(struct box *box, const struct heard_call *call)
{
	struct seg_pool *pool = box->also_ctx;
	void *segment = seg_alloc(pool, SEG_MAX_BYTES);

	(void)call;
	require(!segment);
}

static void test_a_listener_that_allocates(void **state)
{
	struct scene s = scene_begin(SEG_NO_WAIT);
	struct box *box = cache_of(&s, 0);
	void *segment;

	(void)state;
	fill(&s, box, PAGES);
	box->also = alloc_inside;
	box->also_ctx = s.pool;
	segment = seg_alloc(s.pool, PAGE_BYTES);
	assert_non_null(segment);
	assert_true(box_heard(box) <= PAGES / 16);
	box->also = NULL;
	assert_int_equal(seg_release(s.pool, segment), 0);
	box_end(box);
	end_both(s.pool, s.budget);
}

/* What waits for readers is on its way; it is not waited for inside. */
static void test_a_cache_with_short_reads_gives_back(void **state)
{
	struct scene s = scene_begin(60000);
	struct box *box = box_begin_with((struct seg_cache_options){
		.max_weight = 1 << 30, .pages = s.pool, .budget = s.budget,
		.short_reads = 1 });
	void *segment[PAGES];

	(void)state;
	fill(&s, box, PAGES);
	for (int i = 0; i < PAGES; i++) {
		segment[i] = seg_alloc(s.pool, PAGE_BYTES);
		assert_non_null(segment[i]);
	}
	for (int i = 0; i < PAGES; i++)
		assert_int_equal(seg_release(s.pool, segment[i]), 0);
	box_end(box);
	end_both(s.pool, s.budget);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_nobody_to_ask),
		cmocka_unit_test(test_asked_until_it_is_enough),
		cmocka_unit_test(test_asked_for_the_rest),
		cmocka_unit_test(test_who_is_asked_asks_nobody),
		cmocka_unit_test(test_who_has_nothing_is_left_alone),
		cmocka_unit_test(test_a_report_asks_all),
		cmocka_unit_test(test_leaving_waits_for_the_call_that_runs),
		cmocka_unit_test(test_left_and_joined_again),
		cmocka_unit_test(test_they_come_and_go_while_asked),
		cmocka_unit_test(test_without_need_nothing_goes),
		cmocka_unit_test(test_an_allocation_at_the_limit_is_served),
		cmocka_unit_test(test_another_class_is_served_by_waiting),
		cmocka_unit_test(test_never_below_the_floor),
		cmocka_unit_test(test_what_is_pinned_is_not_given_back),
		cmocka_unit_test(test_a_heavy_pin_is_in_nobodys_way),
		cmocka_unit_test(test_two_caches_give_back),
		cmocka_unit_test(test_a_listener_that_allocates),
		cmocka_unit_test(test_a_cache_with_short_reads_gives_back),
	};

	return run_group(tests);
}
