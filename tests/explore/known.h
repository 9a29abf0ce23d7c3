/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * Operations whose order no scenario needs, each with its reason: it is
 * stronger than it must be, or the explorer can't show why it must be so.
 */
#ifndef KNOWN_H
#define KNOWN_H

#include <stddef.h>

struct known {
	const char *function;
	const char *op;		/* begins so */
	unsigned nth;		/* such line of the function; 0: all */
	const char *reason;
};

static const struct known known_sites[] = {
	{ "region_retire", "cas", 0,
	  "what was seen came from region_look(), which acquired it" },
	{ "lower_bit", "load", 1,
	  "a wrong first look leaves a bit too many, or the second mends it" },
	{ "set_trim", "load", 0,
	  "matters after the thread's own store, which it sees anyway" },
	{ "set_has", "load", 0,
	  "a wrong answer leaves the region in a sparser set, as allowed" },
	{ "next_in_group", "load", 0,
	  "what a stale hint hides, class_pool_take_any() finds" },
	{ "bands_slots", "load", 0,
	  "a region that is counted late is found by its hint" },
	{ "claim_unused", "cas", 0,
	  "a region that is counted late is found by its hint" },
	{ "budget_wait_end", "sub", 0,
	  "a count that falls late wakes for nothing" },
	{ "budget_shed", "load", 2,
	  "who stands behind was published before the head" },
	{ "chunk_make", "load", 0, "item_of() acquires it again" },
	{ "item_of", "load", 0,
	  "the head or chunk_make() acquired it before" },
	{ NULL, NULL, 0, NULL },
};

#endif
