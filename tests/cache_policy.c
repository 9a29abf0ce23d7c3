/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * lib/cache_policy.h, driven as the cache drives it: scans, loops, weights,
 * parked entries, and a walk through the queues after every kind of step.
 */
#include "groups.h"

#include "cache_policy.h"

enum { KEYS = 40000, RANDOM_STEPS = 60000 };

/* A cache without concurrency: key k has the k-th entry. */
static struct cache_policy policy;
static bool in[KEYS];
static uint64_t max_weight, held;
static bool forgets;		/* as if memory were refused */

static int set_up(void **state)
{
	(void)state;
	memset(&policy, 0, sizeof(policy));
	groups_map();
	memset(in, 0, sizeof(in));
	held = 0;
	forgets = false;
	return 0;
}

static int tear_down(void **state)
{
	(void)state;
	cache_policy_clear(&policy);
	groups_unmap();
	return 0;
}

static void start(uint64_t max)
{
	max_weight = max;
	cache_policy_init(&policy, max);
}

static uint64_t key_of(const struct cache_record *r)
{
	return entry_nth(record_entry(r));
}

/* What the cache does before it hands it to the policy. */
static struct cache_record *fill(uint64_t number, uint64_t key, uint64_t weight)
{
	entry_fill(nth_entry(number), key, NULL, weight);
	return nth_record(number);
}

static void evict_one(void)
{
	const struct cache_entry *next = cache_policy_next(&policy);
	bool used = next && u16_load_relaxed(&next->mark);
	struct cache_record *r = cache_policy_victim(&policy);

	assert_non_null(r);
	/* Who goes next does go, unless it was used. */
	assert_true(next && (used || record_entry(r) == next));
	assert_true(in[key_of(r)] && r->queue != QUEUE_NONE);
	cache_policy_evict(&policy, r);
	assert_int_equal(r->queue, QUEUE_NONE);
	in[key_of(r)] = false;
	held -= entry_weight(record_entry(r));
}

static void insert(uint64_t key, uint64_t weight)
{
	const char *place;

	while (held + weight > max_weight)
		evict_one();
	place = cache_policy_place(&policy, key * 4096);
	assert_true(!place || (size_t)(place - (char *)policy.ghost.bucket) <
				      cache_policy_bytes(&policy));
	cache_policy_insert(&policy, fill(key, key * 4096, weight));
	in[key] = true;
	held += weight;
	if (forgets)
		ghost_clear(&policy.ghost);
}

static uint16_t mark_of(uint64_t key)
{
	/* relaxed: one thread */
	return u16_load_relaxed(&nth_entry(key)->mark);
}

/* True: a hit. */
static bool use_weighing(uint64_t key, uint64_t weight)
{
	if (!in[key]) {
		insert(key, weight);
		return false;
	}
	if (mark_of(key) < CACHE_MARK_MOST)
		/* relaxed: one thread */
		u16_store_relaxed(&nth_entry(key)->mark, mark_of(key) + 1);
	return true;
}

static bool use(uint64_t key)
{
	return use_weighing(key, 1);
}

/* Hits of one use of each. */
static unsigned use_all(uint64_t from, uint64_t to)
{
	unsigned hits = 0;

	for (uint64_t key = from; key < to; key++)
		hits += use(key);
	return hits;
}

static unsigned count_in(uint64_t from, uint64_t to)
{
	unsigned count = 0;

	for (uint64_t key = from; key < to; key++)
		count += in[key];
	return count;
}

/* A working set that is in main, behind so many others. */
static void settle(uint64_t keys)
{
	for (unsigned round = 0; round < 12; round++) {
		use_all(0, keys);
		use_all(KEYS - (round + 1) * max_weight / 4,
			KEYS - round * max_weight / 4);
	}
	for (uint64_t key = 0; key < keys; key++)
		assert_int_equal(nth_record(key)->queue, QUEUE_MAIN);
}

static void check_sums(void)
{
	uint64_t weight = 0;
	uint64_t count = 0;

	assert_true(cache_policy_is_valid(&policy));
	for (unsigned i = 0; i < QUEUE_END; i++) {
		weight += policy.queue[i].weight;
		count += policy.queue[i].count;
	}
	assert_int_equal(weight, held);
	assert_int_equal(count, count_in(0, KEYS));
}

/* ---- scans, loops, working sets ---- */

