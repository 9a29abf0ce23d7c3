/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * lib/cache_index.h: (X1) a key that is in is found, through every split,
 * (X2) by readers that stand in a chain meanwhile, (X3) or on what was removed.
 */
#include "testing.h"

#include "cache_index.h"
#include "keeper.h"
#include "rcu.h"

enum { MANY = 10000, READERS = 3, KNOWN = 50 };

static struct cache_index ix;
static struct keeper_duty duty;
static struct cache_entry entries[MANY];

static uint64_t never(struct keeper_duty *d, uint64_t now_ns)
{
	(void)d;
	(void)now_ns;
	return UINT64_MAX;
}

/* As the cache's, without its lock: the tests flush while nobody inserts. */
static bool settle(struct work *work)
{
	(void)work;
	cache_index_settled(&ix);
	return true;
}

static int new_index(void **state)
{
	(void)state;
	memset(&ix, 0, sizeof(ix));
	memset(entries, 0, sizeof(entries));
	duty.run = never;
	return !cache_index_init(&ix, settle) || keeper_join(&duty);
}

static int end_index(void **state)
{
	(void)state;
	keeper_flush();
	keeper_leave(&duty);
	cache_index_clear(&ix);
	return 0;
}

static void insert(struct cache_entry *e, uint64_t key)
{
	e->key = key;
	entry_begin(e, 0, 0);
	cache_index_insert(&ix, e);
}

/* A round may begin only after a grace period. */
static void insert_and_settle(struct cache_entry *e, uint64_t key)
{
	insert(e, key);
	if (!cache_index_is_settled(&ix))
		keeper_flush();
}

static void test_empty(void **state)
{
	(void)state;
	for (uint64_t key = 0; key < 1000; key++)
		assert_null(cache_index_find(&ix, key));
	assert_null(cache_index_find(&ix, UINT64_MAX));
	assert_int_equal(cache_index_buckets(&ix), INDEX_BASE);
	assert_int_equal(cache_index_bytes(&ix), INDEX_BASE * 8);
	assert_true(cache_index_is_valid(&ix));
}

static void test_in_and_out(void **state)
{
	const uint64_t keys[] = { 0, 1, 2, 1u << 31, UINT64_MAX,
				  UINT64_C(1) << 63 };

	(void)state;
	for (int i = 0; i < 6; i++)
		insert(&entries[i], keys[i]);
	for (int i = 0; i < 6; i++)
		assert_ptr_equal(cache_index_find(&ix, keys[i]), &entries[i]);
	assert_true(cache_index_is_valid(&ix));
	for (int i = 0; i < 6; i++) {
		cache_index_remove(&ix, &entries[i]);
		assert_null(cache_index_find(&ix, keys[i]));
		for (int k = i + 1; k < 6; k++)
			assert_ptr_equal(cache_index_find(&ix, keys[k]),
					 &entries[k]);
		assert_true(cache_index_is_valid(&ix));
	}
	assert_int_equal(ix.entries, 0);
}

static void test_of_equal_keys_the_newest(void **state)
{
	(void)state;
	insert(&entries[0], 7);
	insert(&entries[1], 7);
	assert_ptr_equal(cache_index_find(&ix, 7), &entries[1]);
	cache_index_remove(&ix, &entries[0]);
	assert_ptr_equal(cache_index_find(&ix, 7), &entries[1]);
	insert(&entries[2], 7);
	cache_index_remove(&ix, &entries[2]);
	assert_ptr_equal(cache_index_find(&ix, 7), &entries[1]);
	assert_true(cache_index_is_valid(&ix));
}

static void assert_found_up_to(uint64_t from, uint64_t to, uint64_t stride)
{
	for (uint64_t i = from; i < to; i++)
		assert_ptr_equal(cache_index_find(&ix, i * stride),
				 &entries[i]);
}

static void grow_with_stride(uint64_t stride)
{
	for (uint64_t i = 0; i < MANY; i++) {
		insert_and_settle(&entries[i], i * stride);
		if ((i & (i + 1)) == 0)
			assert_found_up_to(0, i + 1, stride);
	}
	assert_found_up_to(0, MANY, stride);
	assert_true(cache_index_is_valid(&ix));
	assert_true(cache_index_buckets(&ix) >= MANY);
	assert_true(cache_index_bytes(&ix) >= MANY * 8);
	for (uint64_t i = 0; i < MANY; i++)
		cache_index_remove(&ix, &entries[i]);
	assert_int_equal(ix.entries, 0);
	assert_true(cache_index_is_valid(&ix));
}

