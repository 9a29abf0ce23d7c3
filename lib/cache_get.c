/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * Hits, pins and unpins: no lock, and nothing written that all threads share.
 *
 * A look-up that finds an entry which ended meanwhile looks again: whoever
 * replaced it had put the new entry in its place before it ended the old one.
 * If it finds the same one again, then that is about to be unlinked, and it is
 * a miss.  So a stopped thread holds up nobody.
 */
#include <errno.h>
#include <stddef.h>

#include "cache_leave.h"
#include "rcu.h"

/* A part of hits, and what is kept out of their way. */
#define HOT __attribute__((always_inline))
#define COLD __attribute__((cold, noinline))

/* With the last it weighs again; true: maybe too much, cache_relieve(). */
static inline bool weigh_unpin(struct seg_cache *c, unsigned slot,
			       uint64_t weight)
{
	/* seq_cst: before the load of over; with cache_pinned(), see C2 */
	u64_sub_seq_cst(&c->slot[slot].pinned, weight);
	/* seq_cst: see above; relaxed: a hint */
	return u32_load_seq_cst(&c->over) | u32_load_relaxed(&c->lags);
}

/* In a read section. */
static HOT inline struct cache_entry *
find_and_pin(struct seg_cache *c, uint64_t key, uint64_t *ret_word)
{
	struct cache_entry *ended = NULL;
	struct cache_entry *e;

	while ((e = cache_index_find(&c->index, key)) != NULL && e != ended) {
		if (entry_pin(e, ret_word))
			return e;
		ended = e;
	}
	return NULL;
}

/* What the first pin of an entry takes off the cache's weight. */
static inline uint64_t weight_off(const struct cache_entry *e, uint64_t word)
{
	return (word & ENTRY_PINS) == ENTRY_PIN ? e->weight : 0;
}

struct cache_entry *cache_find_and_pin(struct seg_cache *c, uint64_t key,
				       uint64_t *ret_word)
{
	struct cache_entry *e;

	rcu_enter();
	e = find_and_pin(c, key, ret_word);
	rcu_leave();
	if (e)
		cache_weigh_pin(c, weight_off(e, *ret_word));
	return e;
}

static COLD int miss(struct seg_cache *c)
{
	cache_count_get(c, false);
	return -ENOENT;
}

static COLD int still_loading(struct seg_cache *c, struct cache_entry *e,
			      uint64_t word)
{
	cache_unpin(c, e, entry_version(word));
	return miss(c);
}

/* What a thread does once, so that hits need no calls. */
static inline bool is_prepared(void)
{
	return counter_has_slot() && rcu_is_registered();
}

static void prepare(void)
{
	(void)counter_slot();
	rcu_enter();
	rcu_leave();
}

static COLD int get_unprepared(struct seg_cache *c, uint64_t key,
			       struct seg_pin *ret_pin)
{
	if (!c || !ret_pin)
		return -EINVAL;
	prepare();
	return seg_cache_get(c, key, ret_pin);
}

int seg_cache_get(struct seg_cache *c, uint64_t key, struct seg_pin *ret_pin)
{
	struct cache_entry *e;
	uint64_t word;

	if (!c || !ret_pin || !is_prepared())
		return get_unprepared(c, key, ret_pin);
	rcu_enter_registered();
	e = find_and_pin(c, key, &word);
	rcu_leave();
	if (!e)
		return miss(c);
	/* The loader pins it, too: this is not the first pin. */
	if (word & ENTRY_LOADING)
		return still_loading(c, e, word);
	cache_count_pin(c, weight_off(e, word));
	cache_mark(e);
	cache_fill_pin(c, e, word, ret_pin);
	return 0;
}

static COLD int peek_unprepared(struct seg_cache *c, uint64_t key,
				void **ret_value)
{
	if (!c || !ret_value)
		return -EINVAL;
	if (!c->short_reads || !rcu_inside())
		return -EPERM;
	prepare();
	return seg_cache_peek(c, key, ret_value);
}

