/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * The cache of libseg.  <seg.h> includes this; what stands on top of that file
 * on errors, threads, progress and owners holds here as well.
 */
#ifndef SEG_CACHE_API_H
#define SEG_CACHE_API_H

#include <seg.h>

#ifdef __cplusplus
extern "C" {
#ifdef __GNUC__		/* a function may have the name of its struct */
#pragma GCC diagnostic push
#pragma GCC diagnostic ignored "-Wshadow"
#endif
#endif

/* ------------------------------------------------------------------ cache */

/*
 * A concurrent weighted cache: 64-bit key -> value.  An entry weighs what was
 * said when it was put; while it is pinned it weighs 0 and can't be evicted.
 * The cache owns its values; each leaves by one way, once:
 *   taken: to the caller · all others: to the listener, with the cause.
 * Hits take no lock.  What changes the set of entries takes one short lock.
 * An entry is found in two cache lines; it costs about 230 bytes of memory of
 * the library's own, none of which is needed to evict.
 * Fork: a cache must not be used in the child, whose allocations ask none of
 * the parent's.
 */

/*
 * Pages that move (migrate_after): the unpin that makes a page due gives its
 * parts other segments, on the node of those who read it.  Page, key and weight
 * stay; what seg_page_part() returned is good as long as the page is pinned, or
 * the read section lasts.  Nothing waits for a move: a pin taken meanwhile ends
 * it.  Memory is had with SEG_EFFORT_EASY, or the page stays.  Peeks don't
 * count.
 */

/* Why a value left. */
enum seg_cause {
	SEG_CAUSE_EVICTED = 1,	/* the cache was too heavy */
	SEG_CAUSE_RECLAIMED = 2,/* the budget's limit was met, or the pool of
				   the pages was drained */
	SEG_CAUSE_SHRUNK = 3,	/* seg_cache_shrink(), _set_max_weight() */
	SEG_CAUSE_REPLACED = 4,	/* seg_cache_replace() */
	SEG_CAUSE_REMOVED = 5,	/* seg_cache_remove(), or while it loaded */
	SEG_CAUSE_CLEARED = 6,	/* seg_cache_clear() */
	SEG_CAUSE_DESTROYED = 7	/* seg_cache_destroy() */
};

/*
 * Called exactly once for each value that leaves other than by take, never
 * while it is pinned, with no lock held: it releases the value (of a cache of
 * pages: it is only told, before the page is released).  In the thread that
 * made it leave: who puts, unpins, removes, shrinks, drains, or meets the
 * limit; in a cache with short_reads in the library's own thread (or see
 * seg_upkeep()), or one that trims, drains or destroys, after a grace period,
 * and then under the rules of seg_log_fn.  It may use any cache and pool, but
 * an allocation made while the limit is being met, or by the library's own
 * thread, asks no cache.  What an unpin in it makes leave the same cache
 * follows when it has returned.  It can't be cancelled.
 */
typedef void seg_cache_listener_fn(void *ctx, uint64_t key, void *value,
				   uint64_t weight, enum seg_cause cause);

struct seg_cache_options {
	size_t size;			/* sizeof(struct seg_cache_options) */
	uint64_t max_weight;		/* required: 1 to 2^56 */
	uint64_t floor_weight;		/* the limit takes no more than down to
					   this; 0: all that is not pinned;
					   above max_weight: it takes nothing */
	struct seg_budget *budget;	/* whose limit it gives back to; NULL */
	struct seg_pool *pages;		/* values are pages of that pool; NULL:
					   they are just pointers */
	seg_cache_listener_fn *listener; /* NULL only in a cache of pages */
	void *listener_ctx;
	const char *name;		/* for the log, 31 bytes; NULL: Cache */
	seg_log_fn *log;		/* NULL: no events */
	void *log_ctx;
	enum seg_log_level log_level;
	unsigned short_reads;		/* 1: seg_cache_peek() is allowed,
					   and what leaves does so after a
					   grace period */
	unsigned migrate_after;		/* of pages: one that was read so many
					   times in a row from one other memory
					   node moves there; 0: none does */
	unsigned no_thread;		/* 1: no thread is started for it; the
					   caller calls seg_upkeep() */
};

/*
 * When no other thread is in a call: entries = inserts_total - evictions_total
 * - reclaims_total - shrinks_total - replacements_total - removals_total -
 * takes_total; weight + pinned_weight is the sum of the weights of all that
 * are in, or were removed or replaced but are still pinned.
 */
struct seg_cache_stats {
	size_t size;			/* sizeof(struct seg_cache_stats) */
	uint64_t max_weight;
	uint64_t weight;		/* of what is not pinned */
	uint64_t pinned_weight;		/* of what is */
	uint64_t deferred_weight;	/* left, waiting for a grace period */
	uint64_t entries;
	uint64_t hits_total;		/* gets and peeks that found it */
	uint64_t misses_total;		/* ... and that did not */
	uint64_t inserts_total;		/* puts, replaces and loads that did */
	uint64_t loads_total;		/* calls of a loader */
	uint64_t load_failures_total;	/* of these: that failed */
	uint64_t load_waits_total;	/* gets that found another's load */
	uint64_t evictions_total;	/* SEG_CAUSE_EVICTED, and so on */
	uint64_t reclaims_total;
	uint64_t shrinks_total;
	uint64_t replacements_total;
	uint64_t removals_total;	/* removed, cleared, destroyed */
	uint64_t takes_total;
	uint64_t released_total;	/* values that the listener was given */
	uint64_t metadata_bytes;	/* the library's own */
	uint64_t misuses_total;		/* unpins of what was not pinned */
	uint64_t migrations_total;	/* pages that moved to another node */
	uint64_t migrated_bytes_total;	/* what was copied for that */
	uint64_t migrations_refused_total;	/* no memory there, or somebody
						   wanted the page meanwhile */
};

/*
 * A pin: while it is held the value stays, weighs nothing and can't be taken.
 * The caller's memory; the members are the library's.  It may be copied and
 * unpinned by any thread, once.
 */
struct seg_pin {
	struct seg_cache *cache;
	void *entry;
	uint64_t version;
	uint64_t record;
};

/*
 * Errors: -EINVAL options or ret_cache NULL, a size that is not valid, an
 * option out of its range, a listener missing, migrate_after without pages;
 * -ENOMEM; -EAGAIN no thread to be had.  Owner: the caller.  Blocking.
 */
SEG_API SEG_NODISCARD int
seg_cache_create(const struct seg_cache_options *options,
		 struct seg_cache **ret_cache);

/*
 * Removes all entries and ends the cache.  NULL is a no-op.
 * Errors: -EBUSY something is pinned or being loaded: what is pinned is logged
 * (SEG_LOG_ERROR), by tag, and the cache is as it was; or the kernel did not
 * take memory back: the cache is empty, and can be used or destroyed again;
 * -EDEADLK the caller is in a read section.
 * Blocking: waits for a grace period.
 */
SEG_API int seg_cache_destroy(struct seg_cache *cache);

/*
 * Inserts a value, evicting what is needed to stay below the maximum.  With
 * ret_pin (may be NULL) it comes pinned.  In a cache of pages a weight of 0 is
 * the page's own (seg_page_bytes()).
 * Errors: -EINVAL cache or value NULL, weight 0 (but see above), a page of
 * another pool; -EEXIST the key is there or being loaded; -E2BIG heavier than
 * the maximum, or 2^62 in all is in and pinned; -ENOMEM; of pages also -ESTALE
 * and -EBUSY as seg_txlog_put().
 * On an error the value is the caller's still.  Blocking: a short lock.
 */
SEG_API SEG_NODISCARD int
seg_cache_put(struct seg_cache *cache, uint64_t key, void *value,
	      uint64_t weight, struct seg_pin *ret_pin);

/*
 * As put, but the key may be there: then the old value leaves
 * (SEG_CAUSE_REPLACED), if it is pinned at its last unpin.
 * Errors: as put, but not -EEXIST.
 */
SEG_API SEG_NODISCARD int
seg_cache_replace(struct seg_cache *cache, uint64_t key, void *value,
		  uint64_t weight, struct seg_pin *ret_pin);

/*
 * Pins the value of a key.
 * Errors: -EINVAL a NULL; -ENOENT not there, still being loaded, or with 2^23
 * pins already.  Lock-free.
 */
SEG_API SEG_NODISCARD int
seg_cache_get(struct seg_cache *cache, uint64_t key, struct seg_pin *ret_pin);

/*
 * Brings the value of a key: 0, and the value and its weight (0 in a cache of
 * pages: the page's own); or a negative errno.  Runs in the thread that asked,
 * with no lock held; other keys can be got, put and loaded in it.
 */
typedef int seg_cache_load_fn(void *ctx, uint64_t key, void **ret_value,
			      uint64_t *ret_weight);

/*
 * As get; if the key is not there, one thread calls load, and others that ask
 * meanwhile wait for it: wait_ms 0 as long as it takes, > 0 no longer than
 * that, SEG_NO_WAIT not at all.  A value that is heavier than the maximum, or
 * whose key was removed or replaced meanwhile, is given to who asked, and
 * leaves with the last of their pins.  Two loaders that wait for each other's
 * keys without a time wait for ever.
 * Errors: -EINVAL cache, load or ret_pin NULL, wait_ms below SEG_NO_WAIT, load
 * returned more than 0; what load returned, to all who waited for it; -EAGAIN
 * (SEG_NO_WAIT), -ETIMEDOUT another thread still loads;
 * -EDEADLK the caller itself loads this key; -ENOMEM; -EOVERFLOW it has 2^23
 * pins; and what seg_cache_put() says of the value loaded (but for its being
 * too heavy), which then is the loader's still.
 * Blocking.
 */
SEG_API SEG_NODISCARD int
seg_cache_get_or_load(struct seg_cache *cache, uint64_t key,
		      seg_cache_load_fn *load, void *ctx, int wait_ms,
		      struct seg_pin *ret_pin);

/* The value of a pin that is held; NULL for a cleared one.  Wait-free. */
SEG_API void *seg_pin_value(const struct seg_pin *pin);

/*
 * Names who holds the pin, by a number of the application's other than 0 (a
 * transaction, a connection), and since when: now.  For seg_cache_pins() and
 * the reports; costs about as much as a pin.  Copies made before are not of
 * this pin any more: this one is to be given back.
 * Errors: -EINVAL pin NULL or not held, tag 0; -ENOMEM the pin is held without
 * a tag.  Lock-free, but for the mapping of memory now and then.
 */
SEG_API int seg_pin_tag(struct seg_pin *pin, uint64_t tag);

/*
 * Gives the pin back and clears it.  A cleared one is a no-op.  If the cache is
 * too heavy now, it evicts, unless another thread is doing so.
 * Errors: -EINVAL pin NULL; -ESTALE it is a copy of one that was given back
 * (found for as long as the entry has no other pins): counted, logged, and
 * nothing changes.  Lock-free; with migrate_after a page may be copied.
 */
SEG_API int seg_unpin(struct seg_pin *pin);

/*
 * Pins again what a copy of a pin that was given back names, if it has not left
 * the cache since: a hit like any other, without a look-up.  For who remembers
 * where things are, such as a page that points to its children.  The cache must
 * exist still.  ret_pin may be last itself.
 * Errors: -EINVAL a NULL, or last was never a pin; -ENOENT it has left (what
 * the key leads to now is another value), is hidden, or has 2^23 pins.
 * Lock-free.
 */
SEG_API SEG_NODISCARD int
seg_pin_again(const struct seg_pin *last, struct seg_pin *ret_pin);

/*
 * A read section: what seg_cache_peek() finds in it stays readable until its
 * end.  Sections nest.  They must be short and must not block, since nothing
 * that left a cache or a pool meanwhile is given back before their end.  An
 * end without a begin does nothing.  Wait-free.
 */
SEG_API void seg_read_begin(void);
SEG_API void seg_read_end(void);

/*
 * The value of a key without a pin, in a read section.
 * Errors: -EINVAL a NULL; -EPERM not in a read section, or the cache was made
 * without short_reads; -ENOENT as get.  Lock-free, and writes nothing that
 * other threads read but a mark in the entry, if that is not at its most.
 */
SEG_API int seg_cache_peek(struct seg_cache *cache, uint64_t key,
			   void **ret_value);

/*
 * Takes the value of a key out: in one step it is in the cache no more and the
 * caller's alone.
 * Errors: -EINVAL a NULL; -ENOENT not there (a load of the key that runs is
 * not kept); -EBUSY it is pinned: nothing changed; -EDEADLK in a cache with
 * short_reads, the caller is in a read section.
 * Blocking: a short lock; with short_reads also for a grace period.
 */
SEG_API SEG_NODISCARD int
seg_cache_take(struct seg_cache *cache, uint64_t key, void **ret_value);

/*
 * Removes a key, if its value is the given one or that is NULL.  What is pinned
 * can't be found any more, and leaves at its last unpin.  A load of the key
 * that runs is not kept (value NULL).
 * Errors: -EINVAL cache NULL; -ENOENT not there, or another value.
 * Blocking: a short lock.
 */
SEG_API int seg_cache_remove(struct seg_cache *cache, uint64_t key,
			     const void *value);

/*
 * Removes all that is there at the call; of what is put meanwhile, some.
 * Errors: -EINVAL cache NULL.  Blocking: a short lock for each bucket.
 */
SEG_API int seg_cache_clear(struct seg_cache *cache);

/*
 * Evicts until what is not pinned weighs no more than that; the maximum stays.
 * ret_weight (may be NULL) gets what this call evicted.
 * Errors: -EINVAL cache NULL.  Blocking: short locks.
 */
SEG_API int seg_cache_shrink(struct seg_cache *cache, uint64_t weight,
			     uint64_t *ret_weight);

/*
 * Sets the maximum weight, and evicts down to it.
 * Errors: -EINVAL cache NULL; -ERANGE 0 or above 2^56.  Blocking: short locks.
 */
SEG_API int seg_cache_set_max_weight(struct seg_cache *cache,
				     uint64_t max_weight);

struct seg_cache_entry_info {
	size_t size;		/* sizeof(struct seg_cache_entry_info) */
	uint64_t key;
	void *value;		/* not to be used in fn, unless short_reads */
	uint64_t weight;
	uint64_t pins;
	uint64_t mark;		/* 0 to 3: how often it was hit lately */
};

/* Returns 0 to go on; anything else ends the walk and is its result. */
typedef int seg_cache_each_fn(void *ctx,
			      const struct seg_cache_entry_info *info);

/*
 * Calls fn for each entry.  What comes or goes meanwhile may be missed; while
 * entries come, a few others may be missed or met twice, too.  fn runs inside a
 * read section: it must not block, change the cache or fork.
 * Errors: -EINVAL a NULL; else what fn returned.  Lock-free.
 */
SEG_API int seg_cache_each(struct seg_cache *cache, seg_cache_each_fn *fn,
			   void *ctx);

/* A pin with a tag. */
struct seg_pin_info {
	uint64_t tag;		/* 0: none */
	uint64_t key;
	uint64_t weight;
	uint64_t held_ns;	/* since it was tagged */
};

/* All pins with one tag.  A value counts for each pin on it. */
struct seg_tag_sum {
	uint64_t tag;		/* 0: none */
	uint64_t pins;
	uint64_t weight;
	uint64_t longest_ns;
};

#define SEG_PINS_MOST 8

struct seg_pin_report {
	size_t size;		/* sizeof(struct seg_pin_report) */
	uint64_t pinned_weight;	/* of all that is pinned, tagged or not */
	uint64_t tagged;	/* pins with a tag; the first ones of them: */
	struct seg_pin_info longest[SEG_PINS_MOST];
	struct seg_pin_info biggest[SEG_PINS_MOST];
	struct seg_tag_sum tags[SEG_PINS_MOST];
};

/*
 * Who pins: the pins with tags that are held longest, the biggest ones, and
 * the tags whose pins weigh most.  If more than 64 tags are in use, then no tag
 * is said to have more than it has, and one with more than 1/64 of the weight
 * of all may lack no more than that.
 * ret_report->size is set by the caller.
 * Errors: -EINVAL a NULL or a size that is not valid.  Lock-free; time grows
 * with the most pins that ever had tags at a time.
 */
SEG_API int seg_cache_pins(struct seg_cache *cache,
			   struct seg_pin_report *ret_report);

/*
 * Fills ret_stats, whose size the caller has set.
 * Errors: -EINVAL a NULL or a size that is not valid.  Lock-free.
 */
SEG_API int seg_cache_stats(struct seg_cache *cache,
			    struct seg_cache_stats *ret_stats);

/*
 * Walks everything and checks the equations.  Only meaningful while no other
 * thread is in a call on the cache.  Blocking: the lock, for the whole walk.
 */
SEG_API bool seg_cache_is_valid(struct seg_cache *cache);

#ifdef __cplusplus
#ifdef __GNUC__
#pragma GCC diagnostic pop
#endif
}
#endif

#include <seg_limit.h>

#endif