static void test_it_grows_with_its_entries(void **state)
{
	(void)state;
	grow_with_stride(1);
}

static void test_keys_with_a_stride(void **state)
{
	(void)state;
	grow_with_stride(UINT64_C(1) << 44);
}

static unsigned longest_chain(void)
{
	unsigned longest = 0;

	for (uint32_t b = 0; b < cache_index_buckets(&ix); b++) {
		unsigned side, length = 0;
		struct cache_entry *e = cache_index_first(&ix, b, &side);

		for (; e; e = cache_index_next(e, side))
			length++;
		longest = length > longest ? length : longest;
	}
	return longest;
}

/* Pages of a file are numbered in a row, or in steps of a power of two. */
static void test_chains_are_short(void **state)
{
	(void)state;
	for (unsigned shift = 0; shift < 48; shift += 12) {
		for (uint64_t i = 0; i < MANY; i++)
			insert_and_settle(&entries[i], i << shift);
		assert_true(longest_chain() <= 16);
		for (uint64_t i = 0; i < MANY; i++)
			cache_index_remove(&ix, &entries[i]);
	}
}

/* Without a grace period chains only get longer (X2). */
static void test_no_second_round_before_a_grace_period(void **state)
{
	uint32_t buckets;

	(void)state;
	keeper_hold();
	for (uint64_t i = 0; i < MANY; i++)
		insert(&entries[i], i);
	buckets = cache_index_buckets(&ix);
	assert_true(buckets <= 2 * INDEX_BASE);
	assert_found_up_to(0, MANY, 1);
	assert_true(cache_index_is_valid(&ix));
	keeper_let_go();
	keeper_flush();
	while (cache_index_grow(&ix))
		;
	assert_true(cache_index_buckets(&ix) > buckets);
	assert_found_up_to(0, MANY, 1);
	assert_true(cache_index_is_valid(&ix));
}

/* X3: who stands on a removed entry still gets to what is behind. */
static void test_what_is_removed_still_leads_on(void **state)
{
	unsigned side;
	struct cache_entry *first, *second;

	(void)state;
	keeper_hold();
	for (uint64_t i = 0; i < 1000; i++)
		insert(&entries[i], i);
	first = cache_index_first(&ix, 0, &side);
	second = cache_index_next(first, side);
	assert_non_null(second);
	cache_index_remove(&ix, first);
	assert_ptr_equal(cache_index_next(first, side), second);
	cache_index_remove(&ix, second);
	assert_ptr_equal(cache_index_next(first, side), second);
	keeper_let_go();
}

/* As a replace needs it: who stands before the old one, or on it, goes on to
 * the new one, or past both, and never round them. */
static void test_replaced_in_its_place(void **state)
{
	unsigned side;
	struct cache_entry *chain[3], *heir = &entries[MANY - 1];

	(void)state;
	keeper_hold();
	for (uint64_t i = 0; i < 1000; i++)
		insert(&entries[i], i);
	keeper_let_go();
	chain[0] = cache_index_first(&ix, 0, &side);
	chain[1] = cache_index_next(chain[0], side);
	chain[2] = cache_index_next(chain[1], side);
	assert_non_null(chain[2]);
	heir->key = chain[1]->key;
	entry_begin(heir, 0, 0);
	cache_index_replace(&ix, chain[1], heir);
	assert_ptr_equal(cache_index_next(chain[0], side), heir);
	assert_ptr_equal(cache_index_next(heir, side), chain[2]);
	assert_ptr_equal(cache_index_next(chain[1], side), chain[2]);
	assert_ptr_equal(cache_index_find(&ix, heir->key), heir);
	entries[MANY - 2].key = chain[0]->key;
	cache_index_replace(&ix, chain[0], &entries[MANY - 2]);
	assert_ptr_equal(cache_index_first(&ix, 0, &side), &entries[MANY - 2]);
	assert_ptr_equal(cache_index_next(&entries[MANY - 2], side), heir);
	assert_int_equal(ix.entries, 1000);
	assert_true(cache_index_is_valid(&ix));
}

