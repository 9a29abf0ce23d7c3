/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * P11 for caches: each allocation and system call of their own fails, one after
 * the other.  Then there is a documented error or none, nothing is lost, sums
 * are exact, and evicting needs no memory.  Linked with fault_os.c as faults.c.
 */
#include "caches.h"

#include "cache_entry.h"
#include "fault_left.h"
#include "fault_os.h"

enum { KEYS = 400, MAX_WEIGHT = 300, FOR_EVER = INT32_MAX };

/* One run of the scenario, and what it knows that must have happened. */
struct run {
	struct seg_cache *cache;
	uint64_t in, taken, heard;
};

static void listen(void *ctx, uint64_t key, void *value, uint64_t weight,
		   enum seg_cause cause)
{
	struct run *r = ctx;

	(void)key;
	require(value && weight && cause);
	r->heard++;
}

static bool came_in(struct run *r, int ret)
{
	require(ret == 0 || ret == -ENOMEM);
	r->in += ret == 0;
	return ret == 0;
}

static int load(void *ctx, uint64_t key, void **ret_value,
		uint64_t *ret_weight)
{
	struct run *r = ctx;

	r->in++;
	*ret_value = number(key);
	*ret_weight = 1;
	return 0;
}

static void run_puts(struct run *r)
{
	for (uint64_t key = 0; key < KEYS; key++)
		came_in(r, seg_cache_put(r->cache, key, number(key), 1, NULL));
	for (uint64_t key = 0; key < KEYS; key += 10)
		came_in(r, seg_cache_replace(r->cache, key, number(key), 2,
					     NULL));
}

static void run_pins(struct run *r)
{
	struct seg_pin pins[4];
	unsigned count = 0;

	for (uint64_t key = KEYS; key < KEYS + 4; key++) {
		int ret = seg_cache_get_or_load(r->cache, key, load, r, 0,
						&pins[count]);

		require(ret == 0 || ret == -ENOMEM);
		if (ret)
			continue;
		ret = seg_pin_tag(&pins[count], key);
		require(ret == 0 || ret == -ENOMEM);
		require(seg_pin_value(&pins[count]) == number(key));
		count++;
	}
	require(cache_stats(r->cache).pinned_weight == count);
	while (count > 0)
		unpin(&pins[--count]);
}

/* None of these may fail: they only make things go. */
static void run_ways_out(struct run *r)
{
	void *value;

	for (uint64_t key = 0; key < KEYS; key += 7) {
		int ret = seg_cache_take(r->cache, key, &value);

		require(ret == 0 || ret == -ENOENT);
		r->taken += ret == 0;
		ret = seg_cache_remove(r->cache, key + 1, NULL);
		require(ret == 0 || ret == -ENOENT);
	}
	require(seg_cache_set_max_weight(r->cache, MAX_WEIGHT / 2) == 0);
	require(cache_stats(r->cache).weight <= MAX_WEIGHT / 2);
	require(seg_cache_shrink(r->cache, 10, NULL) == 0);
	require(cache_stats(r->cache).weight <= 10);
	require(seg_cache_is_valid(r->cache));
	require(cache_stats(r->cache).inserts_total == r->in);
}

/* With the fault still armed; what the kernel did not take is tried again. */
static uint64_t run_destroy(struct run *r)
{
	int ret = seg_cache_destroy(r->cache);
	uint64_t failed;

	require(ret == 0 || ret == -EBUSY);
	failed = fault_disarm();
	if (ret) {
		require(failed > 0);
		require(seg_cache_is_valid(r->cache));
		came_in(r, seg_cache_put(r->cache, 1, number(1), 1, NULL));
		require(seg_cache_destroy(r->cache) == 0);
	}
	require(r->heard == r->in - r->taken);
	return failed;
}

static uint64_t run_scenario(unsigned short_reads)
{
	struct run r = { .in = 0 };
	struct seg_cache_options o = {
		.size = sizeof(o), .max_weight = MAX_WEIGHT,
		.listener = listen, .listener_ctx = &r,
		.short_reads = short_reads,
	};
	int ret = seg_cache_create(&o, &r.cache);

	require(ret == 0 || ret == -ENOMEM || ret == -EAGAIN);
	if (ret)
		return fault_disarm();
	run_puts(&r);
	run_pins(&r);
	run_ways_out(&r);
	return run_destroy(&r);
}

