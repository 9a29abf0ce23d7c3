/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * Caches whose pages move to the node that reads them, on a machine of three
 * nodes that there is not: when they do and when not, what stays as it was, and
 * what becomes of the old parts.
 */
#include "caches.h"

#include "machine.h"

enum { AFTER = 3, THREADS = 3, KEYS = 8, ROUNDS = 4000, BYTES = 60000 };

static const int nodes[] = { 0, 1, 2 };

struct scene {
	struct seg_budget *budget;
	struct seg_pool *pool;
	struct box *box;
	struct seg_cache *cache;
	struct events events;
};

static struct scene *scene_begin_with(struct seg_cache_options o)
{
	struct scene *s = calloc(1, sizeof(*s));

	require(s);
	machine_begin(nodes, 3);
	machine_run_at(0);
	s->events = (struct events)EVENTS_INIT;
	s->budget = new_budget(64 * MIB);
	s->pool = make_pool_events(s->budget, &s->events, SEG_LOG_ERROR);
	o.budget = s->budget;
	o.pages = s->pool;
	o.max_weight = o.max_weight ? o.max_weight : 32 * MIB;
	s->box = box_begin_with(o);
	s->cache = s->box->cache;
	return s;
}

static struct scene *scene_begin(void)
{
	return scene_begin_with((struct seg_cache_options){
		.migrate_after = AFTER });
}

static void scene_end(struct scene *s)
{
	box_end(s->box);
	assert_int_equal(figures(s->pool, SEG_ALL).active, 0);
	end_both(s->pool, s->budget);
	machine_end();
	free(s);
}

static void fill(struct seg_page *page, char with)
{
	for (unsigned i = 0; i < seg_page_parts(page); i++)
		memset(seg_page_part(page, i), with + (int)i,
		       seg_page_part_bytes(page, i));
}

/* Whether it is whole. */
static bool is_filled(const struct seg_page *page, char with)
{
	for (unsigned i = 0; i < seg_page_parts(page); i++) {
		const char *part = seg_page_part(page, i);
		size_t bytes = seg_page_part_bytes(page, i);

		for (size_t at = 0; at < bytes; at += 64)
			if (part[at] != (char)(with + (int)i))
				return false;
		if (part[bytes - 1] != (char)(with + (int)i))
			return false;
	}
	return true;
}

/* A small part and a large one, on the node of the thread. */
static struct seg_page *new_page(struct scene *s, char with)
{
	const size_t parts[] = { 1, BYTES };
	struct seg_page *page = NULL;

	require(seg_page_create(s->pool, parts, 2, &page) == 0);
	fill(page, with);
	return page;
}

enum { PAGE_WEIGHT = 4096 + 65536 };

static int node_of(struct scene *s, const void *segment)
{
	struct seg_region_info info = { .size = sizeof(info) };

	require(seg_region_of(s->pool, segment, &info) == 0);
	return info.node;
}

/* The node of all its parts. */
static int home_of(struct scene *s, const struct seg_page *page)
{
	int node = node_of(s, seg_page_part(page, 0));

	for (unsigned i = 1; i < seg_page_parts(page); i++)
		require(node_of(s, seg_page_part(page, i)) == node);
	return node;
}

static void read_at(struct scene *s, int node, uint64_t key, unsigned times)
{
	machine_run_at(node);
	for (unsigned i = 0; i < times; i++)
		require(has(s->cache, key));
}

static struct seg_cache_stats stats_of(struct scene *s)
{
	return cache_stats(s->cache);
}

static void assert_moves(struct scene *s, uint64_t moved, uint64_t refused)
{
	assert_int_equal(stats_of(s).migrations_total, moved);
	assert_int_equal(stats_of(s).migrated_bytes_total,
			 moved * PAGE_WEIGHT);
	assert_int_equal(stats_of(s).migrations_refused_total, refused);
}

/* ---- when ---- */

static void test_off_unless_asked_for(void **state)
{
	struct scene *s = scene_begin_with((struct seg_cache_options){
		.max_weight = 0 });
	struct seg_page *page = new_page(s, 'a');

	(void)state;
	put(s->cache, 1, page, 0);
	read_at(s, 1, 1, 100);
	assert_int_equal(home_of(s, page), 0);
	assert_moves(s, 0, 0);
	scene_end(s);
}

