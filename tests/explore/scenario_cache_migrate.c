/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * Pages move to their readers, against all that may come meanwhile: nobody
 * finds an old part, a torn page or a lost write, and each part is released
 * once.
 */
#include "cache_leave.h"
#include "explore.h"
#include "pages.h"

#include <errno.h>
#include <string.h>

enum { OLD = 5, NEW = 6, KEY = 1 };

static struct seg_cache *cache;
static struct seg_page *page;
static struct atomic_u64 wrote;		/* what is to be found */

static void open_with(bool short_reads, uint64_t max_weight)
{
	struct seg_cache_options o = { .size = sizeof(o),
				       .max_weight = max_weight,
				       .short_reads = short_reads,
				       .migrate_after = 1 };

	pages_open();
	o.pages = pages_pool;
	explore_check(!seg_cache_create(&o, &cache));
	page = pages_make(0, OLD);
	u64_store_relaxed(&wrote, OLD);
	explore_check(!seg_cache_put(cache, KEY, page, 1, NULL));
}

static void one_on_another_node(void)
{
	open_with(false, 4);
}

static void one_for_short_reads(void)
{
	open_with(true, 4);
}

/* False: a miss. */
static bool read_page(void)
{
	struct seg_pin pin;
	uint64_t number;

	if (seg_cache_get(cache, KEY, &pin))
		return false;
	number = pages_read(seg_pin_value(&pin));
	explore_check(number == OLD || number == NEW);
	explore_check(!seg_unpin(&pin));
	return true;
}

static void write_page(void)
{
	struct seg_pin pin;

	explore_check(!seg_cache_get(cache, KEY, &pin));
	pages_write(seg_pin_value(&pin), NEW);
	u64_store_relaxed(&wrote, NEW);
	explore_check(!seg_unpin(&pin));
}

static void peek_page(void)
{
	void *value;

	seg_read_begin();
	if (!seg_cache_peek(cache, KEY, &value))
		explore_check(pages_read(value) == OLD);
	seg_read_end();
}

static void close_cache(void)
{
	struct seg_cache_stats s = { .size = sizeof(s) };

	keeper_flush();
	explore_check(!seg_cache_stats(cache, &s));
	explore_check(s.pinned_weight == 0 && s.deferred_weight == 0);
	explore_check(seg_cache_is_valid(cache));
	explore_check(!seg_cache_destroy(cache));
	pages_close();
}

/* It is the same page, and in; what was written last is in it. */
static void still_in(void)
{
	struct seg_pin pin;

	explore_check(!seg_cache_get(cache, KEY, &pin));
	explore_check(seg_pin_value(&pin) == page);
	explore_check(pages_read(page) == u64_load_relaxed(&wrote));
	explore_check(!seg_unpin(&pin));
	close_cache();
}

/* ---- against who pins ---- */

static void move_or_get(unsigned thread)
{
	(void)thread;
	explore_check(read_page());
}

static const struct explore_twin get_twins[] = {
	EXPLORE_TWIN("check, then commit", SPLIT, "entry_move_commit", "cas"),
	EXPLORE_TWIN("blind commit", BLIND, "entry_move_commit", "cas"),
	EXPLORE_TWIN_KEEP("who pins does not end the move", "entry_join",
			  "cas", ENTRY_MOVING),
	EXPLORE_TWIN("the page does not arrive", SKIP, "page_arrive", "store"),
	EXPLORE_TWIN("relaxed commit", RELAX, "entry_move_commit", "cas"),
	EXPLORE_TWIN("relaxed end", RELAX, "entry_move_end", "cas"),
	{ .name = NULL },
};

/* What is written under a pin is not lost. */
static void move_or_write(unsigned thread)
{
	struct seg_pin pin;

	if (thread == 0) {
		write_page();
		return;
	}
	explore_check(!seg_cache_get(cache, KEY, &pin));
	explore_check(!seg_unpin(&pin));
}

static const struct explore_twin write_twins[] = {
	EXPLORE_TWIN_KEEP("who pins does not end the move", "entry_join",
			  "cas", ENTRY_MOVING),
	EXPLORE_TWIN("relaxed begin", RELAX, "entry_move_begin", "cas"),
	{ .name = NULL },
};

/* ---- against who peeks ---- */

static void move_or_peek(unsigned thread)
{
	if (thread == 0) {
		peek_page();
		explore_finish();
	} else if (thread == 1) {
		explore_check(read_page());
		explore_finish();
	} else {
		explore_keeper(2);
	}
}

static const struct explore_twin peek_twins[] = {
	EXPLORE_TWIN_SWITCH("no grace period", explore_throw_grace_period),
	EXPLORE_TWIN("relaxed arrival", RELAX, "page_arrive", "store"),
	EXPLORE_TWIN("relaxed look at a part", RELAX, "page_segment", "load"),
	{ .name = NULL },
};

/* ---- against what ends the entry ---- */

static void move_or_evict(unsigned thread)
{
	if (thread == 0)
		explore_check(!seg_cache_shrink(cache, 0, NULL));
	else
		(void)read_page();
}