/* Calls n to n + calls - 1 fail, for each n until the run has fewer. */
static void sweep(enum fault_kind kind, uint64_t calls, unsigned short_reads)
{
	uint64_t failed = 1;
	uint64_t n;

	for (n = 1; failed; n++) {
		fault_arm(kind, n, calls);
		failed = run_scenario(short_reads);
		assert_nothing_is_left();
	}
	print_message("kind %d: %llu calls\n", (int)kind,
		      (unsigned long long)n - 2);
	assert_true(n > 2 || kind == FAULT_REALLOC || kind == FAULT_ADVISE ||
		    kind == FAULT_MEMBARRIER);
}

static void test_each_call_fails(void **state)
{
	(void)state;
	for (unsigned short_reads = 0; short_reads < 2; short_reads++)
		for (int kind = 0; kind < FAULT_KINDS; kind++) {
			sweep((enum fault_kind)kind, 1, short_reads);
			sweep((enum fault_kind)kind, FOR_EVER, short_reads);
		}
}

static void test_creation(void **state)
{
	struct run r = { .in = 0 };
	struct seg_cache_options o = { .size = sizeof(o), .max_weight = 1,
				       .listener = listen };

	(void)state;
	fault_arm(FAULT_CALLOC, 1, 1);
	assert_int_equal(seg_cache_create(&o, &r.cache), -ENOMEM);
	fault_arm(FAULT_CALLOC, 2, 1);
	assert_int_equal(seg_cache_create(&o, &r.cache), -ENOMEM);
	fault_arm(FAULT_MAP, 1, 1);
	assert_int_equal(seg_cache_create(&o, &r.cache), -ENOMEM);
	fault_arm(FAULT_THREAD, 1, 1);
	assert_int_equal(seg_cache_create(&o, &r.cache), -EAGAIN);
	assert_int_equal(fault_disarm(), 1);
	assert_null(r.cache);
	assert_nothing_is_left();
}

/* Entries' memory is got when they come; none is needed when they go. */
static void test_no_memory_at_all(void **state)
{
	struct box *box = box_begin(MAX_WEIGHT);
	struct seg_pin pin;

	(void)state;
	for (uint64_t key = 0; key < 100; key++)
		put(box->cache, key, number(key), 1);
	pin = get(box->cache, 50);
	fault_arm(FAULT_CALLOC, 1, FOR_EVER);
	assert_int_equal(seg_cache_remove(box->cache, 50, NULL), 0);
	unpin(&pin);
	assert_int_equal(seg_cache_shrink(box->cache, 20, NULL), 0);
	assert_int_equal(cache_stats(box->cache).weight, 20);
	assert_int_equal(seg_cache_clear(box->cache), 0);
	assert_int_equal(box_heard(box), 100);
	fault_disarm();
	box_end(box);
	assert_nothing_is_left();
}

/* A refused put evicted nobody for good: the value is the caller's. */
static void test_a_put_without_memory(void **state)
{
	struct box *box = box_begin(1000000);
	struct seg_pin pin = { .version = 4711 };
	uint64_t key = 0;
	int ret;

	(void)state;
	fault_arm(FAULT_MAP, 1, FOR_EVER);
	assert_int_equal(seg_cache_put(box->cache, 0, number(0), 1, NULL),
			 -ENOMEM);
	fault_arm(FAULT_MAP, 2, FOR_EVER);
	do
		ret = seg_cache_put(box->cache, key, number(key), 1, NULL);
	while (!ret && ++key < CACHE_GROUP_ENTRIES);
	assert_int_equal(key, CACHE_GROUP_ENTRIES - 1);
	assert_int_equal(ret, -ENOMEM);
	assert_int_equal(seg_cache_put(box->cache, key, number(key), 1, &pin),
			 -ENOMEM);
	assert_int_equal(pin.version, 4711);
	assert_false(has(box->cache, key));
	assert_int_equal(cache_stats(box->cache).entries, key);
	assert_true(fault_disarm() > 0);
	put(box->cache, key, number(key), 1);
	assert_int_equal(box_heard(box), 0);
	box_end(box);
	assert_nothing_is_left();
}

/* Values that wait hold the memory that puts want, until they have left. */
static void test_a_put_while_values_wait(void **state)
{
	struct box *box = box_begin_with((struct seg_cache_options){
		.max_weight = 10, .short_reads = 1 });
	uint64_t key = 0;
	int ret;

	(void)state;
	put(box->cache, key, number(key), 10);
	fault_arm(FAULT_MAP, 1, FOR_EVER);
	seg_read_begin();
	do
		ret = seg_cache_replace(box->cache, 0, number(key), 10, NULL);
	while (!ret && ++key < CACHE_GROUP_ENTRIES);
	assert_int_equal(ret, -ENOMEM);
	assert_true(key > 0);
	assert_int_equal(box_heard(box), 0);
	seg_read_end();
	wait_until(seg_cache_replace(box->cache, 0, number(key), 10, NULL) ==
		   0);
	assert_true(fault_disarm() > 0);
	wait_until(box_heard(box) == key + 1);
	box_end(box);
	assert_nothing_is_left();
}

