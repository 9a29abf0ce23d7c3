/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * lib/refusal.c (P12): the failure record says who held the memory when an
 * allocation was refused, at that moment.
 */
#include "caches.h"

#include "budget.h"
#include "json_check.h"
#include "one_node.h"

enum { PAGE_BYTES = 4096, PAGES = 64, THREADS = 4 };

static struct seg_refusal last_refusal(struct seg_pool *pool)
{
	struct seg_refusal r = { .size = sizeof(r) };

	assert_int_equal(seg_pool_last_refusal(pool, &r), 0);
	return r;
}

static void test_there_was_none(void **state)
{
	struct seg_budget *b = new_budget(MIB);
	struct seg_pool *pool = make_pool(b);
	struct seg_refusal r = { .size = sizeof(r), .bytes = 4711 };

	(void)state;
	assert_int_equal(seg_pool_last_refusal(pool, &r), -ENOENT);
	assert_int_equal(r.bytes, 4711);
	assert_int_equal(seg_pool_last_refusal(NULL, &r), -EINVAL);
	assert_int_equal(seg_pool_last_refusal(pool, NULL), -EINVAL);
	r.size = 8;
	assert_int_equal(seg_pool_last_refusal(pool, &r), -EINVAL);
	/* What is no want of memory is no refusal. */
	assert_null(seg_alloc(pool, SEG_MAX_BYTES + 1));
	r.size = sizeof(r);
	assert_int_equal(seg_pool_last_refusal(pool, &r), -ENOENT);
	end_both(pool, b);
}

static void test_segments_alone(void **state)
{
	struct seg_budget *b = new_budget(MIB);
	struct seg_pool *pool = make_pool(b);
	void *large = seg_alloc(pool, SEG_MAX_BYTES), *small;
	struct seg_refusal r;

	(void)state;
	small = seg_alloc(pool, 1);
	while (small && seg_budget_set_limit(b, charged(b)))
		;
	assert_non_null(large);
	assert_null(seg_alloc_until(pool, SEG_MAX_BYTES - 1,
				    &(struct timespec){ 0 }));
	r = last_refusal(pool);
	assert_int_equal(r.size, sizeof(r));
	assert_int_equal(r.bytes, SEG_MAX_BYTES - 1);
	assert_int_equal(r.refusals_total, 1);
	assert_int_equal(r.limit_bytes, budget_stats(b).limit_bytes);
	assert_int_equal(r.charged_bytes, charged(b));
	assert_int_equal(r.room_bytes, r.limit_bytes - r.charged_bytes);
	assert_int_equal(r.deferred_bytes, 0);
	assert_int_equal(r.active_bytes, SEG_MAX_BYTES + SEG_MIN_BYTES);
	assert_int_equal(r.active_bytes + r.unused_bytes, charged(b));
	assert_int_equal(r.unused_bytes, 0);
	assert_true(r.decommitted_bytes >= r.discarded_bytes);
	assert_true(r.discarded_bytes > 0);
	assert_int_equal(r.reason, SEG_REFUSED_IN_USE);
	assert_int_equal(r.class_index, 6);
	assert_int_equal(r.classes[6].active, SEG_MAX_BYTES);
	assert_int_equal(r.classes[0].active, SEG_MIN_BYTES);
	assert_int_equal(r.classes[0].unused, 0);
	assert_int_equal(r.classes[0].decommitted + r.classes[6].decommitted,
			 r.decommitted_bytes);
	assert_int_equal(r.holders, 1);
	assert_int_equal(r.holder[0].kind, SEG_HOLDER_POOL);
	assert_int_equal(r.holder[0].charged_bytes, r.charged_bytes);
	assert_int_equal(r.holder[0].active_bytes, r.active_bytes);
	assert_int_equal(r.reclaimers, 0);
	assert_int_equal(r.asks, 1);
	assert_int_equal(r.given_bytes, 0);
	assert_int_equal(r.waited_ns, 0);
	assert_int_equal(r.error, 0);
	assert_int_equal(r.cache_weight, 0);
	assert_int_equal(r.pinned_weight, 0);
	assert_int_equal(r.tagged_pins, 0);
	assert_int_equal(r.longest[0].tag, 0);
	assert_int_equal(r.tags[0].tag, 0);
	assert_int_equal(seg_release(pool, large), 0);
	assert_int_equal(seg_release(pool, small), 0);
	/* It stays what it was. */
	assert_int_equal(last_refusal(pool).active_bytes, r.active_bytes);
	end_both(pool, b);
}

