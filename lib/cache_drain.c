/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * Draining: a cache of pages evicts exactly those of its pages that lie in
 * sparse regions and that nobody pins, as far as its floor lets it, so that the
 * regions can go as a whole; and says what keeps the others.  All entries are
 * looked at, those of one bucket each time that the gate is held.  What was
 * removed but is pinned still is looked at under a pin of its own.
 */
#include "cache_close.h"
#include "cache_leave.h"
#include "page.h"

struct walk {
	struct seg_cache *cache;
	struct drain *drain;
	struct farewell farewell;
};

/* Under the gate.  NULL: there is no value yet. */
static const struct seg_page *page_of(const struct cache_entry *e)
{
	/* relaxed: under the gate */
	return entry_look(e) & ENTRY_LOADING ? NULL :
					       ptr_load_relaxed(&e->value);
}

/* What of a page lies in the spans. */
static uint64_t bytes_inside(const struct drain *d, const struct seg_page *page)
{
	uint64_t bytes = 0;

	for (unsigned i = 0; page && i < page->parts; i++)
		if (drain_find(d, page_segment(page, i)))
			bytes += page->bytes[i];
	return bytes;
}

static bool is_above_floor(struct seg_cache *c, const struct cache_entry *e)
{
	return cache_weight_exactly(c) >= c->floor_weight + entry_weight(e);
}

/* False: the farewell is full. */
static bool evict_entry(struct walk *w, struct cache_entry *e)
{
	uint64_t bytes = bytes_inside(w->drain, page_of(e));

	if (!bytes || entry_pins(entry_look(e)) || !is_above_floor(w->cache, e))
		return true;
	if (farewell_is_full(&w->farewell))
		return false;
	if (cache_evict_entry(w->cache, e, SEG_CAUSE_RECLAIMED, &w->farewell))
		w->drain->evicted_bytes += bytes;
	return true;
}

static void count_entry(struct walk *w, const struct cache_entry *e)
{
	bool pinned = entry_pins(entry_look(e)) != 0;
	const struct seg_page *page = page_of(e);
	struct drain *d = w->drain;

	if (!bytes_inside(d, page))
		return;
	for (unsigned i = 0; i < page->parts; i++) {
		struct drain_span *span =
			drain_find(d, page_segment(page, i));
		uint64_t bytes = span ? page->bytes[i] : 0;

		if (span && pinned)
			span->pinned_bytes += bytes;
		else if (span)
			span->cached_bytes += bytes;
		*(pinned ? &d->pinned_bytes : &d->cached_bytes) += bytes;
	}
}

/* False: the farewell is full, and nothing was counted. */
static bool drain_bucket(struct walk *w, uint32_t bucket)
{
	struct cache_index *ix = &w->cache->index;
	struct cache_entry *e, *next;

	for (e = cache_index_first(ix, bucket); e; e = next) {
		next = cache_index_next(ix, e);
		if (!evict_entry(w, e))
			return false;
	}
	for (e = cache_index_first(ix, bucket); e; e = cache_index_next(ix, e))
		count_entry(w, e);
	return true;
}

/* The next one that is hidden behind that one (NULL: the first), held: the last
 * unpin outside would release its page, for which it needs no gate. */
static struct cache_entry *hold_next(struct walk *w, struct cache_entry *e,
				     uint64_t *ret_word)
{
	struct cache_record *r;

	cache_lock(w->cache, &w->farewell);
	r = e ? entry_record(e)->older : w->cache->hidden;
	while (r && !entry_hold(record_entry(r), ret_word))
		r = r->older;
	cache_unlock(w->cache, &w->farewell);
	return r ? record_entry(r) : NULL;
}

/* Each is held until the next one is: it stays in the list, and its page. */
static void count_hidden(struct walk *w)
{
	struct cache_entry *e = NULL, *next;
	uint64_t word = 0, next_word = 0;

	while ((next = hold_next(w, e, &next_word)) != NULL) {
		if (e)
			cache_unpin(w->cache, e, entry_version(word));
		count_entry(w, next);
		e = next;
		word = next_word;
	}
	if (e)
		cache_unpin(w->cache, e, entry_version(word));
}

/* With short_reads the first that left may be on their way, the others wait for
 * these to arrive.  Now they go, too: the caller flushes once more. */
static void send_on(struct walk *w)
{
	keeper_flush();
	cache_hurry(w->cache);
	cache_lock(w->cache, &w->farewell);
	cache_unlock(w->cache, &w->farewell);
}

void cache_drain(struct reclaimer *r, struct drain *d)
{
	struct walk w = { .cache = cache_of(r), .drain = d };
	uint32_t bucket = 0, closed = 0;

	if (!w.cache->pages || cache_is_foreign(w.cache))
		return;
	while (bucket < cache_index_buckets(&w.cache->index)) {
		cache_lock(w.cache, &w.farewell);
		if (bucket >= closed)
			closed = cache_close_buckets(w.cache, bucket);
		bucket += drain_bucket(&w, bucket);
		cache_unlock(w.cache, &w.farewell);
	}
	count_hidden(&w);
	if (w.cache->short_reads)
		send_on(&w);
}
