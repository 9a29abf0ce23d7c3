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
	{ "cold_close", "cas", 0,
	  "a read-modify-write reads the newest anyway" },
	{ "moves_begin", "add", 0,
	  "keeps what is stored later behind it, which is not explored" },
	{ "moves_none_since", "add", 0,
	  "keeps what was loaded before it there, which is not explored" },
	{ "use_small_pages", "store", 0,
	  "what it orders is the kernel's, which is not explored" },
	{ "use_small_pages", "load", 0, "as its store" },
	{ "refused", "store_release", 0, "orders an error that is only told" },
	{ "is_resting", "load_acquire", 0, "as refused()" },
	{ "allocator_note_error", "store_release", 0, "as refused()" },
	{ "next_in_group", "load", 0,
	  "what a stale hint hides, class_pool_take_any() finds" },
	{ "bands_slots", "load", 0,
	  "a region that is counted late is found by its hint" },
	{ "claim_unused", "cas", 0,
	  "a region that is counted late is found by its hint" },
	{ "budget_wait_end", "sub", 0,
	  "a count that falls late wakes for nothing" },
	{ "account_charge_some", "cas", 0,
	  "charge() looks at the word again, and that acquires" },
	{ "account_lower", "cas", 0, "less room publishes nothing" },
	{ "next_child", "load", 0,
	  "who stands behind was published before the head" },
	{ "account_widen", "add", 0,
	  "who looks too early finds nothing in either word, and looks again" },
	{ "account_narrow", "cas", 0, "as account_widen()" },
	{ "shrink_reserve", "cas", 0, "as account_widen()" },
	{ "budget_link_child", "store_release", 0,
	  "publishes plain data that the scenario writes, which is not told" },
	{ "first_child", "load", 0, "as budget_link_child()" },
	{ "budget_unlink_child", "store", 0,
	  "who stands behind was published before" },
	{ "visit_begin", "cas", 0, "first_child() acquired it" },
	{ "visit_end", "sub", 0,
	  "the read section before it and the grace period order it, too" },
	{ "budget_await_visits", "cas", 0,
	  "one word; the rest as visit_end()" },
	{ "budget_await_visits", "load", 0, "as visit_end()" },
	{ "ask_members", "load", 2,
	  "who stands behind was published before the head" },
	{ "chunk_make", "load", 0, "item_of() acquires it again" },
	{ "item_of", "load", 0,
	  "the head or chunk_make() acquired it before" },
	{ "chunk_make", "store_release", 1,
	  "the shape that follows publishes the chunk, too" },
	{ "index_bucket_at", "load", 0, "the shape before acquired it" },
	{ "split", "store_release", 1, "the shape that follows publishes it" },
	{ "visit", "load", 2, "no scenario finds it, the key's is needed" },
	{ "cache_index_remove", "store", 0,
	  "in no scenario a newcomer stands behind who leaves" },
	{ "entry_weigh", "store_release", 1,
	  "the packed weight that follows publishes it, too" },
	{ "record_weight", "load", 0, "the packed weight was acquired before" },
	{ "slots_make", "store", 0, "groups are plain memory: not explored" },
	{ "slots_own", "load", 0, "as slots_make()" },
	{ "seg_cache_each", "load", 0,
	  "cache_index_buckets() acquires it again" },
	{ "is_in_bucket", "load", 0,
	  "who is not told of straying here is told at the next entry" },
	{ "call_begin", "cas", 0, "begin_with() acquired it" },
	{ "call_end", "sub", 0,
	  "the read section before it and the grace period order it, too" },
	{ "wait_for_calls", "add", 0, "one word; the rest as call_end()" },
	{ "wait_for_calls", "load", 0, "as call_end()" },
	{ "reclaim_leave", "store", 0,
	  "who stands behind was published before" },
	{ "begin_with", "load", 2, "who stands behind was published before" },
	{ "topology_count", "load", 0,
	  "a node that is counted late is not there yet" },
	{ "page_move", "cas", 0,
	  "who passes a page on is ordered with who gets it otherwise, too" },
	{ "pin_tags_drop", "cas", 0,
	  "slab_put() and slab_get() stand before the record's next use" },
	{ "class_pool_unmap", "add", 0,
	  "who asks destroys the pool, which no scenario does" },
	{ "close_it", "cas", 0,
	  "reads the newest anyway, and a barrier orders the rest" },
	{ "claim_make", "cas", 0,
	  "the stash that it stands in, or set_bit(), passes it on, too" },
	{ "let_stray", "cas", 0, "set_bit() passes it on, too" },
	{ "clear_mark", "cas", 0, "clear_bit() acquired it" },
	{ "load_claims", "store", 0,
	  "publishes what stays, if there are more than go at once" },
	{ "report_dropped", "exchange", 0, "only a number" },
	{ "region_drop_strays", "and", 0,
	  "one word: whoever clears a bit answers for it" },
	{ NULL, NULL, 0, NULL },
};

#define FOR_PLAIN "only plain data shows it"

/* The same where the library does not tell its plain accesses; see plain.c. */
static const struct known known_plain_sites[] = {
	{ "slots_arrive", "store", 0, FOR_PLAIN },
	{ "slots_receive", "load", 0, FOR_PLAIN },
	{ "cache_push_returned", "cas", 0, FOR_PLAIN },
	{ "drain", "exchange", 0, FOR_PLAIN },
	{ "entry_returned", "cas", 0, FOR_PLAIN },
	{ NULL, NULL, 0, NULL },
};

#endif
