/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * lib/cache_index.h: (X1) what is found had the key, (X2) a key that is in is
 * found: through every split, by look-ups that stand on what was removed, or on
 * what was used again.  Linked with fault_os.c, for want of memory.
 */
#include "pools.h"

#include <sys/mman.h>

#include "cache_index.h"
#include "fault_os.h"

enum { MANY = 10000, READERS = 3, KNOWN = 50, BEFORE = 500, CHAIN = 8 };

static struct cache_index ix;
static struct cache_entry entries[MANY];

static int new_index(void **state)
{
	(void)state;
	memset(&ix, 0, sizeof(ix));
	memset(entries, 0, sizeof(entries));
	return !cache_index_init(&ix);
}

static int end_index(void **state)
{
	(void)state;
	cache_index_clear(&ix);
	return fault_blocks() != 0;
}

static void *value_of(uint64_t key)
{
	return (void *)(uintptr_t)(16 * (key + 1));
}

/* As a put does, with an entry that is new, or was used before. */
static void begin(struct cache_entry *e, uint64_t key)
{
	cache_index_change(&ix);
	entry_fill(e, key, value_of(key), 1);
	entry_begin(e, 0, 0);
}

static void insert(struct cache_entry *e, uint64_t key)
{
	begin(e, key);
	cache_index_insert(&ix, e);
}

static void remove_and_kill(struct cache_entry *e)
{
	cache_index_remove(&ix, e);
	require(entry_kill(e) != 0);
}

static uint64_t changes(void)
{
	return u64_load_acquire(&ix.changes);
}

/* All ways to look agree, but for long chains, which the first gives up. */
static struct cache_entry *find(uint64_t key)
{
	uint64_t word = 0, first_word = 0;
	struct cache_entry *e = cache_index_find(&ix, key, &word);
	struct cache_entry *first =
		cache_index_find_first(&ix, key, &first_word);

	assert_ptr_equal(cache_index_get(&ix, key), e);
	assert_true(!first || (first == e && first_word == word));
	if (e) {
		assert_int_equal(entry_look(e), word);
		assert_ptr_equal(cache_index_value(e, word), value_of(key));
	}
	return e;
}

/* The n-th key of a bucket, as long as there are no more than 4096 buckets. */
static uint64_t key_of_bucket(uint32_t bucket, unsigned n)
{
	uint64_t key = 0;

	for (;; key++)
		if ((index_hash(key) & 4095) == bucket && !n--)
			return key;
}

/* All in that bucket, in that order. */
static void insert_chain(uint32_t bucket)
{
	for (unsigned i = 0; i < CHAIN; i++)
		insert(&entries[i], key_of_bucket(bucket, i));
	assert_int_equal(cache_index_buckets(&ix), INDEX_BASE);
}

static void test_empty(void **state)
{
	(void)state;
	for (uint64_t key = 0; key < 1000; key++)
		assert_null(find(key));
	assert_null(find(UINT64_MAX));
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
		assert_ptr_equal(find(keys[i]), &entries[i]);
	assert_true(cache_index_is_valid(&ix));
	for (int i = 0; i < 6; i++) {
		cache_index_remove(&ix, &entries[i]);
		assert_null(find(keys[i]));
		for (int k = i + 1; k < 6; k++)
			assert_ptr_equal(find(keys[k]), &entries[k]);
		assert_true(cache_index_is_valid(&ix));
	}
	assert_int_equal(ix.entries, 0);
}

static void assert_found_up_to(uint64_t from, uint64_t to, uint64_t stride)
{
	for (uint64_t i = from; i < to; i++)
		assert_ptr_equal(find(i * stride), &entries[i]);
}

