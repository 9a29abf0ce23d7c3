/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * What becomes of values that left: the listener hears of each, in a cache of
 * pages the page is released.  With no gate held.
 *
 * A listener may give pins back, and so cause more to leave: a page that pins
 * another, which pins the next.  So that this does not go ever deeper into the
 * stack, each thread knows the caches whose listener it is in (frames).  What
 * it causes to leave such a cache by an unpin is left to that frame: the value
 * waits in its dead entry, which is linked to the frame before it goes to the
 * returned list (E4), and a cache that is too heavy is looked at again in the
 * end.  So an unpin nests no deeper than there are caches.
 */
#ifndef SEG_CACHE_RELEASE_H
#define SEG_CACHE_RELEASE_H

#include "cache.h"

enum { FAREWELL_MOST = 16 };

/* Written down under the gate, said after it was opened. */
struct farewell {
	unsigned count;
	struct departed list[FAREWELL_MOST];
};

static inline bool farewell_is_full(const struct farewell *f)
{
	return f->count == FAREWELL_MOST;
}

/* True: the listeners made the cache so heavy that it is to be looked at. */
bool cache_release_values(struct seg_cache *c, const struct departed *list,
			  unsigned count);

/* The value of an entry that this thread's unpin ended, for the returned list.
 * False: the thread is not in a listener of the cache. */
bool cache_release_later(struct seg_cache *c, struct cache_record *r);

/* The cache is to be looked at; false as above. */
bool cache_relieve_later(struct seg_cache *c);

/* An entry that came to UNPIN_RETURNS or UNPIN_DIED_RETURNS. */
void cache_push_returned(struct seg_cache *c, struct cache_record *r);

#endif
