/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * The entry word alone: pins, and all that want to end the entry.  The value
 * is a race-checked cell, and so is the cause, which whoever ends a hidden
 * entry reads; what left is looked at before others may use the entry again.
 */
#include "explore.h"

#include <string.h>

#include "cache_entry.h"

static _Alignas(CACHE_GROUP_BYTES) struct cache_group group;
static struct cache_entry *const entry = &group.entry[0];
static struct cache_record *const record = &group.record[0];
static struct explore_cell value;
static unsigned ended, given_back;
static bool late;	/* a twin: looks at what left when it has left */

enum { KEY = 5, WEIGHT = 3, CAUSE = 7 };

static void throw_late(bool on)
{
	late = on;
}

static void begin(uint64_t flags, uint64_t pins)
{
	memset(entry, 0, sizeof(*entry));
	memset(record, 0, sizeof(*record));
	ended = given_back = 0;
	entry_fill(entry, KEY, &value, WEIGHT);
	entry_begin(entry, flags, pins);
	explore_write(&value, 1);
}

static void read_value(void)
{
	explore_check(explore_read(&value) == 1);
	explore_pause();
	explore_check(explore_read(&value) == 1);
}

static bool pin(uint64_t *ret_word)
{
	*ret_word = entry_look(entry);
	return entry_pin(entry, ret_word);
}

/* By the one who ended it. */
static void dispose(void)
{
	ended++;
	explore_free(&value);
}

static bool kill(void)
{
	if (!entry_kill(entry))
		return false;
	dispose();
	return true;
}

static uint64_t hide(void)
{
	uint64_t old;

	record_set_cause(record, CAUSE);
	explore_check(entry_hide(entry, &old));
	if (!entry_pins(old))
		dispose();
	return old;
}

static void check_departed(const struct departed *d, uint32_t cause)
{
	explore_check(d->key == KEY && d->value == &value);
	explore_check(d->weight == WEIGHT && d->cause == cause);
}

static void unpin(uint64_t version)
{
	struct departed d;
	enum entry_unpinned what = entry_unpin(entry, version, &d);

	given_back += what != UNPIN_STALE;
	if (what < UNPIN_LAST)
		return;
	if (late)
		d = entry_departs(entry, d.cause);
	check_departed(&d, what < UNPIN_DIED ? 0 : CAUSE);
	if (what >= UNPIN_DIED)
		dispose();
}

static void quick_unpin(uint64_t version)
{
	bool last;

	if (!entry_unpin_plain(entry, version, &last))
		unpin(version);
}

/* ---- pin against kill ---- */

static void not_pinned(void)
{
	begin(0, 0);
}

static void pin_or_kill(unsigned thread)
{
	uint64_t word;

	if (thread == 0) {
		kill();
	} else if (pin(&word)) {
		read_value();
		if (thread == 1)
			quick_unpin(entry_version(word));
		else
			unpin(entry_version(word));
	}
}

static void ended_once_at_most(void)
{
	uint64_t word = entry_look(entry);

	explore_check(entry_pins(word) == 0);
	explore_check(ended == (entry_state(word) == ENTRY_DEAD));
}

static const struct explore_twin pin_twins[] = {
	EXPLORE_TWIN("check, then pin", SPLIT, "entry_pin", "cas"),
	EXPLORE_TWIN("blind pin", BLIND, "entry_pin", "cas"),
	EXPLORE_TWIN("check, then kill", SPLIT, "entry_kill", "cas"),
	EXPLORE_TWIN("blind kill", BLIND, "entry_kill", "cas"),
	EXPLORE_TWIN("relaxed kill", RELAX, "entry_kill", "cas"),
	EXPLORE_TWIN("relaxed quick unpin", RELAX, "entry_unpin_plain", "cas"),
	EXPLORE_TWIN("relaxed unpin", RELAX, "entry_unpin", "cas"),
	EXPLORE_TWIN("blind unpin", BLIND, "entry_unpin", "cas"),
	EXPLORE_TWIN("blind quick unpin", BLIND, "entry_unpin_plain", "cas"),
	{ .name = NULL },
};