/* Two buckets or more for each entry, at any time. */
static void grow_with_stride(uint64_t stride)
{
	for (uint64_t i = 0; i < MANY; i++) {
		insert(&entries[i], i * stride);
		assert_true(cache_index_buckets(&ix) >= 2 * (i + 1));
		if ((i & (i + 1)) == 0)
			assert_found_up_to(0, i + 1, stride);
	}
	assert_found_up_to(0, MANY, stride);
	assert_true(cache_index_is_valid(&ix));
	assert_in_range(cache_index_bytes(&ix), 2 * MANY * 8, 16 * MANY * 8);
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

/* Eight for each entry, then none for a while, then four. */
static void test_far_buckets_are_fewer(void **state)
{
	static const struct {
		uint64_t entries;
		uint32_t buckets;
	} rows[] = { { 1000, 8000 }, { 4096, 32768 }, { 8192, 32768 },
		     { MANY, 4 * MANY } };
	uint64_t i = 0;

	(void)state;
	for (int r = 0; r < 4; r++) {
		for (; i < rows[r].entries; i++)
			insert(&entries[i], i);
		assert_int_equal(cache_index_buckets(&ix), rows[r].buckets);
		assert_found_up_to(0, i, 1);
	}
	assert_true(cache_index_is_valid(&ix));
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
			insert(&entries[i], i << shift);
		assert_true(longest_chain() <= 16);
		for (uint64_t i = 0; i < MANY; i++)
			cache_index_remove(&ix, &entries[i]);
	}
}

/* Without memory chains only get longer, until there is some again. */
static void test_without_memory_for_buckets(void **state)
{
	(void)state;
	fault_arm(FAULT_CALLOC, 1, UINT64_MAX);
	for (uint64_t i = 0; i < MANY / 2; i++)
		insert(&entries[i], i);
	assert_true(fault_disarm() > 0);
	assert_int_equal(cache_index_buckets(&ix), INDEX_BASE);
	assert_true(longest_chain() > INDEX_STEPS);
	assert_found_up_to(0, MANY / 2, 1);
	assert_null(find(MANY));
	assert_true(cache_index_is_valid(&ix));
	for (uint64_t i = MANY / 2; i < MANY; i++)
		insert(&entries[i], i);
	assert_true(cache_index_buckets(&ix) >= 2 * MANY);
	assert_found_up_to(0, MANY, 1);
	assert_true(cache_index_is_valid(&ix));
}

static void test_no_index_without_memory(void **state)
{
	struct cache_index other = { .entries = 0 };

	(void)state;
	fault_arm(FAULT_CALLOC, 1, 1);
	assert_false(cache_index_init(&other));
	assert_int_equal(fault_disarm(), 1);
	assert_int_equal(cache_index_bytes(&other), 0);
	cache_index_clear(&other);
}

/* Who stands on a removed entry still gets to what is behind. */
static void test_what_is_removed_still_leads_on(void **state)
{
	unsigned side;
	struct cache_entry *first, *second, *third;
	uint64_t before;

	(void)state;
	insert_chain(0);
	first = cache_index_first(&ix, 0, &side);
	second = cache_index_next(first, side);
	third = cache_index_next(second, side);
	assert_ptr_equal(third, &entries[2]);
	before = changes();
	remove_and_kill(first);
	remove_and_kill(second);
	assert_ptr_equal(cache_index_next(first, side), second);
	assert_ptr_equal(cache_index_next(second, side), third);
	assert_ptr_equal(cache_index_first(&ix, 0, &side), third);
	assert_int_equal(changes(), before);
}

/* As a replace needs it: who stands before the old one, or on it, goes on to
 * the new one, or past both, and never round them. */
