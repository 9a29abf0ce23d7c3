/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * lib/cache_index.h: chains are in the order of the hashes, whatever comes,
 * goes and is split; what a split moves, and what it does not touch; keys of
 * equal hash; and that a check finds what is out of its place.
 */
#include "indexes.h"

enum { MANY = 3000, STEPS = 20000, EQUAL = 40, CHAIN = 8 };

static int new_index(void **state)
{
	(void)state;
	return !index_begin();
}

static int end_index(void **state)
{
	(void)state;
	index_end();
	return 0;
}

/* Where it is to be, of so many buckets: who is not yet there stands in the one
 * that it will be split from. */
static uint32_t bucket_of_hash(uint32_t hash, uint32_t buckets)
{
	uint32_t round = INDEX_BASE;

	while (round < buckets)
		round *= 2;
	return hash % round < buckets ? hash % round : hash % (round / 2);
}

/* The length of a chain that is as it should be. */
static uint32_t check_chain(uint32_t bucket)
{
	uint32_t buckets = cache_index_buckets(&ix);
	uint32_t length = 0, before = 0;
	struct cache_entry *e = cache_index_first(&ix, bucket);

	for (; e; e = cache_index_next(&ix, e), length++) {
		uint32_t hash = index_hash(entry_key(e));

		assert_int_equal(bucket_of_hash(hash, buckets), bucket);
		assert_true(reversed(hash) >= before);
		before = reversed(hash);
	}
	return length;
}

static void check_chains(uint32_t entries)
{
	uint32_t found = 0;

	for (uint32_t b = 0; b < cache_index_buckets(&ix); b++)
		found += check_chain(b);
	assert_int_equal(found, entries);
	assert_int_equal(ix.entries, entries);
	assert_true(cache_index_is_valid(&ix));
}

/* Also what the others build on. */
static void test_hashes_can_be_undone(void **state)
{
	uint64_t seed = random_seed(3);

	(void)state;
	for (int i = 0; i < 1000; i++) {
		uint32_t hash = (uint32_t)random_next(&seed);

		assert_int_equal(index_hash(key_of_hash(hash, (uint32_t)i)),
				 hash);
	}
	for (uint32_t n = 1; n < 16; n++)
		assert_true(reversed(index_hash(key_of_bucket(77, n - 1))) <
			    reversed(index_hash(key_of_bucket(77, n))));
}

/* Some have the same hash, some the same lower bits, some nothing. */
static uint64_t any_key(uint64_t n)
{
	if (n % 4 == 0)
		return key_of_hash((uint32_t)n / 64, (uint32_t)n);
	if (n % 4 == 1)
		return key_of_hash((uint32_t)n << 20 | 5, 1);
	return n;
}

static void test_any_sequence_leaves_them_in_order(void **state)
{
	static bool in[MANY];
	uint64_t seed = random_seed(7);
	uint32_t entries = 0;

	(void)state;
	memset(in, 0, sizeof(in));
	for (uint64_t step = 0; step < STEPS; step++) {
		uint64_t n = random_below(&seed, 1 + step * MANY / STEPS);

		if (in[n])
			remove_and_kill(nth_entry(n));
		else
			insert(nth_entry(n), any_key(n));
		in[n] = !in[n];
		entries += in[n] ? 1 : -1u;
		if (step % 512 == 0)
			check_chains(entries);
	}
	check_chains(entries);
	for (uint64_t n = 0; n < MANY; n++)
		assert_ptr_equal(find(any_key(n)),
				 in[n] ? nth_entry(n) : NULL);
}

/* They stay in one chain for ever, and are told apart by the key alone. */
static void test_equal_hashes(void **state)
{
	(void)state;
	for (uint32_t n = 0; n < EQUAL; n++)
		insert(nth_entry(n), key_of_hash(0x80000001, n));
	for (uint64_t n = EQUAL; n < MANY; n++)
		insert(nth_entry(n), n);
	check_chains(MANY);
	assert_true(check_chain(bucket_of_hash(0x80000001,
					       cache_index_buckets(&ix))) >=
		    EQUAL);
	for (uint32_t n = 0; n < EQUAL; n += 2)
		remove_and_kill(nth_entry(n));
	for (uint32_t n = 0; n < EQUAL; n++)
		assert_ptr_equal(find(key_of_hash(0x80000001, n)),
				 n % 2 ? nth_entry(n) : NULL);
	check_chains(MANY - EQUAL / 2);
}

/* ---- splits ---- */

/* Where each of a bucket goes; those that move stand behind those that stay. */
static void insert_chain_to_split(void)
{
	for (unsigned i = 0; i < CHAIN; i++) {
		unsigned n = i * 3 % CHAIN;

		insert(nth_entry(n),
		       key_of_bucket(n < CHAIN / 2 ? 0 : INDEX_BASE, n));
	}
	assert_int_equal(cache_index_buckets(&ix), INDEX_BASE);
}

/* Of bucket 0, by others that stand in bucket 1. */
static unsigned split_first_bucket(void)
{
	unsigned came = 0;

	while (cache_index_buckets(&ix) == INDEX_BASE) {
		insert(nth_entry(CHAIN + came), key_of_hash(1, came + 1));
		came++;
	}
	return came;
}