static void test_nothing_has_no_victim(void **state)
{
	(void)state;
	start(100);
	assert_null(cache_policy_victim(&policy));
	assert_null(cache_policy_next(&policy));
	insert(1, 100);
	evict_one();
	assert_null(cache_policy_victim(&policy));
	assert_null(cache_policy_next(&policy));
	check_sums();
}

static void test_a_scan_takes_nothing_from_main(void **state)
{
	(void)state;
	start(100);
	settle(60);
	use_all(1000, 20000);
	assert_int_equal(count_in(0, 60), 60);
	check_sums();
}

static void test_uses_while_young_are_one_use(void **state)
{
	(void)state;
	start(1000);
	settle(600);
	for (uint64_t key = 1000; key < 5000; key++) {
		use(key);
		assert_true(use(key));
		assert_true(use(key));
	}
	assert_int_equal(count_in(0, 600), 600);
	for (uint64_t key = 1000; key < 5000; key++)
		assert_true(!in[key] || nth_record(key)->queue != QUEUE_MAIN);
	check_sums();
}

static void test_a_use_after_that_promotes(void **state)
{
	(void)state;
	start(1000);
	use_all(0, 1000);
	use(1000);
	assert_int_equal(nth_record(1000)->queue, QUEUE_YOUNG);
	use_all(1001, 1060);
	assert_int_equal(nth_record(1000)->queue, QUEUE_SMALL);
	assert_true(use(1000));
	assert_true(use(1000));
	use_all(1060, 3000);
	assert_int_equal(nth_record(1000)->queue, QUEUE_MAIN);
	assert_int_equal(mark_of(1000), 0);
	check_sums();
}

/* FIFO, LRU and CLOCK have no hit at all. */
static void loop_has_hits(uint64_t loop, unsigned rounds)
{
	unsigned hits = 0;

	for (unsigned i = 0; i < rounds; i++)
		hits = use_all(0, loop);
	assert_in_range(hits, max_weight * 3 / 4, max_weight);
	check_sums();
}

static void test_a_loop_twice_the_cache_has_hits(void **state)
{
	(void)state;
	start(1000);
	loop_has_hits(2000, 20);
}

static void test_a_loop_four_times_the_cache_has_hits(void **state)
{
	(void)state;
	start(250);
	loop_has_hits(1000, 40);
}

static void test_after_a_loop_others_get_in(void **state)
{
	unsigned hits = 0;

	(void)state;
	start(1000);
	loop_has_hits(3000, 40);
	for (unsigned i = 0; i < 12; i++)
		hits = use_all(10000, 10800);
	assert_in_range(hits, 780, 800);
	loop_has_hits(3000, 60);
}

/* Kept small by a budget, say. */
static void test_far_below_the_maximum_it_does_the_same(void **state)
{
	(void)state;
	start(1000);
	cache_policy_set_max(&policy, UINT64_C(1) << 50);
	settle(600);
	use_all(5000, 10000);
	assert_int_equal(count_in(0, 600), 600);
	check_sums();
}

/* What comes back soon after it left small: small grows.  Once what comes back
 * comes from main, it shrinks. */
static void test_the_margins_move_the_share(void **state)
{
	uint64_t seed = 1;
	uint64_t share;

	(void)state;
	start(1000);
	settle(850);
	share = policy.small_share;
	for (uint64_t key = 2000; key < 4000; key++) {
		use(key);
		if (key >= 2200)
			use(key - 160);
	}
	assert_true(policy.small_share > share + POLICY_SHARES / 50);
	share = policy.small_share;
	for (uint64_t i = 0; i < 30000; i++)
		use(i % 3 ? random_below(&seed, 1000) : 5000 + i);
	assert_true(policy.small_share < share - POLICY_SHARES / 50);
	check_sums();
}

static void test_a_few_entries_work(void **state)
{
	unsigned hits = 0;

	(void)state;
	for (uint64_t max = 1; max <= 8; max++) {
		start(max);
		while (held > max)
			evict_one();
		for (unsigned i = 0; i < 100; i++)
			use_all(100 * max, 101 * max + i % 3);
		assert_in_range(held, 1, max);
		check_sums();
	}
	/* A hot key among others that are used once, and stay for a while. */
	for (uint64_t key = 2000; key < 3000; key++) {
		hits += use(1) + use(key);
		assert_true(key < 2002 || in[key - 2] + in[key - 1] == 2);
	}
	assert_in_range(hits, 990, 999);
}

