/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * Records of pins: one drop of a token wins, and a report has whole records,
 * even of one that is dropped and used again meanwhile.
 */
#include "explore.h"

#include <string.h>

#include "pin_tags.h"

static struct pin_tags tags;
static uint64_t token;
static unsigned dropped;

enum { NOW = 100 };

/* All figures of a record are the same, so that a torn one is seen. */
static uint64_t add(uint64_t figure)
{
	const struct seg_pin_info info = { .tag = figure, .key = figure,
					   .weight = figure };
	uint64_t t;

	explore_now_ns[explore_thread()] = figure;
	t = pin_tags_add(&tags, &info);
	explore_check(t);
	return t;
}

static void one_is_out(void)
{
	memset(&tags, 0, sizeof(tags));
	dropped = 0;
	pin_tags_init(&tags);
	token = add(1);
}

static void check_record(void *ctx, const struct seg_pin_info *info)
{
	unsigned *seen = ctx;

	++*seen;
	explore_check(info->tag == info->key && info->key == info->weight);
	explore_check(info->held_ns == NOW - info->tag);
}

static unsigned count(void)
{
	unsigned seen = 0;

	explore_now_ns[explore_thread()] = NOW;
	pin_tags_each(&tags, check_record, &seen);
	return seen;
}

static void drop_or_report(unsigned thread)
{
	if (thread == 0) {
		dropped += pin_tags_drop(&tags, token);
		add(2);
	} else if (thread == 1) {
		dropped += pin_tags_drop(&tags, token);
	} else {
		explore_check(count() <= 2);
	}
}

static void one_dropped(void)
{
	explore_check(dropped == 1);
	explore_check(count() == 1);
}

static const struct explore_twin drop_twins[] = {
	EXPLORE_TWIN("drop in two steps", SPLIT, "pin_tags_drop", "cas"),
	EXPLORE_TWIN("blind drop", BLIND, "pin_tags_drop", "cas"),
	EXPLORE_TWIN("relaxed record", RELAX, "pin_tags_add", "store"),
	EXPLORE_TWIN("relaxed report", RELAX, "record_read", "load"),
	EXPLORE_TWIN("use not looked at again", STALE, "record_read",
		     "load_relaxed"),
	{ .name = NULL },
};

/* Dropped by another thread than the one that added it. */
static void hand_on(unsigned thread)
{
	if (thread == 0)
		pin_tags_drop(&tags, token);
	else if (thread == 1)
		add(3);
	else
		count();
}

static void whole(void)
{
	explore_check(count() == 1);
}

/* Nothing is there yet. */
static void none_is_out(void)
{
	memset(&tags, 0, sizeof(tags));
	pin_tags_init(&tags);
}

static void add_or_report(unsigned thread)
{
	if (thread == 0)
		add(1);
	else
		count();
}

static const struct explore_twin first_twins[] = {
	EXPLORE_TWIN("relaxed look", RELAX, "slab_at", "load"),
	{ .name = NULL },
};

const struct explore_scenario explore_pin_tags[] = {
	{ .name = "tags: two drops of one token, a report", .threads = 3,
	  .setup = one_is_out, .body = drop_or_report, .post = one_dropped,
	  .twins = drop_twins },
	{ .name = "tags: drop, add and a report", .threads = 3,
	  .setup = one_is_out, .body = hand_on, .post = whole },
	{ .name = "tags: the first one and a report", .threads = 2,
	  .setup = none_is_out, .body = add_or_report, .post = whole,
	  .twins = first_twins },
	{ .name = NULL },
};