static void test_it_is_for_pages(void **state)
{
	struct seg_cache_options o = { .size = sizeof(o), .max_weight = 1,
				       .listener = box_listen,
				       .migrate_after = 1 };
	struct seg_cache *c;

	(void)state;
	assert_int_equal(seg_cache_create(&o, &c), -EINVAL);
}

/* What it is, it stays: the object, the key, the weight, the contents. */
static void test_a_page_moves_to_its_reader(void **state)
{
	struct scene *s = scene_begin();
	struct seg_page *page = new_page(s, 'a');
	struct seg_pin pin;

	(void)state;
	put(s->cache, 1, page, 0);
	read_at(s, 1, 1, AFTER - 1);
	assert_int_equal(home_of(s, page), 0);
	assert_moves(s, 0, 0);
	read_at(s, 1, 1, 1);
	assert_int_equal(home_of(s, page), 1);
	assert_moves(s, 1, 0);
	pin = get(s->cache, 1);
	assert_ptr_equal(seg_pin_value(&pin), page);
	assert_true(is_filled(page, 'a'));
	unpin(&pin);
	assert_weights(s->box, PAGE_WEIGHT, 0);
	assert_int_equal(stats_of(s).entries, 1);
	assert_int_equal(box_heard(s->box), 0);
	assert_int_equal(figures(s->pool, SEG_ALL).active, 2);
	assert_true(machine_has_placed(seg_page_part(page, 1), 65536, 1));
	assert_int_equal(seg_cache_remove(s->cache, 1, page), 0);
	assert_int_equal(s->events.misuses, 0);
	scene_end(s);
}

static void test_back_and_forth(void **state)
{
	struct scene *s = scene_begin();
	struct seg_page *page = new_page(s, 'b');

	(void)state;
	put(s->cache, 1, page, 0);
	for (int i = 1; i <= 12; i++) {
		read_at(s, i % 3, 1, AFTER);
		assert_int_equal(home_of(s, page), i % 3);
		assert_true(is_filled(page, 'b'));
	}
	assert_moves(s, 12, 0);
	assert_int_equal(figures(s->pool, SEG_ALL).active, 2);
	scene_end(s);
}

/* A reader where it lies, or on a third node, begins the count anew. */
static void test_in_a_row_means_without_another(void **state)
{
	struct scene *s = scene_begin();
	struct seg_page *page = new_page(s, 'c');

	(void)state;
	put(s->cache, 1, page, 0);
	for (int i = 0; i < 5; i++) {
		read_at(s, 1, 1, AFTER - 1);
		read_at(s, 0, 1, 1);
	}
	for (int i = 0; i < 5; i++) {
		read_at(s, 1, 1, AFTER - 1);
		read_at(s, 2, 1, 1);
	}
	assert_int_equal(home_of(s, page), 0);
	assert_moves(s, 0, 0);
	scene_end(s);
}

static void test_each_page_counts_for_itself(void **state)
{
	struct scene *s = scene_begin();
	struct seg_page *one = new_page(s, 'd'), *other = new_page(s, 'e');

	(void)state;
	put(s->cache, 1, one, 0);
	put(s->cache, 2, other, 0);
	for (int i = 0; i < AFTER; i++) {
		read_at(s, 1, 1, 1);
		read_at(s, 0, 2, 1);
	}
	assert_int_equal(home_of(s, one), 1);
	assert_int_equal(home_of(s, other), 0);
	scene_end(s);
}

/* Only what is elsewhere is copied; the largest part says where it is. */
static void test_parts_that_are_there_stay(void **state)
{
	struct scene *s = scene_begin();
	struct seg_page *page = new_page(s, 'f');
	const void *small = seg_page_part(page, 0);

	(void)state;
	machine_run_at(1);
	require(seg_page_grow(page, 1, SEG_MAX_BYTES) == 0);
	fill(page, 'f');
	put(s->cache, 1, page, 0);
	read_at(s, 1, 1, 2 * AFTER);
	assert_int_equal(stats_of(s).migrations_total, 0);
	read_at(s, 0, 1, AFTER);
	assert_int_equal(home_of(s, page), 0);
	assert_ptr_equal(seg_page_part(page, 0), small);
	assert_int_equal(stats_of(s).migrated_bytes_total, SEG_MAX_BYTES);
	assert_true(is_filled(page, 'f'));
	scene_end(s);
}