static void test_replaced_in_its_place(void **state)
{
	unsigned side;
	struct cache_entry *chain[3], *heir = &entries[MANY - 1];
	struct cache_entry *second_heir = &entries[MANY - 2];
	uint64_t before;

	(void)state;
	insert_chain(0);
	chain[0] = cache_index_first(&ix, 0, &side);
	chain[1] = cache_index_next(chain[0], side);
	chain[2] = cache_index_next(chain[1], side);
	begin(heir, entry_key(chain[1]));
	begin(second_heir, entry_key(chain[0]));
	before = changes();
	cache_index_replace(&ix, chain[1], heir);
	assert_ptr_equal(cache_index_next(chain[0], side), heir);
	assert_ptr_equal(cache_index_next(heir, side), chain[2]);
	assert_ptr_equal(cache_index_next(chain[1], side), chain[2]);
	assert_ptr_equal(find(entry_key(heir)), heir);
	cache_index_replace(&ix, chain[0], second_heir);
	assert_ptr_equal(cache_index_first(&ix, 0, &side), second_heir);
	assert_ptr_equal(cache_index_next(second_heir, side), heir);
	assert_int_equal(changes(), before);
	assert_int_equal(ix.entries, CHAIN);
	assert_true(cache_index_is_valid(&ix));
}

/* Bucket 0 is the next to be split: fills up with others until it is. */
static void split_bucket_0(void)
{
	uint64_t key = 0;

	for (unsigned i = CHAIN; cache_index_buckets(&ix) == INDEX_BASE; i++) {
		while (!(index_hash(key) & (INDEX_BASE - 1)))
			key++;
		insert(&entries[i], key++);
	}
}

/* Half of them go to bucket INDEX_BASE. */
static void insert_chain_to_split(void)
{
	for (unsigned i = 0; i < CHAIN; i++)
		insert(&entries[i],
		       key_of_bucket(i % 2 * INDEX_BASE, i / 2));
}

/* A reader inside a chain goes on in it while its bucket is split; but the
 * links that it writes are those of the split before. */
