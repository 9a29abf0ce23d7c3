/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * Hits, pins and unpins: no lock, and nothing written that all threads share.
 *
 * A look-up that finds an entry which ended meanwhile looks again: whoever
 * replaced it had put the new entry in its place before it ended the old one.
 * If it finds the same one again, then that is about to be unlinked, and it is
 * a miss.  So a stopped thread holds up nobody.  A hit that pins needs no read
 * section: entries stay entries, and the pin is one of what was read (E5).
 */
#include <errno.h>
#include <stddef.h>

#include "cache_leave.h"
#include "rcu.h"

/* What is kept out of the way of hits. */
#define APART __attribute__((noinline))

/* With the last it weighs again; what is to be done then, enum cache_over. */
static inline uint32_t weigh_unpin(struct seg_cache *c, size_t slot,
				   uint64_t weight)
{
	/* seq_cst: before the load of over; with cache_pinned(), see C2 */
	u64_sub_seq_cst(&c->slot[slot].pinned, weight);
	/* seq_cst: see above */
	return u32_load_seq_cst(&c->over);
}

static struct cache_entry *find_and_pin(struct seg_cache *c, uint64_t key,
					uint64_t *ret_word)
{
	struct index_ended ended = { .entry = NULL };
	struct cache_entry *e;

	do {
		e = cache_index_find(&c->index, key, ret_word);
		if (!e || entry_pin(e, ret_word) || cache_join(e, ret_word))
			return e;
	} while (index_ended_anew(&ended, e, *ret_word));
	return NULL;
}

/* What the first pin of an entry takes off the cache's weight. */
static inline uint64_t weight_off(const struct cache_entry *e, uint64_t word)
{
	return (word & ENTRY_PINS) == ENTRY_PIN ? entry_weight(e) : 0;
}

struct cache_entry *cache_find_and_pin(struct seg_cache *c, uint64_t key,
				       uint64_t *ret_word)
{
	struct cache_entry *e;

	e = find_and_pin(c, key, ret_word);
	if (e)
		cache_weigh_pin(c, weight_off(e, *ret_word));
	return e;
}

static int miss(struct seg_cache *c)
{
	cache_count_get(c, false);
	return -ENOENT;
}

/* Whatever is not a hit at the first look, in a thread that may be new. */
static APART int get_slowly(struct seg_cache *c, uint64_t key,
			   struct seg_pin *ret_pin)
{
	struct cache_entry *e;
	uint64_t word;

	if (!c || !ret_pin)
		return -EINVAL;
	e = cache_find_and_pin(c, key, &word);
	if (!e)
		return miss(c);
	if (word & ENTRY_LOADING) {
		cache_unpin(c, e, entry_version(word));
		return miss(c);
	}
	cache_count_get(c, true);
	cache_mark(c, e);
	cache_fill_pin(c, e, word, ret_pin);
	return 0;
}

int seg_cache_get(struct seg_cache *c, uint64_t key, struct seg_pin *ret_pin)
{
	size_t number = counter_number();
	struct cache_entry *e;
	uint64_t word;

	if (!c || !ret_pin || !number)
		return get_slowly(c, key, ret_pin);
	e = cache_index_find_first(&c->index, key, &word);
	if (!e || (word & ENTRY_LOADING) || !entry_pin(e, &word))
		return get_slowly(c, key, ret_pin);
	cache_count_pin(c, number - 1, weight_off(e, word));
	cache_mark(c, e);
	cache_fill_pin(c, e, word, ret_pin);
	return 0;
}

/* What the pin was of lives still: that is what its version says (E5). */
int seg_pin_again(const struct seg_pin *last, struct seg_pin *ret_pin)
{
	size_t number = counter_number();
	struct cache_entry *e;
	uint64_t word;

	if (!last || !ret_pin || !last->cache || !last->entry)
		return -EINVAL;
	e = last->entry;
	word = last->version << ENTRY_VERSION_SHIFT | ENTRY_LIVE;
	if (!entry_pin(e, &word) && !cache_join(e, &word))
		return -ENOENT;
	if (number) {
		cache_count_pin(last->cache, number - 1, weight_off(e, word));
	} else {
		cache_weigh_pin(last->cache, weight_off(e, word));
		cache_count_get(last->cache, true);
	}
	cache_mark(last->cache, e);
	cache_fill_pin(last->cache, e, word, ret_pin);
	return 0;
}

