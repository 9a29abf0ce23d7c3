/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * A bare look-up in the index of libseg's cache, by its internal functions, in
 * a cache that was filled as all are.  Like a hit of the cache it is three
 * calls, since a library's functions are called: read section, look-up, end of
 * the section.  What a hit costs more than this is the cache's own.
 * (cachebench_index_inlined.c: the same without calls.)
 */
#include <stddef.h>

#include "cache.h"
#include "cachebench.h"
#include "cachebench_seg.h"
#include "seg.h"

static void *index_setup(const struct bench_setup *setup)
{
	return bench_cache(setup->capacity * BENCH_WEIGHT, true);
}

__attribute__((noinline)) static const void *
look_up(const struct seg_cache *cache, uint64_t key)
{
	uint64_t word;
	const struct cache_entry *entry =
		cache_index_find_first(&cache->index, key, &word);

	return entry ? cache_index_value(entry, word) : NULL;
}

static inline const void *do_hit(void *state, uint64_t key)
{
	const void *value;

	seg_read_begin();
	value = look_up(state, key);
	seg_read_end();
	return value;
}

static void index_put(void *state, uint64_t key)
{
	bench_cache_put(state, key, BENCH_WEIGHT);
}

#define LOOPS_OF_A_TABLE
#include "cachebench_loops.h"

const struct bench_subject bench_index = {
	.name = "index",
	.loops = 1 << LOOP_HIT | 1 << LOOP_PIN,
	.setup = index_setup,
	.teardown = bench_cache_end,
	.put = index_put,
	.loop = { [LOOP_HIT] = loop_hit, [LOOP_PIN] = loop_hit },
};

/* --------------------------------------------------------- cachebench lines */

static void print_field(const char *name, size_t offset, const char *who)
{
	printf("  entry line %zu, byte %2zu  %-8s %s\n", offset / CACHE_LINE,
	       offset % CACHE_LINE, name, who);
}

/*
 * Counted along cache_index_find() and what a hit does with what it finds.
 * Apart from these there are lines that every look-up of every key reads and
 * hits never write (the index's shape and its table of chunks: 3 and more, in
 * the nearest cache always), and the thread's own (its RCU counter, its stripe
 * of the statistics).  An entry behind the first of its chain adds a line for
 * each one before it.
 */
int bench_lines(void)
{
	printf("Cache lines of its own that a hit touches:\n"
	       "1. the bucket: %zu bytes, read; %zu buckets share a line\n"
	       "2. the entry (entries are aligned to %d bytes, of %zu):\n",
	       sizeof(struct atomic_u32),
	       CACHE_LINE / sizeof(struct atomic_u32),
	       (int)sizeof(struct cache_entry), sizeof(struct cache_entry));
	print_field("key", offsetof(struct cache_entry, key), "read");
	print_field("word", offsetof(struct cache_entry, word),
		    "read by a peek, written by a pin");
	print_field("value", offsetof(struct cache_entry, value), "read");
	print_field("next", offsetof(struct cache_entry, next), "read");
	print_field("mark", offsetof(struct cache_entry, mark),
		    "read; written while below its most");
	print_field("weight", offsetof(struct cache_entry, packed_weight),
		    "read by a first and a last pin");
	printf("Both: 2 lines for an entry that is the first of its chain.\n");
	return 0;
}