static void test_a_split_leaves_the_old_chain_whole(void **state)
{
	struct cache_entry *chain[CHAIN + 1] = { NULL };
	unsigned side, new_side, length = 0;
	struct cache_entry *e;
	uint64_t before;

	(void)state;
	insert_chain_to_split();
	for (e = cache_index_first(&ix, 0, &side); e;
	     e = cache_index_next(e, side))
		chain[length++] = e;
	assert_int_equal(length, CHAIN);
	split_bucket_0();
	for (unsigned k = 0; k < length; k++)
		assert_ptr_equal(cache_index_next(chain[k], side),
				 chain[k + 1]);
	cache_index_first(&ix, 0, &new_side);
	assert_int_not_equal(new_side, side);
	for (unsigned k = 0; k < length; k++)
		assert_ptr_equal(find(entry_key(chain[k])), chain[k]);
	assert_true(cache_index_is_valid(&ix));
	/* An insertion alone raises it once, by begin(). */
	before = changes();
	insert(&entries[MANY - 1], UINT64_MAX);
	assert_true(changes() > before + 1);
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
	trap = mmap(NULL, trap_bytes, PROT_READ | PROT_WRITE,
		    MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
	assert_ptr_not_equal(trap, MAP_FAILED);
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
	assert_int_equal(munmap(trap, trap_bytes), 0);
}

/* The trap stands in front of the others. */
static void insert_trapped_chain(void)
{
	trap_begin();
	insert(trap, key_of_bucket(0, CHAIN));
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
	assert_null(find_trapped(key_of_bucket(0, CHAIN + 1), nothing_happens,
				 &word));
	assert_ptr_equal(find_trapped(key_of_bucket(0, 0), use_trap_again,
				      &word), &entries[0]);
	assert_int_equal(word, entry_look(&entries[0]));
	assert_ptr_equal(find(key_of_bucket(1, 0)), trap);
	trap_end();
}

/* X1: what was looked for came and went on the way. */
static void test_found_no_more(void **state)
{
	uint64_t word;

	(void)state;
	insert_trapped_chain();
	assert_null(find_trapped(key_of_bucket(0, CHAIN), use_trap_again,
				 &word));
	trap_end();
}

static void use_trap_for_the_same_key(void)
{
	remove_and_kill(trap);
	insert(trap, key_of_bucket(0, CHAIN));
}

/* Then the word is of the new use, so that its value is, too. */
static void test_found_in_another_life(void **state)
{
	uint64_t word;

	(void)state;
	insert_trapped_chain();
	assert_ptr_equal(find_trapped(key_of_bucket(0, CHAIN),
				      use_trap_for_the_same_key, &word), trap);
	assert_int_equal(entry_version(word), 2);
	trap_end();
}

static void remove_trap_and_next(void)
{
	remove_and_kill(trap);
	remove_and_kill(&entries[0]);
}

/* Removed, but not yet used again. */
static void test_a_look_up_on_what_was_removed(void **state)
{
	uint64_t word;

	(void)state;
	insert_trapped_chain();
	assert_ptr_equal(find_trapped(key_of_bucket(0, CHAIN - 1),
				      remove_trap_and_next, &word),
			 &entries[CHAIN - 1]);
	trap_end();
}

static void use_trap_in_a_circle(void)
{
	unsigned side;

	remove_and_kill(trap);
	cache_index_first(&ix, 0, &side);
	begin(trap, UINT64_MAX);
	ptr_store_release(&trap->link[side], trap);
}

/* A chain may grow in front of who strays as fast as it walks. */
static void test_who_strays_for_ever_comes_back(void **state)
{
	uint64_t word;

	(void)state;
	insert_trapped_chain();
	assert_ptr_equal(find_trapped(key_of_bucket(0, 0),
				      use_trap_in_a_circle, &word),
			 &entries[0]);
	trap_end();
}

static void split_twice(void)
{
	for (uint64_t i = CHAIN; i < 4 * INDEX_BASE; i++)
		insert(&entries[i], i + UINT32_MAX);
}

/* The second split writes the links that it stands on: what it looks for has
 * gone to another bucket. */
static void test_splits_during_a_look_up(void **state)
{
	uint64_t word;

	(void)state;
	trap_begin();
	insert(trap, key_of_bucket(0, CHAIN));
	insert_chain_to_split();
	assert_ptr_equal(find_trapped(entry_key(&entries[1]), split_twice,
				      &word), &entries[1]);
	for (unsigned i = 0; i < CHAIN; i++)
		assert_ptr_equal(find(entry_key(&entries[i])), &entries[i]);
	trap_end();
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
	spare = &entries[MANY - 1];
	for (uint64_t i = 0; i < BEFORE; i++) {
		before[i] = &entries[KNOWN + i];
		insert(before[i], KNOWN + i);
	}
	for (uint64_t i = 0; i < KNOWN; i++)
		insert(&entries[i], i);
	for (int i = 0; i < READERS; i++)
		readers[i] = (struct reader){ .done = &done };
	threads_start(&threads, READERS, look_for_known, readers,
		      sizeof(*readers));
	for (uint64_t i = KNOWN + BEFORE; i < MANY - 1; i++) {
		uint64_t first = KNOWN + BEFORE;

		insert(&entries[i], i);
		for (uint64_t k = first; k < i && k < first + 3; k++) {
			remove_and_kill(&entries[k]);
			insert(&entries[k], 3 * i + k + UINT32_MAX);
			replace_in_place(&before[i % BEFORE], &spare);
		}
	}
	for (uint64_t i = 0; i < BEFORE; i++)
		remove_and_kill(before[i]);
	for (uint64_t i = KNOWN + BEFORE; i < MANY - 1; i++)
		remove_and_kill(&entries[i]);
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
		index_test(test_a_split_leaves_the_old_chain_whole),
		index_test(test_corruption_is_found),
		index_test(test_a_miss_that_strayed),
		index_test(test_found_no_more),
		index_test(test_found_in_another_life),
		index_test(test_a_look_up_on_what_was_removed),
		index_test(test_who_strays_for_ever_comes_back),
		index_test(test_splits_during_a_look_up),
		index_test(test_no_false_miss_while_it_grows),
	};

	return run_group(tests);
}