static void test_the_wait_is_in_it(void **state)
{
	struct seg_budget *b = new_budget(SEG_MIN_BYTES);
	struct seg_pool *pool = make_pool(b);
	void *held = seg_alloc(pool, 1);
	struct timespec until;

	(void)state;
	/* A slow machine may be past it before the call looks at the clock. */
	do {
		until = monotonic_in(0, 20);
		assert_null(seg_alloc_until(pool, 1, &until));
	} while (!budget_stats(b).waits_total);
	assert_true(last_refusal(pool).waited_ns > 0);
	assert_int_equal(seg_release(pool, held), 0);
	end_both(pool, b);
}

static void test_pools_have_records_of_their_own(void **state)
{
	struct seg_budget *b = new_budget(SEG_MIN_BYTES);
	struct seg_pool *pool = make_pool(b), *other = make_pool(b);
	struct seg_refusal r = { .size = sizeof(r) };
	void *held = seg_alloc(pool, 1);

	(void)state;
	assert_null(seg_alloc(other, 1));
	assert_int_equal(seg_pool_last_refusal(pool, &r), -ENOENT);
	r = last_refusal(other);
	assert_int_equal(r.charged_bytes, SEG_MIN_BYTES);
	assert_int_equal(r.active_bytes, 0);
	assert_int_equal(seg_release(pool, held), 0);
	end_pool(other);
	end_both(pool, b);
}

/* ---- reasons ---- */

static uint64_t why(struct seg_pool *pool)
{
	return last_refusal(pool).reason;
}

static void test_why_of_limits(void **state)
{
	struct seg_budget *b = new_budget(SEG_MIN_BYTES);
	struct seg_pool *pool = make_pool(b);

	(void)state;
	assert_null(seg_alloc(pool, SEG_MIN_BYTES + 1));
	assert_int_equal(why(pool), SEG_REFUSED_LIMIT);
	end_both(pool, b);
}

/* As if regions waited for a grace period. */
static void test_why_of_deferred_bytes(void **state)
{
	struct seg_budget *b = new_budget(SEG_MIN_BYTES);
	struct seg_pool *pool = make_pool(b);

	(void)state;
	assert_true(budget_charge(b, SEG_MIN_BYTES));
	budget_defer(b, SEG_MIN_BYTES);
	assert_null(seg_alloc(pool, 1));
	assert_int_equal(why(pool), SEG_REFUSED_DEFERRED);
	assert_int_equal(last_refusal(pool).deferred_bytes, SEG_MIN_BYTES);
	budget_uncharge_deferred(b, SEG_MIN_BYTES);
	end_both(pool, b);
}

static void test_why_of_a_parent(void **state)
{
	struct seg_budget *parent = new_budget(2 * SEG_MIN_BYTES);
	struct seg_budget_options o = { .size = sizeof(o), .parent = parent,
					.limit_bytes = 2 * SEG_MIN_BYTES };
	struct seg_pool *outside = make_pool(parent), *pool;
	struct seg_budget *b = NULL;
	void *held[2] = { seg_alloc(outside, 1), seg_alloc(outside, 1) };
	struct seg_refusal r;

	(void)state;
	assert_int_equal(seg_budget_create(&o, &b), 0);
	pool = make_pool(b);
	assert_null(seg_alloc(pool, 1));
	r = last_refusal(pool);
	assert_int_equal(r.reason, SEG_REFUSED_PARENT);
	assert_int_equal(r.charged_bytes, 0);
	assert_int_equal(r.room_bytes, 0);
	assert_int_equal(r.holders, 3);
	assert_int_equal(r.holder[0].id, (uintptr_t)outside);
	assert_int_equal(r.holder[0].charged_bytes, 2 * SEG_MIN_BYTES);
	assert_int_equal(r.holder[0].active_bytes, 2 * SEG_MIN_BYTES);
	assert_int_equal(r.holder[1].charged_bytes, 0);
	assert_int_equal(r.holder[1].kind + r.holder[2].kind,
			 SEG_HOLDER_POOL + SEG_HOLDER_BUDGET);
	for (int i = 0; i < 2; i++)
		assert_int_equal(seg_release(outside, held[i]), 0);
	end_pool(pool);
	end_budget(b);
	end_pool(outside);
	end_budget(parent);
}