/* ---- weights ---- */

static void test_a_heavy_one_costs_its_weight(void **state)
{
	(void)state;
	start(1000);
	settle(700);
	use_all(2000, 2200);
	assert_int_equal(held, 1000);
	use_weighing(1000, 300);	/* three times what small may weigh */
	assert_int_equal(held, 1000);
	assert_int_equal(nth_record(1000)->queue, QUEUE_YOUNG);
	assert_true(count_in(0, 2200) >= 700);
	/* Others come without pushing each other out before their time. */
	use_all(3000, 3050);
	assert_in_range(count_in(3000, 3050), 40, 50);
	check_sums();
}

static void test_heavy_ones_do_not_flush_main(void **state)
{
	(void)state;
	start(1000);
	settle(600);
	for (uint64_t key = 1000; key < 1200; key++)
		use_weighing(key, 200);
	assert_in_range(count_in(0, 600), 600, 600);
	check_sums();
}

/* Time is weight in units that grow with it: all goes as with weight 1. */
static unsigned misses_with(uint64_t weight)
{
	uint64_t seed = 1;
	unsigned misses = 0;

	set_up(NULL);
	start(500 * weight);
	for (unsigned i = 0; i < RANDOM_STEPS; i++) {
		uint64_t r = random_below(&seed, 1500);

		misses += !use_weighing(r * r / 1500, weight);
	}
	check_sums();
	tear_down(NULL);
	return misses;
}

static void test_the_unit_of_weight_does_not_matter(void **state)
{
	unsigned misses = misses_with(1);

	(void)state;
	for (unsigned shift = 12; shift <= 48; shift += 12)
		assert_in_range(misses_with(UINT64_C(1) << shift),
				misses * 99 / 100, misses * 101 / 100);
}

/* Its age as the policy knows it, to the unit. */
static void check_age(uint64_t key, uint64_t came)
{
	uint64_t now = policy.came >> policy.shift;
	uint64_t age = (policy.came - came) >> policy.shift;
	uint64_t known = (uint32_t)(now - nth_record(key)->stamp);

	assert_in_range(known + 2, age, age + 4);
}

static void test_a_light_cache_becomes_heavy(void **state)
{
	(void)state;
	start(UINT64_C(1) << 40);
	use_all(0, 1000);
	for (uint64_t key = 1000; key < 1060; key++) {
		use_weighing(key, UINT64_C(1) << (key - 1000) / 2);
		check_sums();
	}
	assert_int_equal(count_in(0, 1060), 1060);
	check_age(999, 1000);
	check_age(1056, policy.came - (UINT64_C(5) << 28));
	for (uint64_t key = 2000; key < 2100; key++)
		use_weighing(key, UINT64_C(1) << 38);
	assert_in_range(count_in(2000, 2100), 3, 4);
	check_sums();
}

/* ---- out and in again ---- */

static void test_a_parked_one_comes_back(void **state)
{
	(void)state;
	start(1000);
	settle(600);
	for (unsigned name = QUEUE_YOUNG; name < QUEUE_END; name++) {
		struct cache_record *r = policy.queue[name].oldest;
		uint64_t came = policy.came;

		cache_policy_remove(&policy, r);
		assert_int_equal(r->queue, QUEUE_NONE);
		assert_true(cache_policy_is_valid(&policy));
		for (unsigned i = 0; i < 5; i++)
			evict_one();
		assert_true(in[key_of(r)]);
		cache_policy_return(&policy, r);
		assert_int_equal(r->queue, name == QUEUE_MAIN ? QUEUE_MAIN :
								QUEUE_SMALL);
		assert_ptr_equal(policy.queue[r->queue].newest, r);
		assert_int_equal(policy.came, came);
		check_sums();
	}
}

/* All that is pinned is met once and not again. */
static void test_all_may_be_parked(void **state)
{
	struct cache_record *r;
	unsigned parked = 0;

	(void)state;
	start(500);
	settle(300);
	for (; (r = cache_policy_victim(&policy)) != NULL; parked++)
		cache_policy_remove(&policy, r);
	assert_int_equal(parked, 500);
	for (uint64_t key = 0; key < KEYS; key++)
		if (in[key])
			cache_policy_return(&policy, nth_record(key));
	for (uint64_t key = 0; key < 300; key++)
		assert_int_equal(nth_record(key)->queue, QUEUE_MAIN);
	check_sums();
}