static void test_a_split_moves_those_of_the_new_bucket(void **state)
{
	struct cache_entry *e[CHAIN];

	(void)state;
	insert_chain_to_split();
	for (unsigned i = 0; i < CHAIN; i++)
		e[i] = nth_entry(i);
	assert_int_equal(check_chain(0), CHAIN);
	split_first_bucket();
	assert_int_equal(check_chain(0), CHAIN / 2);
	assert_int_equal(check_chain(INDEX_BASE), CHAIN / 2);
	assert_ptr_equal(cache_index_first(&ix, 0), e[0]);
	assert_ptr_equal(cache_index_first(&ix, INDEX_BASE), e[CHAIN / 2]);
	for (unsigned i = 0; i < CHAIN; i++) {
		bool last = i == CHAIN / 2 - 1 || i == CHAIN - 1;

		assert_ptr_equal(cache_index_next(&ix, e[i]),
				 last ? NULL : e[i + 1]);
		assert_ptr_equal(find(entry_key(e[i])), e[i]);
	}
	assert_true(cache_index_is_valid(&ix));
}

/* Then a look-up needs not begin again because of it, if it found something. */
static void test_a_split_is_no_change(void **state)
{
	unsigned came;
	uint64_t before;

	(void)state;
	insert_chain_to_split();
	before = changes();
	came = split_first_bucket();
	/* Each of them, by begin(). */
	assert_int_equal(changes(), before + came);
	assert_true(cache_index_buckets(&ix) > INDEX_BASE);
}

static void test_a_split_of_all_or_nothing(void **state)
{
	(void)state;
	for (unsigned n = 0; n < CHAIN; n++)
		insert(nth_entry(n), key_of_bucket(INDEX_BASE, n));
	split_first_bucket();
	assert_null(cache_index_first(&ix, 0));
	assert_int_equal(check_chain(INDEX_BASE), CHAIN);
	index_end();
	assert_true(index_begin());
	for (unsigned n = 0; n < CHAIN; n++)
		insert(nth_entry(n), key_of_bucket(0, n));
	split_first_bucket();
	assert_null(cache_index_first(&ix, INDEX_BASE));
	assert_int_equal(check_chain(0), CHAIN);
}

/* ---- what is wrong is found ---- */

static void set_next(struct cache_entry *e, const struct cache_entry *next)
{
	/* relaxed, and below: one thread */
	u32_store_relaxed(&e->next, next ? entry_number(next) : 0);
}

static void set_first(uint32_t bucket, const struct cache_entry *e)
{
	u32_store_relaxed(index_bucket_at(&ix, bucket),
			  e ? entry_number(e) : 0);
}

static void insert_three(struct cache_entry **e)
{
	for (unsigned n = 0; n < 3; n++) {
		e[n] = nth_entry(n);
		insert(e[n], key_of_bucket(9, n));
	}
	check_chains(3);
}

static void test_a_wrong_order_is_found(void **state)
{
	struct cache_entry *e[3];

	(void)state;
	insert_three(e);
	set_first(9, e[1]);
	set_next(e[1], e[0]);
	set_next(e[0], e[2]);
	assert_false(cache_index_is_valid(&ix));
	set_first(9, e[0]);
	set_next(e[0], e[2]);
	set_next(e[2], e[1]);
	set_next(e[1], NULL);
	assert_false(cache_index_is_valid(&ix));
	set_next(e[0], e[1]);
	set_next(e[1], e[2]);
	set_next(e[2], NULL);
	check_chains(3);
}

static void test_a_wrong_place_is_found(void **state)
{
	struct cache_entry *e[3];

	(void)state;
	insert_three(e);
	/* Another's bucket: all are there, and in order. */
	set_first(10, e[0]);
	set_first(9, NULL);
	assert_false(cache_index_is_valid(&ix));
	/* The last is in two places, the first in none. */
	set_first(9, e[1]);
	set_first(10, e[2]);
	assert_false(cache_index_is_valid(&ix));
	/* One is lost. */
	set_first(10, NULL);
	assert_false(cache_index_is_valid(&ix));
	set_first(9, e[0]);
	check_chains(3);
	/* A ring is left, too. */
	set_next(e[2], e[2]);
	assert_false(cache_index_is_valid(&ix));
	set_next(e[2], NULL);
	check_chains(3);
}

#define chain_test(f) cmocka_unit_test_setup_teardown(f, new_index, end_index)

int main(void)
{
	const struct CMUnitTest tests[] = {
		chain_test(test_hashes_can_be_undone),
		chain_test(test_any_sequence_leaves_them_in_order),
		chain_test(test_equal_hashes),
		chain_test(test_a_split_moves_those_of_the_new_bucket),
		chain_test(test_a_split_is_no_change),
		chain_test(test_a_split_of_all_or_nothing),
		chain_test(test_a_wrong_order_is_found),
		chain_test(test_a_wrong_place_is_found),
	};

	return run_group(tests);
}