/* The nearest node that has memory is meant. */
static void test_a_reader_on_a_node_without_memory(void **state)
{
	struct scene *s = scene_begin();
	struct seg_page *page = new_page(s, 'g');

	(void)state;
	machine_put_cpu(100, 7);
	machine_set_distance(7, 2, 11);
	put(s->cache, 1, page, 0);
	machine_run_on(100);
	for (int i = 0; i < AFTER; i++)
		require(has(s->cache, 1));
	assert_int_equal(home_of(s, page), 2);
	scene_end(s);
}

/* ---- when not ---- */

static void test_what_is_pinned_stays(void **state)
{
	struct scene *s = scene_begin();
	struct seg_page *page = new_page(s, 'h');
	struct seg_pin pin;

	(void)state;
	put(s->cache, 1, page, 0);
	pin = get(s->cache, 1);
	read_at(s, 1, 1, 10 * AFTER);
	assert_int_equal(home_of(s, page), 0);
	assert_moves(s, 0, 0);
	machine_run_at(1);
	unpin(&pin);
	read_at(s, 1, 1, AFTER - 1);
	assert_int_equal(home_of(s, page), 1);
	assert_moves(s, 1, 0);
	scene_end(s);
}

/* It is not tried again at once, nor ever waited for. */
static void test_no_memory_on_the_node(void **state)
{
	struct scene *s = scene_begin();
	struct seg_page *page = new_page(s, 'i');
	uint64_t refusals;

	(void)state;
	machine_fill(1);
	put(s->cache, 1, page, 0);
	read_at(s, 1, 1, AFTER);
	assert_int_equal(home_of(s, page), 0);
	assert_moves(s, 0, 1);
	refusals = figures(s->pool, SEG_ALL).refusals_total;
	assert_int_equal(refusals, 1);
	assert_int_equal(figures(s->pool, SEG_ALL).active, 2);
	machine_empty(1);
	wait_until((read_at(s, 1, 1, AFTER),
		    stats_of(s).migrations_total == 1));
	assert_int_equal(home_of(s, page), 1);
	assert_true(is_filled(page, 'i'));
	scene_end(s);
}

/* A node that had none is left alone for a while: in 100 ms the clock allows
 * one refusal, and one more for where it began. */
static void test_who_was_refused_rests(void **state)
{
	struct scene *s = scene_begin();
	struct timespec begun = monotonic_in(0, 0), now;
	uint64_t most;

	(void)state;
	machine_fill(1);
	put(s->cache, 1, new_page(s, 's'), 0);
	read_at(s, 1, 1, 1000 * AFTER);
	now = monotonic_in(0, 0);
	most = (uint64_t)(now.tv_sec - begun.tv_sec + 1) * 10 + 1;
	assert_in_range(stats_of(s).migrations_refused_total, 1, most);
	scene_end(s);
}

/* The second part does not get its memory: the first one goes back. */
static void test_no_memory_for_all_of_it(void **state)
{
	struct scene *s = scene_begin();
	struct seg_page *page = new_page(s, 'j');

	(void)state;
	machine_give(1, 3);
	put(s->cache, 1, page, 0);
	read_at(s, 1, 1, AFTER);
	assert_int_equal(home_of(s, page), 0);
	assert_moves(s, 0, 1);
	assert_int_equal(figures(s->pool, SEG_ALL).active, 2);
	assert_true(is_filled(page, 'j'));
	scene_end(s);
}

static void *alloc_easily(struct scene *s, size_t bytes)
{
	return seg_alloc_with(s->pool, bytes, &(struct seg_alloc_options){
		.size = sizeof(struct seg_alloc_options),
		.effort = SEG_EFFORT_EASY });
}

/* No other page is evicted for a move. */
static void test_at_the_limit(void **state)
{
	struct scene *s = scene_begin();
	struct seg_page *page = new_page(s, 'k');
	void *hoard[1024];
	unsigned held = 0;

	(void)state;
	put(s->cache, 1, page, 0);
	put(s->cache, 2, new_page(s, 'l'), 0);
	for (size_t bytes = SEG_MAX_BYTES; bytes >= SEG_MIN_BYTES; bytes /= 2)
		while ((hoard[held] = alloc_easily(s, bytes)) != NULL)
			require(++held < 1024);
	read_at(s, 1, 1, 5 * AFTER);
	assert_int_equal(home_of(s, page), 0);
	assert_int_equal(stats_of(s).migrations_total, 0);
	assert_true(stats_of(s).migrations_refused_total > 0);
	assert_int_equal(stats_of(s).entries, 2);
	while (held)
		require(seg_release(s->pool, hoard[--held]) == 0);
	scene_end(s);
}

