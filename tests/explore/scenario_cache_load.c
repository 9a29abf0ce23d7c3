/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * Single-flight loads: one loads, the others sleep and get the same value or
 * the same error; what is removed meanwhile is not kept.
 */
#include "caches.h"

#include <errno.h>
#include <string.h>

static unsigned loads, failures;
static unsigned fail_first;

static void open(void)
{
	loads = failures = fail_first = 0;
	caches_open(4, false);
}

static int load(void *ctx, uint64_t key, void **ret_value,
		uint64_t *ret_weight)
{
	unsigned number = loads++;

	(void)ctx;
	explore_check(key == 1);
	explore_pause();
	if (number < fail_first)
		return -EIO;
	*ret_value = caches_value(key, number);
	*ret_weight = 1;
	return 0;
}

static int get_or_load(int wait_ms)
{
	struct seg_pin p;
	int ret = seg_cache_get_or_load(cache, 1, load, NULL, wait_ms, &p);

	if (!ret)
		caches_unpin(&p);
	return ret;
}

static void must_get(unsigned thread)
{
	(void)thread;
	explore_check(get_or_load(0) == 0);
}

static void loaded_once(void)
{
	explore_check(loads == 1);
	caches_close();
}

static const struct explore_twin flight_twins[] = {
	EXPLORE_TWIN("lost wake-up", SKIP, "wake_waiters", "store"),
	EXPLORE_TWIN("relaxed wake-up", RELAX, "wake_waiters", "store"),
	EXPLORE_TWIN("relaxed sleep", RELAX, "sleep_until_loaded", "load"),
	EXPLORE_TWIN("relaxed publication", RELAX, "entry_loaded", "cas"),
	EXPLORE_TWIN("loaded forgets pins", BLIND, "entry_loaded", "cas"),
	EXPLORE_TWIN("two begin to load", SPLIT, "gate_try", "cas"),
	{ .name = NULL },
};

/* ---- the loader fails ---- */

static void open_failing(void)
{
	open();
	fail_first = 1;
}

static void get_or_fail(unsigned thread)
{
	int ret = get_or_load(thread == 2 ? SEG_NO_WAIT : 0);

	explore_check(ret == 0 || ret == -EIO ||
		      (thread == 2 && ret == -EAGAIN));
	failures += ret == -EIO;
}

static void failed_once(void)
{
	explore_check(loads >= 1 && loads <= 3 && failures >= 1);
	caches_close();
}

static const struct explore_twin failing_twins[] = {
	EXPLORE_TWIN("lost wake-up", SKIP, "wake_waiters", "store"),
	EXPLORE_TWIN("loaded forgets pins", BLIND, "entry_loaded", "cas"),
	{ .name = NULL },
};

/* ---- removed, replaced while it is loaded ---- */

static void load_or_remove(unsigned thread)
{
	int ret;

	if (thread == 2) {
		ret = seg_cache_remove(cache, 1, NULL);
		explore_check(ret == 0 || ret == -ENOENT);
	} else {
		must_get(thread);
	}
}

static void loaded_twice_at_most(void)
{
	explore_check(loads <= 2);
	caches_close();
}

static const struct explore_twin remove_twins[] = {
	EXPLORE_TWIN("check, then hide", SPLIT, "entry_hide", "cas"),
	EXPLORE_TWIN("loaded forgets it is hidden", BLIND, "entry_loaded",
		     "cas"),
	EXPLORE_TWIN("lost wake-up", SKIP, "wake_waiters", "store"),
	{ .name = NULL },
};

static void load_or_replace(unsigned thread)
{
	if (thread == 0)
		must_get(thread);
	else if (thread == 1)
		caches_replace(1, 7);
	else
		caches_get(1);
}

static const struct explore_twin replace_twins[] = {
	EXPLORE_TWIN("check, then hide", SPLIT, "entry_hide", "cas"),
	EXPLORE_TWIN("blind unpin", BLIND, "entry_unpin", "cas"),
	{ .name = NULL },
};

/* ---- a short read meanwhile ---- */

static void open_for_short_reads(void)
{
	loads = failures = fail_first = 0;
	caches_open(4, true);
}

static void load_or_peek(unsigned thread)
{
	if (thread == 0)
		must_get(thread);
	else
		caches_peek(1);
}

static const struct explore_twin peek_twins[] = {
	EXPLORE_TWIN("relaxed publication", RELAX, "publish_value",
		     "store_rel"),
	{ .name = "relaxed look at the value", .mutation = EXPLORE_RELAX,
	  .function = "cache_index_look", .op = "load", .nth = 1 },
	{ .name = NULL },
};

const struct explore_scenario explore_cache_load[] = {
	{ .name = "load: single flight", .threads = 3, .setup = open,
	  .body = must_get, .post = loaded_once, .twins = flight_twins },
	{ .name = "load: one fails, others wait", .threads = 3,
	  .setup = open_failing, .body = get_or_fail, .post = failed_once,
	  .twins = failing_twins },
	{ .name = "load: removed meanwhile", .threads = 3, .setup = open,
	  .body = load_or_remove, .post = loaded_twice_at_most,
	  .twins = remove_twins },
	{ .name = "load: replaced meanwhile", .threads = 3, .setup = open,
	  .body = load_or_replace, .post = loaded_twice_at_most,
	  .twins = replace_twins },
	{ .name = "load: a short read meanwhile", .threads = 2,
	  .setup = open_for_short_reads, .body = load_or_peek,
	  .post = loaded_once, .twins = peek_twins },
	{ .name = NULL },
};
