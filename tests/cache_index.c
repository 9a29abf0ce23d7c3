/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * lib/cache_index.h: (X1) what is found had the key, (X2) a key that is in is
 * found: through every split, by look-ups that stand on what was removed, or on
 * what was used again.  Linked with fault_os.c, for want of memory.
 */
#include "indexes.h"

#include <sys/mman.h>

#include "fault_os.h"

enum { MANY = 10000, READERS = 3, KNOWN = 50, BEFORE = 500, CHAIN = 8 };

static int new_index(void **state)
{
	(void)state;
	return !index_begin();
}

static int end_index(void **state)
{
	(void)state;
	index_end();
	return fault_blocks() != 0 || fault_mapped_bytes() != 0;
}

/* All in that bucket, the first of which is left out: for the trap. */
static uint64_t chain_key(uint32_t bucket, unsigned i)
{
	return key_of_bucket(bucket, i + 1);
}

/* They stand in that order, whatever the one in which they came. */
static void insert_chain(uint32_t bucket)
{
	for (unsigned i = 0; i < CHAIN; i++) {
		unsigned at = i * 5 % CHAIN;

		insert(nth_entry(at), chain_key(bucket, at));
	}
	assert_int_equal(cache_index_buckets(&ix), INDEX_BASE);
}

static void test_empty(void **state)
{
	(void)state;
	for (uint64_t key = 0; key < 1000; key++)
		assert_null(find(key));
	assert_null(find(UINT64_MAX));
	assert_int_equal(cache_index_buckets(&ix), INDEX_BASE);
	assert_int_equal(cache_index_bytes(&ix), INDEX_BASE * 4);
	assert_true(cache_index_is_valid(&ix));
}

static void test_in_and_out(void **state)
{
	const uint64_t keys[] = { 0, 1, 2, 1u << 31, UINT64_MAX,
				  UINT64_C(1) << 63 };

	(void)state;
	for (int i = 0; i < 6; i++)
		insert(nth_entry(i), keys[i]);
	for (int i = 0; i < 6; i++)
		assert_ptr_equal(find(keys[i]), nth_entry(i));
	assert_true(cache_index_is_valid(&ix));
	for (int i = 0; i < 6; i++) {
		cache_index_remove(&ix, nth_entry(i));
		assert_null(find(keys[i]));
		for (int k = i + 1; k < 6; k++)
			assert_ptr_equal(find(keys[k]), nth_entry(k));
		assert_true(cache_index_is_valid(&ix));
	}
	assert_int_equal(ix.entries, 0);
}

static void assert_found_up_to(uint64_t from, uint64_t to, uint64_t stride)
{
	for (uint64_t i = from; i < to; i++)
		assert_ptr_equal(find(i * stride), nth_entry(i));
}