/* Found out when it goes, as without moves; until then nobody else's is
 * touched. */
static void test_a_part_released_by_mistake(void **state)
{
	struct scene *s = scene_begin();
	struct seg_page *page = new_page(s, 'm');
	void *next;

	(void)state;
	put(s->cache, 1, page, 0);
	require(seg_release(s->pool, seg_page_part(page, 1)) == 0);
	next = seg_alloc(s->pool, BYTES);
	assert_ptr_equal(next, seg_page_part(page, 1));
	read_at(s, 1, 1, AFTER);
	assert_int_equal(stats_of(s).migrations_total, 0);
	assert_int_equal(seg_cache_remove(s->cache, 1, NULL), 0);
	assert_int_equal(s->events.what, SEG_MISUSE_STALE);
	assert_int_equal(s->events.misuses, 1);
	assert_int_equal(seg_release(s->pool, next), 0);
	scene_end(s);
}

/* ---- one node ---- */

static void test_where_there_is_one_node(void **state)
{
	struct seg_cache_options o = { .max_weight = MIB,
				       .migrate_after = 1 };
	struct scene s = { .events = EVENTS_INIT };
	struct seg_page *page;

	(void)state;
	machine_begin(nodes, 1);
	s.budget = new_budget(64 * MIB);
	s.pool = make_pool(s.budget);
	o.pages = s.pool;
	s.box = box_begin_with(o);
	page = new_page(&s, 'n');
	put(s.box->cache, 1, page, 0);
	for (int i = 0; i < 10; i++)
		require(has(s.box->cache, 1));
	assert_int_equal(cache_stats(s.box->cache).migrations_total, 0);
	box_end(s.box);
	end_both(s.pool, s.budget);
	machine_end();
}

/* ---- ways out ---- */

static void test_taken_after_a_move(void **state)
{
	struct scene *s = scene_begin();
	struct seg_page *page = new_page(s, 'o');
	void *taken;

	(void)state;
	put(s->cache, 1, page, 0);
	read_at(s, 1, 1, AFTER);
	assert_int_equal(seg_cache_take(s->cache, 1, &taken), 0);
	assert_ptr_equal(taken, page);
	assert_true(is_filled(page, 'o'));
	assert_int_equal(seg_page_grow(page, 0, BYTES), 0);
	assert_int_equal(seg_page_release(page), 0);
	assert_int_equal(s->events.misuses, 0);
	scene_end(s);
}

static void test_evicted_after_a_move(void **state)
{
	struct scene *s = scene_begin_with((struct seg_cache_options){
		.max_weight = 2 * PAGE_WEIGHT, .migrate_after = 1 });

	(void)state;
	for (uint64_t key = 0; key < 20; key++) {
		machine_run_at(0);
		put(s->cache, key, new_page(s, 'p'), 0);
		read_at(s, 1, key, 1);
	}
	assert_moves(s, 20, 0);
	assert_int_equal(stats_of(s).entries, 2);
	assert_int_equal(figures(s->pool, SEG_ALL).active, 4);
	scene_end(s);
}

/* ---- with short reads ---- */

/* Old parts can be read until the section ends, and wait as long. */
static void test_who_peeks_keeps_the_old_parts(void **state)
{
	struct scene *s = scene_begin_with((struct seg_cache_options){
		.migrate_after = AFTER, .short_reads = 1 });
	struct seg_page *page = new_page(s, 'q');
	const char *old;
	void *value;

	(void)state;
	put(s->cache, 1, page, 0);
	seg_read_begin();
	assert_int_equal(seg_cache_peek(s->cache, 1, &value), 0);
	old = seg_page_part(value, 1);
	read_at(s, 1, 1, AFTER);
	assert_moves(s, 1, 0);
	assert_ptr_not_equal(seg_page_part(page, 1), old);
	assert_int_equal(stats_of(s).deferred_weight, PAGE_WEIGHT);
	assert_int_equal(figures(s->pool, SEG_ALL).active, 4);
	assert_true(old[0] == 'r' && old[65535] == 'r');
	seg_read_end();
	wait_until(stats_of(s).deferred_weight == 0);
	assert_int_equal(figures(s->pool, SEG_ALL).active, 2);
	assert_int_equal(box_heard(s->box), 0);
	scene_end(s);
}

