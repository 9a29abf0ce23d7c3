/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * Pins by a copy of an earlier one: of the same value as before or of none,
 * whatever became of entry and key meanwhile.
 */
#include "caches.h"

#include "cache.h"

static struct seg_pin put_and_leave(struct box *box, uint64_t key,
				    uint64_t weight)
{
	struct seg_pin pin = put_pinned(box->cache, key, number(key), weight);
	struct seg_pin copy = pin;

	unpin(&pin);
	return copy;
}

static void test_it_is_a_pin_and_a_hit(void **state)
{
	struct box *box = box_begin(100);
	struct seg_pin last = put_and_leave(box, 1, 60), pin;
	uint64_t hits = cache_stats(box->cache).hits_total;

	(void)state;
	assert_weights(box, 60, 0);
	assert_int_equal(seg_pin_again(&last, &pin), 0);
	assert_weights(box, 0, 60);
	assert_ptr_equal(seg_pin_value(&pin), number(1));
	assert_int_equal(cache_stats(box->cache).hits_total, hits + 1);
	for (uint64_t i = 2; i < 40; i++)
		put(box->cache, i, number(i), 10);
	assert_int_equal(box_times(box, number(1)), 0);
	/* A second one, into the copy itself. */
	assert_int_equal(seg_pin_again(&last, &last), 0);
	unpin(&pin);
	assert_int_equal(cache_stats(box->cache).pinned_weight, 60);
	unpin(&last);
	assert_int_equal(seg_pin_again(&last, &pin), -EINVAL);
	box_end(box);
}

/* Marks are what keeps an entry: one that is pinned again and again stays. */
static void test_it_counts_as_a_use(void **state)
{
	struct box *box = box_begin(100);
	struct seg_pin last = put_and_leave(box, 1, 10), pin;
	unsigned kept = 0;

	(void)state;
	for (uint64_t i = 2; i < 400; i++) {
		put(box->cache, i, number(i), 10);
		if (seg_pin_again(&last, &pin))
			break;
		unpin(&pin);
		kept++;
	}
	assert_int_equal(kept, 398);
	box_end(box);
}

static void test_a_value_that_left(void **state)
{
	struct box *box = box_begin(100);
	struct seg_pin taken = put_and_leave(box, 1, 10);
	struct seg_pin removed = put_and_leave(box, 2, 10);
	struct seg_pin replaced = put_and_leave(box, 3, 10);
	struct seg_pin evicted = put_and_leave(box, 4, 10), pin = { 0 };
	void *value;

	(void)state;
	assert_int_equal(seg_cache_take(box->cache, 1, &value), 0);
	assert_int_equal(seg_cache_remove(box->cache, 2, NULL), 0);
	assert_int_equal(seg_cache_replace(box->cache, 3, number(30), 10,
					   NULL), 0);
	assert_int_equal(seg_cache_shrink(box->cache, 0, NULL), 0);
	assert_int_equal(seg_pin_again(&taken, &pin), -ENOENT);
	assert_int_equal(seg_pin_again(&removed, &pin), -ENOENT);
	assert_int_equal(seg_pin_again(&replaced, &pin), -ENOENT);
	assert_int_equal(seg_pin_again(&evicted, &pin), -ENOENT);
	/* The keys again, in the entries of before. */
	for (uint64_t i = 1; i <= 4; i++)
		put(box->cache, i, number(i + 100), 10);
	assert_int_equal(seg_pin_again(&taken, &pin), -ENOENT);
	assert_int_equal(seg_pin_again(&removed, &pin), -ENOENT);
	assert_int_equal(seg_pin_again(&replaced, &pin), -ENOENT);
	assert_int_equal(seg_pin_again(&evicted, &pin), -ENOENT);
	assert_null(pin.cache);
	box_end(box);
}

/* Hidden: nobody new gets it, though it is there for who has it. */
static void test_a_value_that_is_removed_but_pinned(void **state)
{
	struct box *box = box_begin(100);
	struct seg_pin pin = put_pinned(box->cache, 1, number(1), 10);
	struct seg_pin copy = pin, other;

	(void)state;
	assert_int_equal(seg_pin_again(&copy, &other), 0);
	assert_int_equal(seg_cache_remove(box->cache, 1, NULL), 0);
	unpin(&other);
	assert_int_equal(seg_pin_again(&copy, &other), -ENOENT);
	unpin(&pin);
	assert_int_equal(box_times(box, number(1)), 1);
	assert_int_equal(seg_pin_again(&copy, &other), -ENOENT);
	box_end(box);
}

static void test_what_is_wrong(void **state)
{
	struct box *box = box_begin(100);
	struct seg_pin last = put_and_leave(box, 1, 10), pin, none = { 0 };
	struct cache_entry *e = last.entry;
	uint64_t word = u64_load_relaxed(&e->word);

	(void)state;
	assert_int_equal(seg_pin_again(NULL, &pin), -EINVAL);
	assert_int_equal(seg_pin_again(&last, NULL), -EINVAL);
	assert_int_equal(seg_pin_again(&none, &pin), -EINVAL);
	u64_store_relaxed(&e->word, word | ENTRY_FULL);
	assert_int_equal(seg_pin_again(&last, &pin), -ENOENT);
	u64_store_relaxed(&e->word, word);
	box_end(box);
}

enum { KEYS = 64, TURNS = 20000 };

struct game {
	struct box *box;
	struct atomic_u32 wrong;
	struct atomic_u32 players;	/* each one's number is its seed */
};

/* Remembers each key's last pin; evictions make most of them worthless. */
static void *play(void *arg)
{
	struct game *g = arg;
	struct seg_pin last[KEYS] = { { 0 } }, pin;
	uint64_t seed = u32_add_relaxed(&g->players, 1) + 1;

	for (int i = 0; i < TURNS; i++) {
		uint64_t key = random_below(&seed, KEYS);

		if (!last[key].cache || seg_pin_again(&last[key], &pin)) {
			int ret = seg_cache_get(g->box->cache, key, &pin);

			if (ret)
				ret = seg_cache_put(g->box->cache, key,
						    number(key), 1, &pin);
			if (ret)
				continue;	/* another thread put it */
		}
		if (seg_pin_value(&pin) != number(key))
			u32_add_relaxed(&g->wrong, 1);
		last[key] = pin;
		unpin(&pin);
	}
	return NULL;
}

static void test_many_threads_remember(void **state)
{
	struct game g = { .box = box_begin(KEYS / 4) };
	pthread_t thread[4];

	(void)state;
	for (int i = 0; i < 4; i++)
		require(!pthread_create(&thread[i], NULL, play, &g));
	for (int i = 0; i < 4; i++)
		pthread_join(thread[i], NULL);
	assert_int_equal(u32_load_relaxed(&g.wrong), 0);
	assert_int_equal(cache_stats(g.box->cache).misuses_total, 0);
	box_end(g.box);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_it_is_a_pin_and_a_hit),
		cmocka_unit_test(test_it_counts_as_a_use),
		cmocka_unit_test(test_a_value_that_left),
		cmocka_unit_test(test_a_value_that_is_removed_but_pinned),
		cmocka_unit_test(test_what_is_wrong),
		cmocka_unit_test(test_many_threads_remember),
	};

	return run_group(tests);
}