static void remove_key(uint64_t key)
{
	cache_policy_remove(&policy, nth_record(key));
	in[key] = false;
	held -= entry_weight(nth_entry(key));
	assert_true(cache_policy_is_valid(&policy));
}

static void test_remove_from_any_place(void **state)
{
	(void)state;
	start(1000);
	settle(600);
	for (unsigned name = QUEUE_YOUNG; name < QUEUE_END; name++) {
		struct cache_queue *q = &policy.queue[name];

		assert_true(q->count > 4);
		remove_key(key_of(q->oldest));
		remove_key(key_of(q->newest));
		remove_key(key_of(q->newest->older));
		while (q->count)
			remove_key(key_of(q->oldest));
		assert_null(q->newest);
		assert_null(q->oldest);
	}
	assert_int_equal(held, 0);
	assert_null(cache_policy_victim(&policy));
	use_all(0, 3000);
	check_sums();
}

static void test_a_new_value_inherits_the_place(void **state)
{
	struct cache_record *r;

	(void)state;
	start(1000);
	settle(600);
	use(7);
	r = fill(5000, 7, 3);
	remove_key(7);
	cache_policy_succeed(&policy, nth_record(7), r);
	in[5000] = true;
	held += 3;
	assert_int_equal(r->queue, QUEUE_MAIN);
	assert_int_equal(mark_of(5000), mark_of(7));
	assert_true(mark_of(5000) > 0);
	check_sums();
}

static void test_shrink_to_nothing(void **state)
{
	(void)state;
	start(1000);
	settle(600);
	max_weight = 700;
	cache_policy_set_max(&policy, max_weight);
	while (held > max_weight)
		evict_one();
	assert_in_range(count_in(0, 600), 590, 600);
	while (held > 0)
		evict_one();
	assert_null(cache_policy_victim(&policy));
	check_sums();
}

/* However hot all is, a search ends soon, with one that is less hot. */
static void test_a_victim_costs_few_steps(void **state)
{
	struct cache_record *cooler, *r;
	unsigned marks = 0;

	(void)state;
	start(1000);
	settle(900);
	for (unsigned i = 0; i < CACHE_MARK_MOST; i++)
		use_all(0, 900);
	cooler = policy.queue[QUEUE_MAIN].oldest->newer->newer->newer;
	/* relaxed: one thread */
	u16_store_relaxed(&record_entry(cooler)->mark, 2);
	while ((r = cache_policy_victim(&policy))->queue != QUEUE_MAIN)
		cache_policy_evict(&policy, r);
	for (uint64_t key = 0; key < 900; key++)
		marks += mark_of(key);
	assert_in_range(900 * CACHE_MARK_MOST - 1 - marks, 4, 16);
	assert_ptr_equal(r, cooler);
}

/* ---- memory ---- */

static void test_memory_follows_the_entries(void **state)
{
	(void)state;
	start(5000);
	use_all(0, 5000);
	assert_int_equal(cache_policy_bytes(&policy), 0);
	use_all(5000, 20000);
	assert_in_range(cache_policy_bytes(&policy), 5000 * 8, 5000 * 41);
	max_weight = 1000;
	cache_policy_set_max(&policy, max_weight);
	assert_int_equal(cache_policy_bytes(&policy), 0);
	while (held > max_weight)
		evict_one();
	use_all(0, 3000);
	assert_in_range(cache_policy_bytes(&policy), 1000 * 8, 1000 * 41);
	check_sums();
}

static void test_without_memory_it_goes_on(void **state)
{
	unsigned hits = 0;

	(void)state;
	start(1000);
	forgets = true;
	for (unsigned i = 0; i < 20; i++) {
		hits = use_all(0, 40);
		use_all(0, 40);
		use_all(1000 + 300 * i, 1300 + 300 * i);
	}
	assert_int_equal(hits, 40);
	assert_int_equal(cache_policy_bytes(&policy), 0);
	check_sums();
}