/* ---- at the same time ---- */

struct racer {
	struct scene *scene;
	unsigned me;
	bool peeks;
};

static void check_page(const struct seg_page *page, uint64_t key)
{
	require(is_filled(page, (char)key));
}

static void put_again(struct scene *s, uint64_t key)
{
	struct seg_page *page = new_page(s, (char)key);

	if (seg_cache_put(s->cache, key, page, 0, NULL))
		require(seg_page_release(page) == 0);
}

static void change_one(struct scene *s, uint64_t key, unsigned how)
{
	void *page;

	if (how == 0) {
		(void)seg_cache_remove(s->cache, key, NULL);
	} else if (how == 1) {
		page = new_page(s, (char)key);
		if (seg_cache_replace(s->cache, key, page, 0, NULL))
			require(seg_page_release(page) == 0);
	} else if (seg_cache_take(s->cache, key, &page) == 0) {
		check_page(page, key);
		require(seg_page_release(page) == 0);
	}
	put_again(s, key);
}

/* Each thread has a node; one of them also changes what is in. */
static void *read_and_change(void *arg)
{
	struct racer *r = arg;
	struct scene *s = r->scene;

	for (unsigned i = 0; i < ROUNDS; i++) {
		uint64_t key = (i * 7 + i / 64 + r->me) % KEYS;
		struct seg_pin pin;
		void *value;

		machine_run_at((int)r->me);
		if (r->me == 0 && i % 16 == 0)
			change_one(s, key, i / 16 % 3);
		seg_read_begin();
		if (r->peeks && seg_cache_peek(s->cache, key, &value) == 0)
			check_page(value, key);
		seg_read_end();
		if (seg_cache_get(s->cache, key, &pin))
			continue;
		check_page(seg_pin_value(&pin), key);
		require(seg_unpin(&pin) == 0);
	}
	return NULL;
}

static void race(unsigned short_reads)
{
	struct scene *s = scene_begin_with((struct seg_cache_options){
		.max_weight = (KEYS - 1) * PAGE_WEIGHT, .migrate_after = 1,
		.short_reads = short_reads });
	struct racer racers[THREADS];
	struct threads threads;

	for (uint64_t key = 0; key < KEYS; key++)
		put_again(s, key);
	for (unsigned i = 0; i < THREADS; i++)
		racers[i] = (struct racer){ s, i, short_reads };
	threads_start(&threads, THREADS, read_and_change, racers,
		      sizeof(*racers));
	assert_int_equal(threads_join(&threads), 0);
	assert_true(stats_of(s).migrations_total > 0);
	assert_int_equal(s->events.misuses, 0);
	scene_end(s);
}

static void test_all_at_the_same_time(void **state)
{
	(void)state;
	race(0);
}

static void test_all_at_the_same_time_with_short_reads(void **state)
{
	(void)state;
	race(1);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_off_unless_asked_for),
		cmocka_unit_test(test_it_is_for_pages),
		cmocka_unit_test(test_a_page_moves_to_its_reader),
		cmocka_unit_test(test_back_and_forth),
		cmocka_unit_test(test_in_a_row_means_without_another),
		cmocka_unit_test(test_each_page_counts_for_itself),
		cmocka_unit_test(test_parts_that_are_there_stay),
		cmocka_unit_test(test_a_reader_on_a_node_without_memory),
		cmocka_unit_test(test_what_is_pinned_stays),
		cmocka_unit_test(test_no_memory_on_the_node),
		cmocka_unit_test(test_who_was_refused_rests),
		cmocka_unit_test(test_no_memory_for_all_of_it),
		cmocka_unit_test(test_at_the_limit),
		cmocka_unit_test(test_a_part_released_by_mistake),
		cmocka_unit_test(test_where_there_is_one_node),
		cmocka_unit_test(test_taken_after_a_move),
		cmocka_unit_test(test_evicted_after_a_move),
		cmocka_unit_test(test_who_peeks_keeps_the_old_parts),
		cmocka_unit_test(test_all_at_the_same_time),
		cmocka_unit_test(test_all_at_the_same_time_with_short_reads),
	};

	return run_group(tests);
}