/* The biggest ones, in that order. */
static void test_many_holders(void **state)
{
	enum { POOLS = SEG_HOLDERS_MOST + 3 };
	struct seg_budget *b = new_budget(POOLS * (POOLS + 1) / 2 *
					  SEG_MIN_BYTES);
	struct seg_pool *pool[POOLS];
	void *held[POOLS][POOLS + 1];
	struct seg_refusal r;

	(void)state;
	for (int i = 0; i < POOLS; i++) {
		int mine = (i * 4) % POOLS;

		pool[i] = make_pool_with((struct seg_pool_options){
			.budget = b, .region_bytes = SEG_MIN_BYTES,
			.wait_ms = SEG_NO_WAIT, .decay_ms = 600000 });
		for (int k = 0; k <= mine; k++) {
			held[i][k] = seg_alloc(pool[i], 1);
			assert_non_null(held[i][k]);
		}
	}
	assert_null(seg_alloc(pool[0], 1));
	r = last_refusal(pool[0]);
	assert_int_equal(r.reason, SEG_REFUSED_IN_USE);
	assert_int_equal(r.holders, POOLS);
	for (int i = 0; i < SEG_HOLDERS_MOST; i++)
		assert_int_equal(r.holder[i].charged_bytes,
				 (POOLS - i) * SEG_MIN_BYTES);
	for (int i = 0; i < POOLS; i++) {
		for (int k = 0; k <= (i * 4) % POOLS; k++)
			assert_int_equal(seg_release(pool[i], held[i][k]), 0);
		end_pool(pool[i]);
	}
	end_budget(b);
}

/* ---- JSON ---- */

static uint64_t give_nothing(void *ctx, uint64_t bytes)
{
	(void)ctx;
	(void)bytes;
	return 0;
}

static void test_json_and_the_log(void **state)
{
	struct events e = EVENTS_INIT;
	struct seg_budget *b = new_budget(SEG_MIN_BYTES);
	struct seg_pool *pool = make_pool_events(b, &e, SEG_LOG_ERROR);
	const struct seg_reclaimer_options o = {
		.size = sizeof(o), .fn = give_nothing, .priority = -5,
		.name = "quote \" here" };
	void *held = seg_alloc(pool, 1);
	struct seg_refusal r;
	char text[4096], part[16];
	int length;

	(void)state;
	assert_int_equal(seg_budget_add_reclaimer(b, &o), 0);
	assert_null(seg_alloc(pool, 1));
	r = last_refusal(pool);
	length = seg_refusal_json(&r, text, sizeof(text));
	assert_int_equal(length, strlen(text));
	assert_true(json_is_valid(text));
	assert_non_null(strstr(text, "{\"reason\":\"in_use\",\"bytes\":1,"));
	assert_int_equal(json_find(text, "limit_bytes"), SEG_MIN_BYTES);
	assert_int_equal(json_find(text, "asks"), r.asks);
	assert_int_equal(json_find(text, "reclaimers"), 1);
	assert_non_null(strstr(text, "\"classes\":[{\"class\":0,\"active\":"
			       "4096,\"cached\":0,\"unused\":0,"
			       "\"decommitted\":0,\"deferred\":0}]"));
	assert_non_null(strstr(text, "\"reclaimer\":[{\"name\":\"quote \\\" "
			       "here\",\"priority\":-5,\"asked_total\":"));
	assert_int_equal(json_find(text, "asked_total"),
			 r.reclaimer[0].asked_total);
	assert_int_equal(json_find(text, "given_bytes_total"), 0);
	assert_non_null(strstr(text, "\"longest\":[],\"biggest\":[],"
			       "\"tags\":[]}"));
	/* The log has the beginning of the same. */
	assert_int_equal(recorder_count(&e.lines), 2);
	assert_int_equal(strncmp(e.lines.line[1], "Refusal record: ", 16), 0);
	assert_int_equal(strncmp(e.lines.line[1] + 16, text, 200), 0);
	assert_int_equal(seg_refusal_json(&r, part, sizeof(part)), length);
	assert_int_equal(strlen(part), sizeof(part) - 1);
	assert_int_equal(seg_refusal_json(&r, NULL, 0), length);
	assert_int_equal(seg_refusal_json(&r, NULL, 1), -EINVAL);
	assert_int_equal(seg_refusal_json(NULL, text, 1), -EINVAL);
	r.size = 1;
	assert_int_equal(seg_refusal_json(&r, text, 1), -EINVAL);
	/* What an older program got, too. */
	r.size = offsetof(struct seg_refusal, reason);
	assert_true(seg_refusal_json(&r, text, sizeof(text)) > 0);
	assert_true(json_is_valid(text));
	assert_non_null(strstr(text, "{\"reason\":null,"));
	assert_int_equal(seg_budget_remove_reclaimer(b, give_nothing, NULL),
			 0);
	assert_int_equal(seg_release(pool, held), 0);
	end_both(pool, b);
}