/* ---- remove of a pinned one ---- */

static void pinned_twice(void)
{
	begin(0, 2);
}

/* Two hold pins; who removes it, and a late pin. */
static void hide_or_unpin(unsigned thread)
{
	uint64_t word;

	if (thread == 0) {
		hide();
		explore_check(!pin(&word));
	} else {
		read_value();
		if (thread == 1)
			unpin(1);
		else
			quick_unpin(1);
	}
}

static void ended_once(void)
{
	explore_check(ended == 1);
	explore_check(entry_state(entry_look(entry)) == ENTRY_DEAD);
	explore_check(entry_pins(entry_look(entry)) == 0);
}

static const struct explore_twin hide_twins[] = {
	EXPLORE_TWIN("check, then hide", SPLIT, "entry_hide", "cas"),
	EXPLORE_TWIN("blind hide", BLIND, "entry_hide", "cas"),
	EXPLORE_TWIN("relaxed hide", RELAX, "entry_hide", "cas"),
	EXPLORE_TWIN("relaxed unpin", RELAX, "entry_unpin", "cas"),
	EXPLORE_TWIN("relaxed quick unpin", RELAX, "entry_unpin_plain", "cas"),
	EXPLORE_TWIN("blind unpin", BLIND, "entry_unpin", "cas"),
	EXPLORE_TWIN("quick unpin in two steps", SPLIT, "entry_unpin_plain",
		     "cas"),
	{ .name = NULL },
};

/* ---- all that can end it ---- */

static void pinned_once(void)
{
	begin(0, 1);
}

static void end(unsigned thread)
{
	uint64_t word;

	if (thread == 1) {
		read_value();
		unpin(1);
	} else if (thread == 2) {
		if (pin(&word)) {
			read_value();
			unpin(1);
		}
	} else if (!kill()) {
		hide();
	}
}

static const struct explore_twin end_twins[] = {
	EXPLORE_TWIN("blind kill", BLIND, "entry_kill", "cas"),
	EXPLORE_TWIN("blind unpin", BLIND, "entry_unpin", "cas"),
	EXPLORE_TWIN("check, then hide", SPLIT, "entry_hide", "cas"),
	{ .name = NULL },
};

/* ---- the last unpin, and the entry is used again ---- */

static void on_the_list(void)
{
	begin(ENTRY_RETURNING, 1);
}

/* As who holds the lock does it; by then it may be gone. */
static void use_again(void)
{
	static struct explore_cell other;

	if (entry_state(entry_returned(entry)) != ENTRY_DEAD)
		return;
	entry_fill(entry, KEY + 1, &other, WEIGHT + 1);
	entry_begin(entry, 0, 1);
}

static void unpin_or_hide(unsigned thread)
{
	if (thread == 0) {
		hide();
		use_again();
	} else {
		read_value();
		unpin(1);
	}
}

/* Not hidden: it stays in, until it is killed. */
static void unpin_or_kill(unsigned thread)
{
	if (thread == 0) {
		if (kill())
			use_again();
	} else {
		read_value();
		unpin(1);
	}
}

static void one_life_ended(void)
{
	explore_check(ended == 1);
	explore_check(given_back == 1);
}

static void given_back_at_least(void)
{
	explore_check(given_back == 1 && ended <= 1);
}

static const struct explore_twin used_again_twins[] = {
	EXPLORE_TWIN_SWITCH("looks when it has left", throw_late),
	EXPLORE_TWIN("relaxed hide", RELAX, "entry_hide", "cas"),
	EXPLORE_TWIN("blind unpin", BLIND, "entry_unpin", "cas"),
	EXPLORE_TWIN("check, then hide", SPLIT, "entry_hide", "cas"),
	{ .name = NULL },
};

static const struct explore_twin killed_twins[] = {
	EXPLORE_TWIN_SWITCH("looks when it has left", throw_late),
	{ .name = NULL },
};