static const struct explore_twin evict_twins[] = {
	EXPLORE_TWIN("check, then kill", SPLIT, "entry_kill", "cas"),
	{ .name = NULL },
};

static void move_or_take(unsigned thread)
{
	void *taken;
	int ret;

	if (thread) {
		(void)read_page();
		return;
	}
	ret = seg_cache_take(cache, KEY, &taken);
	explore_check(!ret || ret == -EBUSY);
	if (!ret) {
		pages_write(taken, NEW);
		explore_check(pages_read(taken) == NEW);
		explore_check(!seg_page_release(taken));
	}
}

static void move_or_remove(unsigned thread)
{
	if (thread == 0)
		explore_check(!seg_cache_remove(cache, KEY, page));
	else
		(void)read_page();
}

static void move_or_replace(unsigned thread)
{
	if (thread == 0)
		explore_check(!seg_cache_replace(cache, KEY,
						 pages_make(0, NEW), 1, NULL));
	else
		explore_check(read_page());
}

static const struct explore_twin replace_twins[] = {
	EXPLORE_TWIN("blind commit", BLIND, "entry_move_commit", "cas"),
	{ .name = NULL },
};

/* ---- no memory ---- */

static void one_and_no_memory(void)
{
	one_on_another_node();
	pages_left = 1;
}

static void nothing_moved(void)
{
	struct seg_cache_stats s = { .size = sizeof(s) };

	explore_check(!seg_cache_stats(cache, &s));
	explore_check(!s.migrations_total);
	still_in();
}

/* ---- the word alone: who joins finds what was copied ---- */

static struct cache_entry entry;
static struct explore_cell parts[2];	/* the old one, the new one */
static struct atomic_ptr part, next_part;

static void one_begun(void)
{
	memset(&entry, 0, sizeof(entry));
	memset(parts, 0, sizeof(parts));
	entry_begin(&entry, 0, 1);
	ptr_store_relaxed(&part, &parts[0]);
	ptr_store_relaxed(&next_part, NULL);
	explore_write(&parts[0], OLD);
	explore_check(entry_move_begin(&entry, 1));
}

static void arrive(void)
{
	ptr_store_relaxed(&part, ptr_load_relaxed(&next_part));
}

static void read_part(void)
{
	explore_check(explore_read(ptr_load_relaxed(&part)) == OLD);
}

static void commit_or_join(unsigned thread)
{
	uint64_t word = entry_look(&entry);

	if (thread) {
		explore_check(entry_join(&entry, &word));
		if (word & ENTRY_MOVING)
			arrive();
		read_part();
		return;
	}
	explore_write(&parts[1], OLD);
	ptr_store_relaxed(&next_part, &parts[1]);
	if (!entry_move_commit(&entry, 1))
		return;
	arrive();
	explore_free(&parts[0]);
	entry_move_end(&entry);
}

static void two_pins(void)
{
	explore_check(entry_pins(entry_look(&entry)) == 2);
	explore_check(!(entry_look(&entry) & ENTRY_MOVING));
}

static const struct explore_twin join_twins[] = {
	EXPLORE_TWIN("relaxed join", RELAX, "entry_join", "cas"),
	EXPLORE_TWIN("relaxed commit", RELAX, "entry_move_commit", "cas"),
	EXPLORE_TWIN("check, then join", SPLIT, "entry_join", "cas"),
	EXPLORE_TWIN("blind end", BLIND, "entry_move_end", "cas"),
	{ .name = NULL },
};

const struct explore_scenario explore_cache_migrate[] = {
	{ .name = "migrate: who joins", .threads = 2, .setup = one_begun,
	  .body = commit_or_join, .post = two_pins, .twins = join_twins },
	{ .name = "migrate: against a get", .threads = 2,
	  .setup = one_on_another_node, .body = move_or_get, .post = still_in,
	  .twins = get_twins },
	{ .name = "migrate: two movers and a get", .threads = 3,
	  .setup = one_on_another_node, .body = move_or_get, .post = still_in },
	{ .name = "migrate: against a write under a pin", .threads = 2,
	  .setup = one_on_another_node, .body = move_or_write,
	  .post = still_in, .twins = write_twins },
	{ .name = "migrate: against a peek", .threads = 3,
	  .setup = one_for_short_reads, .body = move_or_peek,
	  .post = still_in, .twins = peek_twins },
	{ .name = "migrate: against an eviction", .threads = 2,
	  .setup = one_on_another_node, .body = move_or_evict,
	  .post = close_cache, .twins = evict_twins },
	{ .name = "migrate: against a take", .threads = 2,
	  .setup = one_on_another_node, .body = move_or_take,
	  .post = close_cache, .twins = evict_twins },
	{ .name = "migrate: against a removal", .threads = 2,
	  .setup = one_on_another_node, .body = move_or_remove,
	  .post = close_cache },
	{ .name = "migrate: against a replacement and a get", .threads = 3,
	  .setup = one_on_another_node, .body = move_or_replace,
	  .post = close_cache, .twins = replace_twins },
	{ .name = "migrate: no memory", .threads = 2,
	  .setup = one_and_no_memory, .body = move_or_get,
	  .post = nothing_moved },
	{ .name = NULL },
};