/* A reader inside a chain goes on in it while its bucket is split. */
static void test_a_split_leaves_the_old_chain_whole(void **state)
{
	static struct cache_entry *chain[MANY];
	unsigned side, length = 0;
	uint64_t i = 0;
	struct cache_entry *e;

	(void)state;
	keeper_hold();
	while (cache_index_buckets(&ix) < 2 * INDEX_BASE || i < 1000)
		insert(&entries[i], i), i++;
	keeper_let_go();
	keeper_flush();
	for (e = cache_index_first(&ix, 0, &side); e;
	     e = cache_index_next(e, side))
		chain[length++] = e;
	assert_true(length > 1);
	/* The next round, whose first split is of bucket 0. */
	assert_true(cache_index_grow(&ix));
	for (unsigned k = 0; k < length; k++)
		assert_ptr_equal(cache_index_next(chain[k], side),
				 k + 1 < length ? chain[k + 1] : NULL);
	assert_found_up_to(0, i, 1);
}

static void test_corruption_is_found(void **state)
{
	unsigned side;
	struct cache_entry *e = NULL;

	(void)state;
	for (uint64_t i = 0; i < 100; i++)
		insert(&entries[i], i);
	assert_true(cache_index_is_valid(&ix));
	ix.entries++;
	assert_false(cache_index_is_valid(&ix));
	ix.entries -= 2;
	assert_false(cache_index_is_valid(&ix));
	ix.entries++;
	for (uint32_t b = 0; !e; b++)
		e = cache_index_first(&ix, b, &side);
	e->key ^= UINT64_C(0x5555);
	assert_false(cache_index_is_valid(&ix));
	e->key ^= UINT64_C(0x5555);
	assert_true(cache_index_is_valid(&ix));
}

/* ---- look-ups while it grows ---- */

struct reader {
	struct atomic_u32 *done;
	uint64_t looks, misses;
};

static void *look_for_known(void *arg)
{
	struct reader *r = arg;

	do {
		for (uint64_t key = 0; key < KNOWN; key++) {
			struct cache_entry *e;

			rcu_enter();
			e = cache_index_find(&ix, key);
			r->misses += !e || e->key != key;
			rcu_leave();
			r->looks++;
		}
	} while (!u32_load_acquire(r->done));
	return r->misses ? arg : NULL;
}

/* X1: they are in all the time, at the end of chains that are split. */
static void test_no_false_miss_while_it_grows(void **state)
{
	struct atomic_u32 done = { 0 };
	struct reader readers[READERS];
	struct threads threads;

	(void)state;
	for (uint64_t i = 0; i < KNOWN; i++)
		insert(&entries[i], i);
	for (int i = 0; i < READERS; i++)
		readers[i] = (struct reader){ .done = &done };
	threads_start(&threads, READERS, look_for_known, readers,
		      sizeof(*readers));
	for (uint64_t i = KNOWN; i < MANY; i++)
		insert_and_settle(&entries[i], i);
	for (uint64_t i = KNOWN; i < MANY; i++)
		cache_index_remove(&ix, &entries[i]);
	u32_store_release(&done, 1);
	assert_int_equal(threads_join(&threads), 0);
	for (int i = 0; i < READERS; i++)
		assert_true(readers[i].looks >= KNOWN);
	assert_true(cache_index_is_valid(&ix));
}

#define index_test(f) cmocka_unit_test_setup_teardown(f, new_index, end_index)

int main(void)
{
	const struct CMUnitTest tests[] = {
		index_test(test_empty),
		index_test(test_in_and_out),
		index_test(test_of_equal_keys_the_newest),
		index_test(test_it_grows_with_its_entries),
		index_test(test_keys_with_a_stride),
		index_test(test_chains_are_short),
		index_test(test_no_second_round_before_a_grace_period),
		index_test(test_what_is_removed_still_leads_on),
		index_test(test_replaced_in_its_place),
		index_test(test_a_split_leaves_the_old_chain_whole),
		index_test(test_corruption_is_found),
		index_test(test_no_false_miss_while_it_grows),
	};

	return run_group(tests);
}
