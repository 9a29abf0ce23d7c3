/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * The index: what is in it is found, and what is found had the key, whatever
 * is removed, replaced and used again at once meanwhile.
 */
#include "indexes.h"

static struct cache_entry *first, *second, *last, *other;

static void throw_late_change(bool on)
{
	indexes_late_change = on;
}

static void throw_same_version(bool on)
{
	indexes_same_version = on;
}

/* ---- used again, in another chain, while a look-up stands on it ---- */

/* Three in bucket 0. */
static void three_in_a_chain(void)
{
	second = indexes_open_four();
	first = indexes_add(KEY_000);
	indexes_fill(second, KEY_000B);
	indexes_insert(second);
	last = indexes_add(KEY_100);
}

static void use_again_or_find(unsigned thread)
{
	if (thread == 0) {
		indexes_use_again(second, KEY_001);
		return;
	}
	indexes_find(KEY_100);
}

static const struct explore_twin again_twins[] = {
	EXPLORE_TWIN("change not raised", SKIP, "cache_index_change", "store"),
	{ .name = "no second look at the changes", .mutation = EXPLORE_STALE,
	  .function = "cache_index_find", .op = "load", .nth = 3 },
	EXPLORE_TWIN("not unlinked", SKIP, "cache_index_remove",
		     "store_release"),
	EXPLORE_TWIN("relaxed change", RELAX, "cache_index_change", "store"),
	EXPLORE_TWIN("relaxed links", RELAX, "cache_index_insert", "store"),
	{ .name = NULL },
};

/* Before and behind it. */
static void both_again_or_find(unsigned thread)
{
	if (thread == 0) {
		indexes_use_again(first, KEY_001);
		indexes_use_again(last, KEY_100B);
		indexes_use_again(first, KEY_000);
		return;
	}
	indexes_find(KEY_000B);
}

/* Who went astray goes astray again. */
static void two_again_or_find(unsigned thread)
{
	if (thread == 0) {
		indexes_use_again(first, KEY_001);
		indexes_use_again(second, KEY_110);
		return;
	}
	indexes_find(KEY_100);
}

static const struct explore_twin two_again_twins[] = {
	{ .name = "relaxed second look at the changes",
	  .mutation = EXPLORE_RELAX, .function = "cache_index_find",
	  .op = "load", .nth = 3 },
	{ .name = NULL },
};

/* In the place of another. */
static void one_elsewhere(void)
{
	three_in_a_chain();
	other = indexes_add(KEY_001);
}

static void use_in_place_or_find(unsigned thread)
{
	uint64_t before;

	if (thread == 0) {
		if (!indexes_remove(second))
			return;
		indexes_fill(second, KEY_001);
		cache_index_replace(&the_index, other, second);
		explore_check(entry_hide(other, &before));
		return;
	}
	indexes_find(KEY_100);
}

static const struct explore_twin in_place_twins[] = {
	EXPLORE_TWIN("relaxed replacement", RELAX, "cache_index_replace",
		     "store_rel"),
	EXPLORE_TWIN("change not raised", SKIP, "cache_index_change", "store"),
	{ .name = NULL },
};

/* ---- who stands on it, and wants it ---- */

static void one_in(void)
{
	second = indexes_open_four();
	first = indexes_add(KEY_000);
	last = indexes_add(KEY_100);
}

static void use_again_or_get(unsigned thread)
{
	if (thread == 0)
		indexes_use_again(first, KEY_100B);
	else if (thread == 1)
		indexes_get(KEY_000);
	else
		indexes_get(KEY_100B);
}

static const struct explore_twin get_twins[] = {
	EXPLORE_TWIN("check, then pin", SPLIT, "entry_pin", "cas"),
	EXPLORE_TWIN("blind pin", BLIND, "entry_pin", "cas"),
	EXPLORE_TWIN("relaxed begin", RELAX, "entry_begin", "store"),
	EXPLORE_TWIN_SWITCH("version stays", throw_same_version),
	EXPLORE_TWIN_ONLY("only the state compared", "entry_pin", "cas",
			  ENTRY_STATE),
	{ .name = NULL },
};

static void use_again_or_peek(unsigned thread)
{
	if (thread == 0)
		indexes_use_again(first, KEY_100B);
	else if (thread == 1)
		indexes_peek(KEY_000);
	else
		indexes_peek(KEY_100B);
}

static const struct explore_twin peek_twins[] = {
	{ .name = "word not looked at again", .mutation = EXPLORE_STALE,
	  .function = "cache_index_look", .op = "load", .nth = 2 },
	EXPLORE_TWIN("relaxed key and value", RELAX, "entry_fill", "store_rel"),
	{ .name = "relaxed look at the value", .mutation = EXPLORE_RELAX,
	  .function = "cache_index_look", .op = "load", .nth = 1 },
	EXPLORE_TWIN("relaxed look at the key", RELAX, "index_fits",
		     "load_acquire"),
	EXPLORE_TWIN("relaxed begin", RELAX, "entry_begin", "store"),
	EXPLORE_TWIN_SWITCH("version stays", throw_same_version),
	{ .name = NULL },
};