/* All lists full, all numbers long: the log's line has room for it. */
static void test_the_longest_json(void **state)
{
	struct seg_refusal r;
	char text[9216];

	(void)state;
	memset(&r, 0xff, sizeof(r));
	r.size = sizeof(r);
	for (int i = 0; i < SEG_RECLAIMERS_MOST; i++)
		memset(r.reclaimer[i].name, 1, sizeof(r.reclaimer[i].name));
	assert_true(seg_refusal_json(&r, text, sizeof(text)) < 9000);
	assert_true(json_is_valid(text));
}

/* ---- with caches ---- */

struct scene {
	struct seg_budget *budget;
	struct seg_pool *pool;
	struct box *box[2];
};

static struct scene scene_begin(uint64_t floor)
{
	struct scene s = { .budget = new_budget(PAGES * PAGE_BYTES) };

	s.pool = make_pool(s.budget);
	for (int i = 0; i < 2; i++)
		s.box[i] = box_begin_with((struct seg_cache_options){
			.max_weight = 1 << 30, .floor_weight = floor,
			.pages = s.pool, .budget = s.budget });
	for (uint64_t key = 0; key < PAGES; key++) {
		const size_t bytes = PAGE_BYTES;
		struct seg_page *page = NULL;

		require(seg_page_create(s.pool, &bytes, 1, &page) == 0);
		put(s.box[key % 2]->cache, key, page, 0);
	}
	return s;
}

static void scene_end(struct scene *s)
{
	box_end(s->box[0]);
	box_end(s->box[1]);
	end_both(s->pool, s->budget);
}

static void test_what_caches_hold_back(void **state)
{
	struct scene s = scene_begin(1 << 30);
	struct seg_refusal r;

	(void)state;
	assert_null(seg_alloc(s.pool, PAGE_BYTES));
	r = last_refusal(s.pool);
	assert_int_equal(r.cache_weight, PAGES * PAGE_BYTES);
	assert_int_equal(r.reason, SEG_REFUSED_FLOOR);
	assert_int_equal(r.reclaimers, 2);
	assert_int_equal(r.pinned_weight, 0);
	assert_int_equal(r.active_bytes, PAGES * PAGE_BYTES);
	scene_end(&s);
}

/* The pages of both caches are pinned, some of them by name. */
static void test_who_pins(void **state)
{
	struct scene s = scene_begin(0);
	struct seg_pin pin[PAGES];
	struct seg_refusal r;
	char text[8192];

	(void)state;
	for (uint64_t i = 0; i < PAGES; i++) {
		pin[i] = get(s.box[i % 2]->cache, i);
		if (i < 12)
			assert_int_equal(seg_pin_tag(&pin[i], 100 + i), 0);
		else if (i < 17)
			assert_int_equal(seg_pin_tag(&pin[i], 99), 0);
	}
	assert_null(seg_alloc(s.pool, PAGE_BYTES));
	r = last_refusal(s.pool);
	assert_int_equal(r.cache_weight, 0);
	assert_int_equal(r.pinned_weight, PAGES * PAGE_BYTES);
	assert_int_equal(r.reason, SEG_REFUSED_PINNED);
	assert_int_equal(r.tagged_pins, 17);
	/* In both caches: one sum. */
	assert_int_equal(r.tags[0].tag, 99);
	assert_int_equal(r.tags[0].pins, 5);
	assert_int_equal(r.tags[0].weight, 5 * PAGE_BYTES);
	assert_true(r.tags[0].longest_ns > 0);
	assert_true(r.tags[0].longest_ns <= r.longest[0].held_ns);
	for (unsigned i = 1; i < SEG_PINS_MOST; i++) {
		assert_true(r.tags[i].tag >= 100 && r.tags[i].tag < 112);
		assert_int_equal(r.tags[i].pins, 1);
		assert_int_equal(r.tags[i].weight, PAGE_BYTES);
	}
	for (unsigned i = 0; i < SEG_PINS_MOST; i++) {
		assert_true(r.longest[i].tag >= 99 && r.longest[i].tag < 112);
		if (r.longest[i].tag == 99)
			assert_in_range(r.longest[i].key, 12, 16);
		else
			assert_int_equal(r.longest[i].key,
					 r.longest[i].tag - 100);
		assert_int_equal(r.longest[i].weight, PAGE_BYTES);
		assert_int_equal(r.biggest[i].weight, PAGE_BYTES);
		assert_true(i == 0 || r.longest[i].held_ns <=
				      r.longest[i - 1].held_ns);
	}
	assert_true(seg_refusal_json(&r, text, sizeof(text)) <
		    (int)sizeof(text));
	assert_true(json_is_valid(text));
	assert_non_null(strstr(text, "\"tags\":[{\"tag\":99,\"pins\":5,"
			       "\"weight\":20480,\"longest_ns\":"));
	for (int i = 0; i < PAGES; i++)
		unpin(&pin[i]);
	scene_end(&s);
}