/* ---- one pin given back twice, while it is hidden and used again ---- */

static void twice_or_hide(unsigned thread)
{
	if (thread) {
		unpin(1);
		return;
	}
	hide();
	use_again();
}

static const struct explore_twin twice_hidden_twins[] = {
	EXPLORE_TWIN("unpin in two steps", SPLIT, "entry_unpin", "cas"),
	EXPLORE_TWIN("blind unpin", BLIND, "entry_unpin", "cas"),
	EXPLORE_TWIN_ONLY("only the state compared", "entry_unpin", "cas",
			  ENTRY_STATE),
	{ .name = NULL },
};

/* ---- one pin given back twice, while it is being parked ---- */

static void give_back_or_park(unsigned thread)
{
	if (thread < 2)
		unpin(1);
	else
		entry_park(entry);
}

/* What was parked is either still pinned or on its way to the list. */
static void given_back_once(void)
{
	uint64_t word = entry_look(entry);

	explore_check(given_back == 1);
	explore_check(entry_pins(word) == 0);
	explore_check(!(word & ENTRY_PARKED));
}

static const struct explore_twin twice_twins[] = {
	EXPLORE_TWIN("unpin in two steps", SPLIT, "entry_unpin", "cas"),
	EXPLORE_TWIN("check, then park", SPLIT, "entry_park", "cas"),
	EXPLORE_TWIN("blind park", BLIND, "entry_park", "cas"),
	{ .name = NULL },
};

/* ---- the value of a load ---- */

static void loading(void)
{
	begin(ENTRY_LOADING, 1);
}

static void load_or_pin(unsigned thread)
{
	uint64_t word;

	if (thread == 0) {
		explore_write(&value, 7);
		entry_loaded(entry);
	} else if (thread == 1) {
		if (pin(&word) && !(word & ENTRY_LOADING))
			explore_check(explore_read(&value) == 7);
	} else if (!(entry_look(entry) & ENTRY_LOADING)) {
		explore_check(explore_read(&value) == 7);
	}
}

static const struct explore_twin load_twins[] = {
	EXPLORE_TWIN("relaxed publication", RELAX, "entry_loaded", "cas"),
	EXPLORE_TWIN("relaxed pin", RELAX, "entry_pin", "cas"),
	EXPLORE_TWIN("relaxed look", RELAX, "entry_look", "load"),
	{ .name = NULL },
};

const struct explore_scenario explore_cache_entry[] = {
	{ .name = "entry: pin against kill", .threads = 3,
	  .setup = not_pinned, .body = pin_or_kill,
	  .post = ended_once_at_most, .twins = pin_twins },
	{ .name = "entry: remove of a pinned one, two unpin", .threads = 3,
	  .setup = pinned_twice, .body = hide_or_unpin, .post = ended_once,
	  .twins = hide_twins },
	{ .name = "entry: all that can end it", .threads = 3,
	  .setup = pinned_once, .body = end, .post = ended_once,
	  .twins = end_twins },
	{ .name = "entry: last unpin, hidden and used again", .threads = 2,
	  .setup = on_the_list, .body = unpin_or_hide,
	  .post = one_life_ended, .twins = used_again_twins },
	{ .name = "entry: last unpin, killed and used again", .threads = 2,
	  .setup = on_the_list, .body = unpin_or_kill,
	  .post = given_back_at_least, .twins = killed_twins },
	{ .name = "entry: hidden, one pin given back twice", .threads = 3,
	  .setup = on_the_list, .body = twice_or_hide,
	  .post = one_life_ended, .twins = twice_hidden_twins },
	{ .name = "entry: one pin given back twice", .threads = 3,
	  .setup = pinned_once, .body = give_back_or_park,
	  .post = given_back_once, .twins = twice_twins },
	{ .name = "entry: the value of a load", .threads = 3,
	  .setup = loading, .body = load_or_pin, .twins = load_twins },
	{ .name = NULL },
};