/* NULL: none, or it is loading. */
static struct cache_entry *find_and_look(struct seg_cache *c, uint64_t key,
					 void **ret_value)
{
	struct index_ended ended = { .entry = NULL };
	struct cache_entry *e;
	uint64_t word;

	do {
		e = cache_index_find(&c->index, key, &word);
		*ret_value = e ? cache_index_value(e, word) : NULL;
		if (!e || *ret_value)
			return e;
	} while (index_ended_anew(&ended, e, word));
	return NULL;
}

static APART int peek_slowly(struct seg_cache *c, uint64_t key,
			     void **ret_value)
{
	struct cache_entry *e;
	void *value;

	if (!c || !ret_value)
		return -EINVAL;
	if (!c->short_reads || !rcu_inside())
		return -EPERM;
	e = find_and_look(c, key, &value);
	if (!e)
		return miss(c);
	cache_count_get(c, true);
	cache_mark(c, e);
	*ret_value = value;
	return 0;
}

/* The value was in the cache in this read section: it is there until that
 * ends. */
int seg_cache_peek(struct seg_cache *c, uint64_t key, void **ret_value)
{
	size_t number = counter_number();
	struct cache_entry *e;
	uint64_t word;
	void *value;

	if (!c || !ret_value || !c->short_reads || !number || !rcu_inside())
		return peek_slowly(c, key, ret_value);
	e = cache_index_find_first(&c->index, key, &word);
	value = e ? cache_index_value(e, word) : NULL;
	if (!value)
		return peek_slowly(c, key, ret_value);
	cache_mark(c, e);
	*ret_value = value;
	counter_bump(&c->slot[number - 1].hits, number - 1, 1);
	return 0;
}

/*
 * Whatever can come of an unpin.  A value that ends here is handed over here,
 * or (short_reads) by the batch that the returned list goes to: in a read
 * section, so that this does not arrive before it is counted.
 */
bool cache_unpin(struct seg_cache *c, struct cache_entry *e, uint64_t version)
{
	struct departed d = { .value = NULL };
	enum entry_unpinned what;
	bool releases, later;

	rcu_enter();
	what = entry_unpin(e, version, &d);
	if (what >= UNPIN_DIED && d.value && c->short_reads)
		u64_add_relaxed(&c->deferred, d.weight); /* relaxed: a sum */
	releases = what >= UNPIN_DIED && d.value && !c->short_reads;
	later = releases && what == UNPIN_DIED_RETURNS &&
		cache_release_later(c, entry_record(e));
	if (!later &&
	    (what == UNPIN_RETURNS || what == UNPIN_DIED_RETURNS))
		cache_push_returned(c, entry_record(e));
	rcu_leave();
	if (what >= UNPIN_DIED)
		u64_sub_relaxed(&c->resident, d.weight); /* relaxed: a sum */
	if (what >= UNPIN_LAST &&
	    ((weigh_unpin(c, counter_slot(), d.weight) & OVER_HEAVY) ||
	     what > UNPIN_LAST))
		cache_relieve(c);
	if (releases && !later && cache_release_values(c, &d, 1))
		cache_relieve(c);
	return what != UNPIN_STALE;
}

static APART int misused_pin(struct seg_cache *c)
{
	cache_count(c, COUNT_MISUSES);
	log_event(&c->log, SEG_LOG_ERROR, "%s: unpin of what is not pinned",
		  c->name);
	return -ESTALE;
}

/* Whatever is not the plain unpin of an entry that stays, or is tagged. */
static APART int unpin_slowly(struct seg_cache *c, const struct seg_pin *pin)
{
	if (pin->record && !pin_tags_drop(&c->tags, pin->record))
		return misused_pin(c);
	return cache_unpin(c, pin->entry, pin->version) ? 0 : misused_pin(c);
}

static APART int follow_unpin(struct seg_cache *c, struct cache_entry *e,
			      uint64_t version, uint32_t over)
{
	if (over & OVER_HEAVY)
		cache_relieve(c);
	if (over & OVER_MIGRATES)
		cache_was_read(c, e, version);
	return 0;
}

int seg_unpin(struct seg_pin *pin)
{
	size_t number = counter_number();
	struct cache_entry *e;
	struct seg_cache *c;
	uint64_t weight;
	uint32_t over;
	bool last;

	if (!pin)
		return -EINVAL;
	c = pin->cache;
	if (!c)
		return 0;
	pin->cache = NULL;
	e = pin->entry;
	weight = entry_weight(e);
	if (pin->record || !number ||
	    !entry_unpin_plain(e, pin->version, &last))
		return unpin_slowly(c, pin);
	over = last ? weigh_unpin(c, number - 1, weight) : 0;
	return over ? follow_unpin(c, e, pin->version, over) : 0;
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
	info.key = entry_key(e);
	info.weight = entry_weight(e);
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