static void test_records_of_other_versions(void **state)
{
	struct seg_budget *b = new_budget(SEG_MIN_BYTES);
	struct seg_pool *pool = make_pool(b);
	void *held = seg_alloc(pool, 1);
	struct seg_refusal r = { .size = offsetof(struct seg_refusal,
						  deferred_bytes) };

	(void)state;
	assert_null(seg_alloc(pool, 1));
	r.deferred_bytes = 4711;
	assert_int_equal(seg_pool_last_refusal(pool, &r), 0);
	assert_int_equal(r.charged_bytes, SEG_MIN_BYTES);
	assert_int_equal(r.deferred_bytes, 4711);
	assert_int_equal(seg_release(pool, held), 0);
	end_both(pool, b);
}

/* Whatever is written while it is read, a record is one of them. */
struct refused {
	struct seg_pool *pool;
};

static void *be_refused(void *arg)
{
	struct refused *x = arg;

	for (int i = 0; i < 300; i++)
		require(!alloc_without_wait(x->pool, 1));
	return NULL;
}

static void *read_records(void *arg)
{
	struct refused *x = arg;

	for (int i = 0; i < 1000; i++) {
		struct seg_refusal r = { .size = sizeof(r) };
		int ret = seg_pool_last_refusal(x->pool, &r);

		require(ret == 0 || ret == -ENOENT);
		require(ret || (r.bytes == 1 && r.active_bytes == 4096));
	}
	return NULL;
}

static void test_threads_are_refused(void **state)
{
	struct seg_budget *b = new_budget(SEG_MIN_BYTES);
	struct seg_pool *pool = make_pool(b);
	void *held = seg_alloc(pool, 1);
	struct refused x = { pool };
	struct threads refused, readers;

	(void)state;
	threads_start(&refused, THREADS, be_refused, &x, 0);
	threads_start(&readers, 2, read_records, &x, 0);
	assert_int_equal(threads_join(&refused), 0);
	assert_int_equal(threads_join(&readers), 0);
	assert_int_equal(figures(pool, SEG_ALL).refusals_total, THREADS * 300);
	assert_true(last_refusal(pool).refusals_total <= THREADS * 300);
	assert_int_equal(seg_release(pool, held), 0);
	end_both(pool, b);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_there_was_none),
		cmocka_unit_test(test_segments_alone),
		cmocka_unit_test(test_the_wait_is_in_it),
		cmocka_unit_test(test_pools_have_records_of_their_own),
		cmocka_unit_test(test_why_of_limits),
		cmocka_unit_test(test_why_of_deferred_bytes),
		cmocka_unit_test(test_why_of_a_parent),
		cmocka_unit_test(test_many_holders),
		cmocka_unit_test(test_json_and_the_log),
		cmocka_unit_test(test_the_longest_json),
		cmocka_unit_test(test_what_caches_hold_back),
		cmocka_unit_test(test_who_pins),
		cmocka_unit_test(test_records_of_other_versions),
		cmocka_unit_test(test_threads_are_refused),
	};

	return run_group(tests);
}