/* Without a table's next part its chains get longer, and puts succeed. */
static void test_a_table_that_cannot_grow(void **state)
{
	struct box *box = box_begin(1000000);

	(void)state;
	for (uint64_t key = 0; key < 10; key++)
		put(box->cache, key, number(key), 1);
	fault_arm(FAULT_CALLOC, 1, FOR_EVER);
	for (uint64_t key = 10; key < 2000; key++) {
		put(box->cache, key, number(key), 1);
		require(has(box->cache, key));
	}
	assert_true(fault_disarm() > 0);
	for (uint64_t key = 0; key < 2000; key++)
		assert_true(has(box->cache, key));
	box_end(box);
	assert_nothing_is_left();
}

/* The mapping of tags: the pin is held without one. */
static void test_a_tag_without_memory(void **state)
{
	struct box *box = box_begin(100);
	struct seg_pin_report r = { .size = sizeof(r) };
	struct seg_pin pin = put_pinned(box->cache, 1, number(1), 1);

	(void)state;
	fault_arm(FAULT_MAP, 1, FOR_EVER);
	assert_int_equal(seg_pin_tag(&pin, 5), -ENOMEM);
	assert_int_equal(fault_disarm(), 1);
	assert_ptr_equal(seg_pin_value(&pin), number(1));
	assert_int_equal(seg_cache_pins(box->cache, &r), 0);
	assert_int_equal(r.tagged, 0);
	assert_int_equal(seg_pin_tag(&pin, 5), 0);
	unpin(&pin);
	box_end(box);
	assert_nothing_is_left();
}

/* It is empty then, goes on working, and is destroyed the next time. */
static void test_a_destroy_that_the_kernel_refuses(void **state)
{
	struct seg_budget *b = new_budget(MIB);
	struct box *box = box_begin_with((struct seg_cache_options){
		.max_weight = 100, .budget = b });
	struct seg_pin pin = put_pinned(box->cache, 1, number(1), 1);

	(void)state;
	assert_int_equal(seg_pin_tag(&pin, 5), 0);
	unpin(&pin);
	for (int i = 0; i < 3; i++) {
		fault_arm(FAULT_UNMAP, 1, 1);
		assert_int_equal(seg_cache_destroy(box->cache), -EBUSY);
		assert_int_equal(fault_disarm(), 1);
		assert_int_equal(budget_stats(b).caches, 1);
		assert_int_equal(cache_stats(box->cache).entries, 0);
		pin = put_pinned(box->cache, 1, number(1), 1);
		assert_int_equal(seg_pin_tag(&pin, 5), 0);
		unpin(&pin);
	}
	assert_int_equal(box_heard(box), 3);
	box_end(box);
	end_budget(b);
	assert_nothing_is_left();
}

/* One mapping after the other: of tags, of entries, of their table. */
static void test_each_refusal_of_a_destroy(void **state)
{
	(void)state;
	for (uint64_t refused = 1; refused <= 3; refused++) {
		struct box *box = box_begin(100);
		struct seg_pin pin = put_pinned(box->cache, 1, number(1), 1);

		assert_int_equal(seg_pin_tag(&pin, 5), 0);
		unpin(&pin);
		fault_arm(FAULT_UNMAP, refused, 1);
		assert_int_equal(seg_cache_destroy(box->cache), -EBUSY);
		assert_int_equal(fault_disarm(), 1);
		assert_true(seg_cache_is_valid(box->cache));
		for (uint64_t key = 0; key < 200; key++)
			put(box->cache, key, number(key), 1);
		assert_int_equal(cache_stats(box->cache).entries, 100);
		assert_true(seg_cache_is_valid(box->cache));
		box_end(box);
		assert_nothing_is_left();
	}
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test_setup(test_each_call_fails, begin),
		cmocka_unit_test_setup(test_creation, begin),
		cmocka_unit_test_setup(test_no_memory_at_all, begin),
		cmocka_unit_test_setup(test_a_put_without_memory, begin),
		cmocka_unit_test_setup(test_a_put_while_values_wait, begin),
		cmocka_unit_test_setup(test_a_table_that_cannot_grow, begin),
		cmocka_unit_test_setup(test_a_tag_without_memory, begin),
		cmocka_unit_test_setup(test_a_destroy_that_the_kernel_refuses,
				       begin),
		cmocka_unit_test_setup(test_each_refusal_of_a_destroy, begin),
	};

	return run_group(tests);
}
