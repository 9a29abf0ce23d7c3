/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* The index: what is in it is found, whatever is split meanwhile. */
#include "indexes.h"

static struct cache_entry *second, *other;

/* ---- split against find ---- */

static void two_in_a_chain(void)
{
	indexes_open();
	indexes_add(KEY_010);
	indexes_add(KEY_001);
}

/* Inserting a third one, before both, splits: to four buckets. */
static void insert_or_find(unsigned thread)
{
	if (thread == 0)
		indexes_insert_as_if(indexes_make(KEY_000), 1);
	else
		indexes_find(KEY_001);
}

static const struct explore_twin split_twins[] = {
	{ .name = "no second look at the shape", .mutation = EXPLORE_STALE,
	  .function = "cache_index_find", .op = "load", .nth = 4 },
	EXPLORE_TWIN("relaxed look at the bucket", RELAX, "cache_index_first",
		     "load"),
	EXPLORE_TWIN("all of the split relaxed", RELAX, "split", "store_rel"),
	{ .name = NULL },
};

/* ---- one bucket is split again and again: no grace period between ---- */

/* Bucket 0 is split twice; what is looked for gets out of it. */
static void three_that_stay(void)
{
	indexes_open();
	indexes_add(KEY_000);
	second = indexes_add(KEY_010);
	indexes_add(KEY_000B);
	other = indexes_make(KEY_100);
}

static void grown_is_valid(void)
{
	explore_check(cache_index_buckets(&the_index) == 4);
	indexes_check();
}

static void grow_or_find(unsigned thread)
{
	if (thread)
		indexes_find(KEY_010);
	else
		indexes_insert_as_if(other, 1);
}

static const struct explore_twin grow_twins[] = {
	EXPLORE_TWIN("all of the split relaxed", RELAX, "split", "store_rel"),
	{ .name = "no second look at the shape", .mutation = EXPLORE_STALE,
	  .function = "cache_index_find", .op = "load", .nth = 4 },
	EXPLORE_TWIN("relaxed look at a link", RELAX, "cache_index_next",
		     "load"),
	{ .name = NULL },
};

/* A walk over all buckets, which nobody promises to meet each entry once. */
static void walk_or_split(unsigned thread)
{
	uint32_t seen = 0;

	if (thread == 0) {
		indexes_insert_as_if(indexes_make(KEY_000), 1);
		return;
	}
	for (uint32_t b = 0; b < cache_index_buckets(&the_index); b++) {
		struct cache_entry *e = cache_index_first(&the_index, b);

		for (; e; e = cache_index_next(&the_index, e))
			seen++;
	}
	explore_check(seen >= 1 && seen <= 6);
}

static const struct explore_twin walk_twins[] = {
	EXPLORE_TWIN("relaxed count of buckets", RELAX, "cache_index_buckets",
		     "load"),
	{ .name = NULL },
};

/* ---- a split of the chain in which one was used again ---- */

/* What is looked for gets out of bucket 0. */
static void three_and_a_newcomer(void)
{
	second = indexes_open_four();
	indexes_add(KEY_000);
	indexes_fill(second, KEY_000B);
	indexes_insert(second);
	indexes_add(KEY_100);
	other = indexes_make(KEY_100B);
}

static void use_again_and_split(unsigned thread)
{
	if (thread == 0) {
		indexes_use_again(second, KEY_001);
		indexes_insert_as_if(other, 2);
		return;
	}
	indexes_find(KEY_100);
}

static const struct explore_twin then_split_twins[] = {
	{ .name = "relaxed second look at the shape",
	  .mutation = EXPLORE_RELAX, .function = "cache_index_find",
	  .op = "load", .nth = 4 },
	{ .name = NULL },
};

const struct explore_scenario explore_cache_index[] = {
	{ .name = "index: first split against look-ups", .threads = 3,
	  .setup = two_in_a_chain, .body = insert_or_find,
	  .post = indexes_check, .twins = split_twins },
	{ .name = "index: splits in a row against a look-up", .threads = 2,
	  .setup = three_that_stay, .body = grow_or_find,
	  .post = grown_is_valid, .twins = grow_twins },
	{ .name = "index: split against a walk", .threads = 2,
	  .setup = two_in_a_chain, .body = walk_or_split,
	  .post = indexes_check, .twins = walk_twins },
	{ .name = "index: used again, then split", .threads = 2,
	  .setup = three_and_a_newcomer, .body = use_again_and_split,
	  .post = indexes_check, .twins = then_split_twins },
	{ .name = NULL },
};