static unsigned recall(uint64_t notes, uint64_t stride)
{
	struct ghost g = { .bucket = NULL };
	struct ghost_note note = { .tag = 0 };
	unsigned known = 0;

	ghost_reserve(&g, notes / 2);
	for (uint64_t i = 0; i < notes; i++)
		ghost_put(&g, i * stride, (struct ghost_note){
			.used = i & GHOST_USED_MASK });
	for (uint64_t i = 0; i < notes; i++)
		if (ghost_take(&g, i * stride, &note) && note.used == i)
			known++;
	for (uint64_t i = 0; i < notes; i++)
		assert_false(ghost_take(&g, i * stride, &note));
	ghost_clear(&g);
	return known;
}

/* Twice as many as the cache has entries: keys with a pattern spread, too. */
static void test_the_ghost_remembers(void **state)
{
	(void)state;
	assert_in_range(recall(2000, 1), 1900, 2000);
	assert_in_range(recall(2000, 4096), 1900, 2000);
	assert_in_range(recall(2000, UINT64_C(1) << 40), 1900, 2000);
	assert_in_range(recall(20000, 65537), 19000, 20000);
}

/* ---- anything ---- */

static struct cache_record *parked[16];
static unsigned parked_count;

static void random_step(uint64_t *seed)
{
	uint64_t key = random_below(seed, 3000);

	switch (random_below(seed, 32)) {
	case 0:
		if (in[key] && nth_record(key)->queue)
			remove_key(key);
		break;
	case 1:
		if (in[key] && nth_record(key)->queue && parked_count < 16) {
			cache_policy_remove(&policy, nth_record(key));
			parked[parked_count++] = nth_record(key);
		}
		break;
	case 2:
	case 3:
		if (parked_count)
			cache_policy_return(&policy, parked[--parked_count]);
		break;
	case 4:
		max_weight = 2000 + random_below(seed, 6000);
		cache_policy_set_max(&policy, max_weight);
		while (held > max_weight)
			evict_one();
		break;
	default:
		use_weighing(key, 1 + (key % 7 == 0) * random_below(seed, 99));
	}
}

/* Parked ones are held, but in no queue. */
static void check_random(void)
{
	uint64_t weight = 0;

	assert_true(cache_policy_is_valid(&policy));
	for (unsigned i = 0; i < parked_count; i++)
		weight += entry_weight(record_entry(parked[i]));
	for (unsigned i = 0; i < QUEUE_END; i++)
		weight += policy.queue[i].weight;
	assert_int_equal(weight, held);
}

static void test_any_sequence_leaves_it_valid(void **state)
{
	uint64_t seed = random_seed(20);

	(void)state;
	start(4000);
	parked_count = 0;
	for (unsigned i = 0; i < RANDOM_STEPS; i++) {
		random_step(&seed);
		if (i % 64 == 0)
			check_random();
	}
	while (parked_count)
		cache_policy_return(&policy, parked[--parked_count]);
	while (held)
		evict_one();
	check_sums();
}

#define TEST(name) cmocka_unit_test_setup_teardown(name, set_up, tear_down)

int main(void)
{
	const struct CMUnitTest tests[] = {
		TEST(test_nothing_has_no_victim),
		TEST(test_a_scan_takes_nothing_from_main),
		TEST(test_uses_while_young_are_one_use),
		TEST(test_a_use_after_that_promotes),
		TEST(test_a_loop_twice_the_cache_has_hits),
		TEST(test_a_loop_four_times_the_cache_has_hits),
		TEST(test_after_a_loop_others_get_in),
		TEST(test_far_below_the_maximum_it_does_the_same),
		TEST(test_the_margins_move_the_share),
		TEST(test_a_few_entries_work),
		TEST(test_a_heavy_one_costs_its_weight),
		TEST(test_heavy_ones_do_not_flush_main),
		TEST(test_the_unit_of_weight_does_not_matter),
		TEST(test_a_light_cache_becomes_heavy),
		TEST(test_a_parked_one_comes_back),
		TEST(test_all_may_be_parked),
		TEST(test_remove_from_any_place),
		TEST(test_a_new_value_inherits_the_place),
		TEST(test_shrink_to_nothing),
		TEST(test_a_victim_costs_few_steps),
		TEST(test_memory_follows_the_entries),
		TEST(test_without_memory_it_goes_on),
		TEST(test_the_ghost_remembers),
		TEST(test_any_sequence_leaves_it_valid),
	};

	return run_group(tests);
}