/* Two buckets or more for each entry, at any time. */
static void grow_with_stride(uint64_t stride)
{
	for (uint64_t i = 0; i < MANY; i++) {
		insert(nth_entry(i), i * stride);
		assert_true(cache_index_buckets(&ix) >= 2 * (i + 1));
		if ((i & (i + 1)) == 0)
			assert_found_up_to(0, i + 1, stride);
	}
	assert_found_up_to(0, MANY, stride);
	assert_true(cache_index_is_valid(&ix));
	assert_in_range(cache_index_bytes(&ix), 2 * MANY * 4, 16 * MANY * 4);
	for (uint64_t i = 0; i < MANY; i++)
		cache_index_remove(&ix, nth_entry(i));
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

/* Eight for each entry, then none for a while, then four; the last of them in
 * another group. */
static void test_far_buckets_are_fewer(void **state)
{
	static const struct {
		uint64_t entries;
		uint32_t buckets;
	} rows[] = { { 1000, 8000 }, { 8192, 65536 }, { 16384, 65536 },
		     { 30000, 120000 } };
	uint64_t i = 0;

	(void)state;
	for (int r = 0; r < 4; r++) {
		for (; i < rows[r].entries; i++)
			insert(nth_entry(i), i);
		assert_int_equal(cache_index_buckets(&ix), rows[r].buckets);
		assert_found_up_to(0, i, 1);
	}
	assert_ptr_not_equal(cache_group_of(nth_entry(i - 1)), groups[0]);
	assert_true(cache_index_is_valid(&ix));
}

static unsigned longest_chain(void)
{
	unsigned longest = 0;

	for (uint32_t b = 0; b < cache_index_buckets(&ix); b++) {
		unsigned length = 0;
		struct cache_entry *e = cache_index_first(&ix, b);

		for (; e; e = cache_index_next(&ix, e))
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
			insert(nth_entry(i), i << shift);
		assert_true(longest_chain() <= 16);
		for (uint64_t i = 0; i < MANY; i++)
			cache_index_remove(&ix, nth_entry(i));
	}
}

/* Without memory chains only get longer, until there is some again. */
static void test_without_memory_for_buckets(void **state)
{
	(void)state;
	fault_arm(FAULT_CALLOC, 1, UINT64_MAX);
	for (uint64_t i = 0; i < MANY / 2; i++)
		insert(nth_entry(i), i);
	assert_true(fault_disarm() > 0);
	assert_int_equal(cache_index_buckets(&ix), INDEX_BASE);
	assert_true(longest_chain() > INDEX_STEPS);
	assert_found_up_to(0, MANY / 2, 1);
	assert_null(find(MANY));
	assert_true(cache_index_is_valid(&ix));
	for (uint64_t i = MANY / 2; i < MANY; i++)
		insert(nth_entry(i), i);
	assert_true(cache_index_buckets(&ix) >= 2 * MANY);
	assert_found_up_to(0, MANY, 1);
	assert_true(cache_index_is_valid(&ix));
}

static void test_no_index_without_memory(void **state)
{
	struct cache_index other = { .entries = 0 };

	(void)state;
	fault_arm(FAULT_CALLOC, 1, 1);
	assert_false(cache_index_init(&other, groups));
	assert_int_equal(fault_disarm(), 1);
	assert_int_equal(cache_index_bytes(&other), 0);
	cache_index_clear(&other);
}

/* Who stands on a removed entry still gets to what is behind. */
static void test_what_is_removed_still_leads_on(void **state)
{
	struct cache_entry *first, *second, *third;
	uint64_t before;

	(void)state;
	insert_chain(0);
	first = cache_index_first(&ix, 0);
	second = cache_index_next(&ix, first);
	third = cache_index_next(&ix, second);
	assert_ptr_equal(third, nth_entry(2));
	before = changes();
	remove_and_kill(first);
	remove_and_kill(second);
	assert_ptr_equal(cache_index_next(&ix, first), second);
	assert_ptr_equal(cache_index_next(&ix, second), third);
	assert_ptr_equal(cache_index_first(&ix, 0), third);
	assert_int_equal(changes(), before);
}

/* As a replace needs it: who stands before the old one, or on it, goes on to
 * the new one, or past both, and never round them. */
static void test_replaced_in_its_place(void **state)
{
	struct cache_entry *chain[3], *heir = nth_entry(MANY - 1);
	struct cache_entry *second_heir = nth_entry(MANY - 2);
	uint64_t before;

	(void)state;
	insert_chain(0);
	chain[0] = cache_index_first(&ix, 0);
	chain[1] = cache_index_next(&ix, chain[0]);
	chain[2] = cache_index_next(&ix, chain[1]);
	begin(heir, entry_key(chain[1]));
	begin(second_heir, entry_key(chain[0]));
	before = changes();
	cache_index_replace(&ix, chain[1], heir);
	assert_ptr_equal(cache_index_next(&ix, chain[0]), heir);
	assert_ptr_equal(cache_index_next(&ix, heir), chain[2]);
	assert_ptr_equal(cache_index_next(&ix, chain[1]), chain[2]);
	assert_ptr_equal(find(entry_key(heir)), heir);
	cache_index_replace(&ix, chain[0], second_heir);
	assert_ptr_equal(cache_index_first(&ix, 0), second_heir);
	assert_ptr_equal(cache_index_next(&ix, second_heir), heir);
	assert_int_equal(changes(), before);
	assert_int_equal(ix.entries, CHAIN);
	assert_true(cache_index_is_valid(&ix));
}

static void test_corruption_is_found(void **state)
{
	struct cache_entry *e = NULL;

	(void)state;
	for (uint64_t i = 0; i < 100; i++)
		insert(nth_entry(i), i);
	assert_true(cache_index_is_valid(&ix));
	ix.entries++;
	assert_false(cache_index_is_valid(&ix));
	ix.entries -= 2;
	assert_false(cache_index_is_valid(&ix));
	ix.entries++;
	for (uint32_t b = 0; !e; b++)
		e = cache_index_first(&ix, b);
	u64_store_relaxed(&e->key, entry_key(e) ^ UINT64_C(0x5555));
	assert_false(cache_index_is_valid(&ix));
	u64_store_relaxed(&e->key, entry_key(e) ^ UINT64_C(0x5555));
	assert_true(cache_index_is_valid(&ix));
}

/* ---- a look-up that is stopped ---- */

/*
 * An entry on a page of its own, which nobody may touch: who comes to it is
 * stopped there, in the middle of a look-up, until another thread, which holds
 * the lock, has done something.
 */
static struct cache_entry *trap;
static size_t trap_bytes;
static struct atomic_u32 stopped, go_on;

static void trapped(int signal)
{
	(void)signal;
	require(mprotect(trap, trap_bytes, PROT_READ | PROT_WRITE) == 0);
	require(!u32_load_acquire(&stopped));
	u32_store_release(&stopped, 1);
	while (!u32_load_acquire(&go_on))
		sched_yield();
}

struct meanwhile {
	void (*happens)(void);
};

static void *hold_the_lock(void *arg)
{
	struct meanwhile *m = arg;

	while (!u32_load_acquire(&stopped))
		sched_yield();
	m->happens();
	u32_store_release(&go_on, 1);
	return NULL;
}

static void trap_begin(void)
{
	trap_bytes = (size_t)sysconf(_SC_PAGESIZE);
	trap = groups[1]->entry;
}

/* What is found, if this happens while the look-up comes to the trap. */
static struct cache_entry *find_trapped(uint64_t key, void (*happens)(void),
					uint64_t *ret_word)
{
	struct sigaction catch = { .sa_handler = trapped }, before;
	struct meanwhile m = { happens };
	struct threads threads;
	struct cache_entry *e;

	u32_store_relaxed(&stopped, 0);
	u32_store_relaxed(&go_on, 0);
	threads_start(&threads, 1, hold_the_lock, &m, sizeof(m));
	sigemptyset(&catch.sa_mask);
	require(sigaction(SIGSEGV, &catch, &before) == 0);
	require(mprotect(trap, trap_bytes, PROT_NONE) == 0);
	e = cache_index_find(&ix, key, ret_word);
	require(sigaction(SIGSEGV, &before, NULL) == 0);
	require(u32_load_acquire(&stopped));
	assert_int_equal(threads_join(&threads), 0);
	return e;
}

static void trap_end(void)
{
	assert_true(cache_index_is_valid(&ix));
}

/* The trap stands in front of the others. */
static void insert_trapped_chain(void)
{
	trap_begin();
	insert(trap, key_of_bucket(0, 0));
	insert_chain(0);
}

static void nothing_happens(void)
{
}

static void use_trap_again(void)
{
	remove_and_kill(trap);
	insert(trap, key_of_bucket(1, 0));
}

/* X2: it strays into bucket 1, and looks again. */
static void test_a_miss_that_strayed(void **state)
{
	uint64_t word;

	(void)state;
	insert_trapped_chain();
	assert_null(find_trapped(chain_key(0, CHAIN), nothing_happens,
				 &word));
	assert_ptr_equal(find_trapped(chain_key(0, 0), use_trap_again,
				      &word), nth_entry(0));
	assert_int_equal(word, entry_look(nth_entry(0)));
	assert_ptr_equal(find(key_of_bucket(1, 0)), trap);
	trap_end();
}

/* X1: what was looked for came and went on the way. */
static void test_found_no_more(void **state)
{
	uint64_t word;

	(void)state;
	insert_trapped_chain();
	assert_null(find_trapped(key_of_bucket(0, 0), use_trap_again,
				 &word));
	trap_end();
}

static void use_trap_for_the_same_key(void)
{
	remove_and_kill(trap);
	insert(trap, key_of_bucket(0, 0));
}

/* Then the word is of the new use, so that its value is, too. */
static void test_found_in_another_life(void **state)
{
	uint64_t word;

	(void)state;
	insert_trapped_chain();
	assert_ptr_equal(find_trapped(key_of_bucket(0, 0),
				      use_trap_for_the_same_key, &word), trap);
	assert_int_equal(entry_version(word), 2);
	trap_end();
}

static void remove_trap_and_next(void)
{
	remove_and_kill(trap);
	remove_and_kill(nth_entry(0));
}

/* Removed, but not yet used again. */
static void test_a_look_up_on_what_was_removed(void **state)
{
	uint64_t word;

	(void)state;
	insert_trapped_chain();
	assert_ptr_equal(find_trapped(chain_key(0, CHAIN - 1),
				      remove_trap_and_next, &word),
			 nth_entry(CHAIN - 1));
	trap_end();
}

static void use_trap_in_a_circle(void)
{

	remove_and_kill(trap);
	begin(trap, UINT64_MAX);
	u32_store_release(&trap->next, entry_number(trap));
}

/* A chain may grow in front of who strays as fast as it walks. */
static void test_who_strays_for_ever_comes_back(void **state)
{
	uint64_t word;

	(void)state;
	insert_trapped_chain();
	assert_ptr_equal(find_trapped(chain_key(0, 0),
				      use_trap_in_a_circle, &word),
			 nth_entry(0));
	trap_end();
}

/* Half of a chain stays in bucket 0, the other half moves, some of it twice. */
static uint64_t key_of_chain(unsigned i)
{
	const uint32_t bucket[] = { 0, INDEX_BASE, 3 * INDEX_BASE };

	return key_of_bucket(bucket[i < CHAIN / 2 ? 0 : i < CHAIN - 2 ? 1 : 2],
			     i);
}

static void insert_chain_to_split(unsigned trapped)
{
	trap_begin();
	for (unsigned i = 0; i < CHAIN; i++)
		insert(i == trapped ? trap : nth_entry(i), key_of_chain(i));
	for (uint32_t i = CHAIN; i < 4 * INDEX_BASE; i++)
		begin(nth_entry(i), key_of_hash(1, i));
	assert_int_equal(cache_index_buckets(&ix), INDEX_BASE);
}

/* By entries that have begun before, so that nothing changes but by splits. */
static void split_to(uint32_t buckets)
{
	uint64_t before = changes();

	for (uint64_t i = CHAIN; cache_index_buckets(&ix) < buckets; i++)
		cache_index_insert(&ix, nth_entry(i));
	require(changes() == before);
}

static void split_once(void)
{
	split_to(INDEX_BASE + 1);
}

static void split_often(void)
{
	split_to(16 * INDEX_BASE);
}

/* Each that stands there or behind, by who is stopped there meanwhile. */
static void find_those_from(unsigned trapped, void (*happens)(void))
{
	for (unsigned i = trapped; i < CHAIN; i++) {
		uint64_t word;

		index_end();
		assert_true(index_begin());
		insert_chain_to_split(trapped);
		assert_ptr_equal(find_trapped(key_of_chain(i), happens, &word),
				 i == trapped ? trap : nth_entry(i));
		assert_int_equal(word, entry_look(find(key_of_chain(i))));
		trap_end();
	}
}

/* It comes to the new end of the chain: what it looks for is elsewhere. */
static void test_a_split_behind_a_look_up(void **state)
{
	(void)state;
	for (unsigned i = 0; i < CHAIN / 2; i++) {
		find_those_from(i, split_once);
		find_those_from(i, split_often);
	}
}

/* It goes on along those that moved. */
static void test_a_look_up_on_one_that_a_split_moves(void **state)
{
	(void)state;
	for (unsigned i = CHAIN / 2; i < CHAIN; i++) {
		find_those_from(i, split_once);
		find_those_from(i, split_often);
	}
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
			uint64_t word;
			struct cache_entry *e =
				cache_index_find(&ix, key, &word);

			r->misses += !e || cache_index_value(e, word) !=
						   value_of(key);
			r->looks++;
		}
	} while (!u32_load_acquire(r->done));
	return r->misses ? arg : NULL;
}