int seg_cache_peek(struct seg_cache *c, uint64_t key, void **ret_value)
{
	struct cache_entry *e;
	void *value;

	if (!c || !ret_value || !c->short_reads || !counter_has_slot() ||
	    !rcu_inside())
		return peek_unprepared(c, key, ret_value);
	e = cache_index_find(&c->index, key);
	/* acquire <- publish_value(): what the value points to */
	value = e ? ptr_load_acquire(&e->value) : NULL;
	if (!value)
		return miss(c);
	cache_mark(e);
	*ret_value = value;
	cache_count_hit(c);
	return 0;
}

/*
 * Whatever can come of an unpin.  In a read section, so that the entry can be
 * looked at although others may recycle it.  A value that ends here is handed
 * over here, or (short_reads) by the batch that the returned list goes to.
 */
bool cache_unpin(struct seg_cache *c, struct cache_entry *e, uint64_t version)
{
	enum entry_unpinned what;
	bool releases, later;
	struct departed d;

	rcu_enter();
	what = entry_unpin(e, version);
	d = (struct departed){
		.key = e->key,
		/* relaxed: seen with the word */
		.value = ptr_load_relaxed(&e->value),
		.weight = what >= UNPIN_LAST ? e->weight : 0,
	};
	if (what >= UNPIN_DIED)
		d.cause = (enum seg_cause)e->cause;
	if (what >= UNPIN_DIED && d.value && c->short_reads)
		u64_add_relaxed(&c->deferred, d.weight); /* relaxed: a sum */
	releases = what >= UNPIN_DIED && d.value && !c->short_reads;
	later = releases && what == UNPIN_DIED_RETURNS &&
		cache_release_later(c, e);
	if (!later &&
	    (what == UNPIN_RETURNS || what == UNPIN_DIED_RETURNS))
		cache_push_returned(c, e);
	rcu_leave();
	if (what >= UNPIN_DIED)
		u64_sub_relaxed(&c->resident, d.weight); /* relaxed: a sum */
	if (what >= UNPIN_LAST &&
	    (weigh_unpin(c, counter_slot(), d.weight) ||
	     what > UNPIN_LAST))
		cache_relieve(c);
	if (releases && !later && cache_release_values(c, &d, 1))
		cache_relieve(c);
	return what != UNPIN_STALE;
}

static COLD int misused_pin(struct seg_cache *c)
{
	cache_count(c, COUNT_MISUSES);
	log_event(&c->log, SEG_LOG_ERROR, "%s: unpin of what is not pinned",
		  c->name);
	return -ESTALE;
}

static inline bool unpin(struct seg_cache *c, struct cache_entry *e,
			 uint64_t version)
{
	uint64_t weight = e->weight;
	bool last;

	if (!counter_has_slot() || !entry_unpin_plain(e, version, &last))
		return cache_unpin(c, e, version);
	if (last && weigh_unpin(c, counter_known_slot(), weight))
		cache_relieve(c);
	return true;
}

int seg_unpin(struct seg_pin *pin)
{
	struct seg_cache *c;

	if (!pin)
		return -EINVAL;
	c = pin->cache;
	if (!c)
		return 0;
	pin->cache = NULL;
	if (pin->record && !pin_tags_drop(&c->tags, pin->record))
		return misused_pin(c);
	return unpin(c, pin->entry, pin->version) ? 0 : misused_pin(c);
}

void *seg_pin_value(const struct seg_pin *pin)
{
	struct cache_entry *e;

	if (!pin || !pin->cache)
		return NULL;
	e = pin->entry;
	/* relaxed: the pin acquired it */
	return ptr_load_relaxed(&e->value);
}

int seg_pin_tag(struct seg_pin *pin, uint64_t tag)
{
	struct seg_pin_info info = { .tag = tag };
	struct cache_entry *e;
	uint64_t record;

	if (!pin || !pin->cache || !tag)
		return -EINVAL;
	e = pin->entry;
	if (entry_version(entry_look(e)) != pin->version ||
	    !entry_pins(entry_look(e)))
		return -EINVAL;
	info.key = e->key;
	info.weight = e->weight;
	record = pin_tags_add(&pin->cache->tags, &info);
	if (!record)
		return -ENOMEM;
	if (pin->record)
		pin_tags_drop(&pin->cache->tags, pin->record);
	pin->record = record;
	return 0;
}

void seg_read_begin(void)
{
	rcu_enter();
}

void seg_read_end(void)
{
	if (rcu_inside())
		rcu_leave();
}