/* It moves from before what is looked for to behind it. */
static void move_behind_or_find(unsigned thread)
{
	if (thread == 0)
		indexes_use_again(first, KEY_100B);
	else
		indexes_find(KEY_100);
}

static const struct explore_twin behind_twins[] = {
	EXPLORE_TWIN("change not raised", SKIP, "cache_index_change", "store"),
	EXPLORE_TWIN("relaxed link", RELAX, "cache_index_insert", "store"),
	{ .name = NULL },
};

/* ---- used again for the same key ---- */

static void same_key_or_look(unsigned thread)
{
	if (thread == 0)
		indexes_use_again(first, KEY_000);
	else if (thread == 1)
		indexes_get(KEY_000);
	else
		indexes_peek(KEY_000);
}

static const struct explore_twin same_key_twins[] = {
	{ .name = "word not looked at again", .mutation = EXPLORE_STALE,
	  .function = "cache_index_look", .op = "load", .nth = 2 },
	EXPLORE_TWIN("relaxed begin", RELAX, "entry_begin", "store"),
	{ .name = NULL },
};

/* ---- replaced, then used again ---- */

static void replace(struct cache_entry *old, struct cache_entry *e)
{
	uint64_t before;

	indexes_fill(e, entry_key(old));
	cache_index_replace(&the_index, old, e);
	explore_check(entry_hide(old, &before));
	if (entry_pins(before))
		return;
	indexes_fill(old, KEY_001);
	indexes_insert(old);
}

static void two_in_and_one_free(void)
{
	second = indexes_open_four();
	first = indexes_add(KEY_000);
	last = indexes_add(KEY_000B);
}

static void replace_or_find(unsigned thread)
{
	if (thread == 0)
		replace(last, second);
	else
		indexes_find(KEY_000B);
}

static void replace_or_look(unsigned thread)
{
	if (thread == 0)
		replace(last, second);
	else
		explore_check(indexes_look(KEY_000B));
}

static const struct explore_twin look_twins[] = {
	{ .name = "relaxed second look", .mutation = EXPLORE_RELAX,
	  .function = "cache_index_look", .op = "load", .nth = 2 },
	EXPLORE_TWIN("relaxed hide", RELAX, "entry_hide", "cas"),
	{ .name = NULL },
};

static void replace_first_or_find(unsigned thread)
{
	if (thread == 0)
		replace(first, second);
	else
		indexes_find(thread == 1 ? KEY_000 : KEY_000B);
}

static const struct explore_twin replace_twins[] = {
	EXPLORE_TWIN("change not raised", SKIP, "cache_index_change", "store"),
	EXPLORE_TWIN_SWITCH("change raised too late", throw_late_change),
	EXPLORE_TWIN("relaxed key", RELAX, "entry_fill", "store_rel"),
	EXPLORE_TWIN("relaxed look at the key", RELAX, "walk", "load"),
	EXPLORE_TWIN("relaxed hide", RELAX, "entry_hide", "cas"),
	EXPLORE_TWIN("relaxed replacement", RELAX, "cache_index_replace",
		     "store_rel"),
	{ .name = NULL },
};

const struct explore_scenario explore_cache_again[] = {
	{ .name = "index: used again under a look-up behind", .threads = 2,
	  .setup = three_in_a_chain, .body = use_again_or_find,
	  .post = indexes_check, .twins = again_twins },
	{ .name = "index: used again before and behind a look-up",
	  .threads = 2, .setup = three_in_a_chain,
	  .body = both_again_or_find, .post = indexes_check },
	{ .name = "index: two used again under a look-up", .threads = 2,
	  .setup = three_in_a_chain, .body = two_again_or_find,
	  .post = indexes_check, .twins = two_again_twins },
	{ .name = "index: used again in another's place", .threads = 2,
	  .setup = one_elsewhere, .body = use_in_place_or_find,
	  .post = indexes_check, .twins = in_place_twins },
	{ .name = "index: used again while it is pinned", .threads = 3,
	  .setup = one_in, .body = use_again_or_get, .post = indexes_check,
	  .twins = get_twins },
	{ .name = "index: used again under a peek", .threads = 3,
	  .setup = one_in, .body = use_again_or_peek, .post = indexes_check,
	  .twins = peek_twins },
	{ .name = "index: used again behind what is looked for",
	  .threads = 2, .setup = one_in, .body = move_behind_or_find,
	  .post = indexes_check, .twins = behind_twins },
	{ .name = "index: used again for the same key", .threads = 3,
	  .setup = one_in, .body = same_key_or_look, .post = indexes_check,
	  .twins = same_key_twins },
	{ .name = "index: replaced and used again", .threads = 2,
	  .setup = two_in_and_one_free, .body = replace_or_find,
	  .post = indexes_check, .twins = replace_twins },
	{ .name = "index: replaced under a peek, and used again", .threads = 2,
	  .setup = two_in_and_one_free, .body = replace_or_look,
	  .post = indexes_check, .twins = look_twins },
	{ .name = "index: first one replaced and used again", .threads = 3,
	  .setup = two_in_and_one_free, .body = replace_first_or_find,
	  .post = indexes_check },
	{ .name = NULL },
};