/* In its place, so that it stays before what came later; the old one is spare
 * then, and used again at once. */
static void replace_in_place(struct cache_entry **at,
			     struct cache_entry **spare)
{
	struct cache_entry *old = *at;

	begin(*spare, entry_key(old));
	cache_index_replace(&ix, old, *spare);
	require(entry_kill(old) != 0);
	*at = *spare;
	*spare = old;
}

/* X2: they are in all the time, in chains that are split, behind and before
 * entries that are used again and again. */
static void test_no_false_miss_while_it_grows(void **state)
{
	struct atomic_u32 done = { 0 };
	static struct cache_entry *before[BEFORE], *spare;
	struct reader readers[READERS];
	struct threads threads;

	(void)state;
	spare = nth_entry(MANY - 1);
	for (uint64_t i = 0; i < BEFORE; i++) {
		before[i] = nth_entry(KNOWN + i);
		insert(before[i], KNOWN + i);
	}
	for (uint64_t i = 0; i < KNOWN; i++)
		insert(nth_entry(i), i);
	for (int i = 0; i < READERS; i++)
		readers[i] = (struct reader){ .done = &done };
	threads_start(&threads, READERS, look_for_known, readers,
		      sizeof(*readers));
	for (uint64_t i = KNOWN + BEFORE; i < MANY - 1; i++) {
		uint64_t first = KNOWN + BEFORE;

		insert(nth_entry(i), i);
		for (uint64_t k = first; k < i && k < first + 3; k++) {
			remove_and_kill(nth_entry(k));
			insert(nth_entry(k), 3 * i + k + UINT32_MAX);
			replace_in_place(&before[i % BEFORE], &spare);
		}
	}
	for (uint64_t i = 0; i < BEFORE; i++)
		remove_and_kill(before[i]);
	for (uint64_t i = KNOWN + BEFORE; i < MANY - 1; i++)
		remove_and_kill(nth_entry(i));
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
		index_test(test_it_grows_with_its_entries),
		index_test(test_keys_with_a_stride),
		index_test(test_far_buckets_are_fewer),
		index_test(test_chains_are_short),
		index_test(test_without_memory_for_buckets),
		index_test(test_no_index_without_memory),
		index_test(test_what_is_removed_still_leads_on),
		index_test(test_replaced_in_its_place),
		index_test(test_corruption_is_found),
		index_test(test_a_miss_that_strayed),
		index_test(test_found_no_more),
		index_test(test_found_in_another_life),
		index_test(test_a_look_up_on_what_was_removed),
		index_test(test_who_strays_for_ever_comes_back),
		index_test(test_a_split_behind_a_look_up),
		index_test(test_a_look_up_on_one_that_a_split_moves),
		index_test(test_no_false_miss_while_it_grows),
	};

	return run_group(tests);
}
