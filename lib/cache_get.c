/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * Hits, pins and unpins: no lock, and nothing written that all threads share.
 *
 * A look-up that finds an entry which ended meanwhile looks again: whoever
 * replaced it had put the new entry in its place before it ended the old one.
 * If it finds the same one again, then that is about to be unlinked, and it is
 * a miss.  So a stopped thread holds up nobody.  A hit that pins needs no read
 * section: entries stay entries, and the pin is one of what was read (E5).
 *
 * What is pinned often is opened: from then on pins stand in slots of the
 * threads that pin (pin_slots.h), and nobody writes to the entry.
 *
 * What mostly is so takes few comparisons: a thread with a slot of its own, an
 * entry whose word does not change meanwhile.  All else goes to a slower
 * function, which knows exactly.
 */
#include <errno.h>
#include <stddef.h>

#include "cache_leave.h"
#include "pin_slots.h"
#include "rcu.h"

#ifndef OPEN_PINS
#define OPEN_PINS 63	/* of hot entries, from one that opens to the next */
#endif

/* What is kept out of the way of hits. */
#define APART __attribute__((noinline))

/* With the last it weighs again; what is to be done then, enum cache_over. */
static inline uint32_t weigh_unpin(struct seg_cache *c,
				   struct cache_slot *slot, uint64_t weight)
{
	/* seq_cst: before the load of over; with cache_pinned(), see C2 */
	u64_sub_seq_cst(&slot->pinned, weight);
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

/* By who has pinned it, with that word: if that is due (cache_close.h).  One of
 * many: so it is mostly one that is pinned much more often than others. */
static inline void open_if_hot(struct seg_cache *c, struct cache_entry *e,
			       uint64_t word, uint32_t place)
{
	struct atomic_u32 *mine = &cache_slot_at(c, place)->opens;
	uint32_t opens, left;

	/* relaxed, both: hints */
	if (u16_load_relaxed(&e->mark) < CACHE_MARK_MOST)
		return;
	opens = u32_load_relaxed(&c->opens);
	if (!opens)
		return;
	left = u32_load_relaxed(mine); /* relaxed: its own */
	if ((left ^ opens) > CACHE_OPENS_LEFT)
		left = opens;
	if (left & CACHE_OPENS_LEFT)
		left--;
	else if (entry_open(e, word))
		left += OPEN_PINS;
	u32_store_relaxed(mine, left); /* relaxed: as above */
}

/* Pins what was read with that word; false: nothing happened. */
static bool pin_in_word(struct seg_cache *c, struct cache_entry *e,
			uint64_t word, uint32_t place, struct seg_pin *ret_pin)
{
	uint64_t weight;

	if (__builtin_expect(entry_pin_alone(e, word), 1)) {
		word += ENTRY_PIN;
		weight = entry_weight(e);
	} else {
		if ((word & ENTRY_LOADING) || !entry_pin(e, &word))
			return false;
		weight = weight_off(e, word);
	}
	cache_count_pin(c, place, weight);
	cache_mark(c, e);
	open_if_hot(c, e, word, place);
	cache_fill_pin(c, e, word, ret_pin);
	return true;
}

/* Its word says that it is open, but maybe not any more. */
static inline __attribute__((always_inline)) bool
pin_in(uint32_t slot, struct seg_cache *c, struct cache_entry *e, uint64_t word,
       uint32_t place, struct seg_pin *ret_pin)
{
	pin_slot_fill(slot, e, entry_version(word));
	if (__builtin_expect(!entry_stays_open(word, entry_look(e)), 0))
		return false;
	counter_bump_own(&cache_slot_at(c, place)->hits, 1);
	cache_mark(c, e);
	cache_fill_pin_in(slot, c, e, word, ret_pin);
	return true;
}

/* What was filled, but does not pin, since the entry was closed.  If it was
 * moved by who closed it, in that life, it is a pin. */
static void withdraw(struct seg_cache *c, struct cache_entry *e,
		     uint64_t version, uint32_t slot)
{
	struct pin_slot *s = pin_slot(slot);

	if (!pin_slot_leave(s, e, version) &&
	    pin_slot_settle(s) == PIN_STANDS_IN_WORD)
		cache_unpin(c, e, version);
}

/* It is not open, or the next slot is in use.  False: nothing happened. */
static bool pin_otherwise(struct seg_cache *c, struct cache_entry *e,
			  uint64_t word, uint32_t place,
			  struct seg_pin *ret_pin)
{
	uint32_t slot = word & ENTRY_OPEN ? pin_slot_other(place) : 0;

	if (slot && pin_in(slot, c, e, word, place, ret_pin))
		return true;
	if (slot)
		withdraw(c, e, entry_version(word), slot);
	return pin_in_word(c, e, word, place, ret_pin);
}

static bool withdraw_and_pin(struct seg_cache *c, struct cache_entry *e,
			     uint64_t word, uint32_t place,
			     struct seg_pin *ret_pin)
{
	withdraw(c, e, entry_version(word), pin_slot_next(place));
	return pin_in_word(c, e, word, place, ret_pin);
}

static inline bool can_pin_in(uint32_t slot, uint64_t word)
{
	return (word & ENTRY_OPEN) && pin_slot_is_free(slot);
}

/* Pins what was read with that word; false: nothing happened. */
static APART bool pin_at_once(struct seg_cache *c, struct cache_entry *e,
			      uint64_t word, uint32_t place,
			      struct seg_pin *ret_pin)
{
	uint32_t slot = pin_slot_next(place);

	if (!can_pin_in(slot, word))
		return pin_otherwise(c, e, word, place, ret_pin);
	return pin_in(slot, c, e, word, place, ret_pin) ||
	       withdraw_and_pin(c, e, word, place, ret_pin);
}

bool cache_hit(struct seg_cache *c, uint64_t key, struct seg_pin *ret_pin)
{
	uint32_t place = counter_place();
	struct cache_entry *e;
	uint64_t word;

	if (!place)
		return false;
	e = cache_index_find_first(&c->index, key, &word);
	return e && pin_at_once(c, e, word, place, ret_pin);
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

static APART int get_otherwise(struct seg_cache *c, uint64_t key,
			       struct cache_entry *e, uint64_t word,
			       uint32_t place, struct seg_pin *ret_pin)
{
	return pin_otherwise(c, e, word, place, ret_pin) ?
		0 : get_slowly(c, key, ret_pin);
}

static APART int withdraw_and_get(struct seg_cache *c, uint64_t key,
				  struct cache_entry *e, uint64_t word,
				  uint32_t place, struct seg_pin *ret_pin)
{
	return withdraw_and_pin(c, e, word, place, ret_pin) ?
		0 : get_slowly(c, key, ret_pin);
}

/* As cache_hit(); a call that is not a leaf's last step would cost each hit the
 * saving of registers. */
int seg_cache_get(struct seg_cache *c, uint64_t key, struct seg_pin *ret_pin)
{
	uint32_t place = counter_place(), slot;
	struct cache_entry *e;
	uint64_t word;

	if (!c || !ret_pin || !place)
		return get_slowly(c, key, ret_pin);
	e = cache_index_find_first(&c->index, key, &word);
	if (!e)
		return get_slowly(c, key, ret_pin);
	slot = pin_slot_next(place);
	if (!can_pin_in(slot, word))
		return get_otherwise(c, key, e, word, place, ret_pin);
	return pin_in(slot, c, e, word, place, ret_pin) ?
		0 : withdraw_and_get(c, key, e, word, place, ret_pin);
}

static APART int pin_again_slowly(struct seg_cache *c, struct cache_entry *e,
				  uint64_t word, struct seg_pin *ret_pin)
{
	if (!entry_pin(e, &word) && !cache_join(e, &word))
		return -ENOENT;
	cache_weigh_pin(c, weight_off(e, word));
	cache_count_get(c, true);
	cache_mark(c, e);
	cache_fill_pin(c, e, word, ret_pin);
	return 0;
}

/* What the pin was of lives still: that is what its version says (E5). */
int seg_pin_again(const struct seg_pin *last, struct seg_pin *ret_pin)
{
	uint32_t place = counter_place();
	struct cache_entry *e;
	uint64_t word;

	if (!last || !ret_pin || !last->cache || !last->entry)
		return -EINVAL;
	e = last->entry;
	word = entry_look(e);
	if (!entry_lives_on(cache_pin_version(last) << ENTRY_VERSION_SHIFT,
			    word))
		return -ENOENT;
	if (place && pin_at_once(last->cache, e, word, place, ret_pin))
		return 0;
	return pin_again_slowly(last->cache, e, word, ret_pin);
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

/* In a section, by a thread that counts at that place, where it is allowed. */
static inline int peek_at_once(struct seg_cache *c, uint64_t key,
			       void **ret_value, uint32_t place, bool evicts)
{
	struct cache_entry *e;
	uint64_t word;
	void *value;

	e = cache_index_find_first(&c->index, key, &word);
	if (!e)
		return peek_slowly(c, key, ret_value);
	value = cache_index_value_first(e, word);
	if (!value)
		return peek_slowly(c, key, ret_value);
	cache_mark_in(evicts, e);
	*ret_value = value;
	counter_bump_own(&cache_slot_at(c, place)->hits, 1);
	return 0;
}

/* The value was in the cache in this read section: it is there until that
 * ends. */
int seg_cache_peek(struct seg_cache *c, uint64_t key, void **ret_value)
{
	uint32_t place = rcu_place();

	if (!c || !ret_value)
		return -EINVAL;
	/* relaxed: a hint, and what was said at creation */
	if (__builtin_expect(u32_load_relaxed(&c->peeks) & place, 1))
		return peek_at_once(c, key, ret_value, place, false);
	if (place && c->short_reads)
		return peek_at_once(c, key, ret_value, place, true);
	return peek_slowly(c, key, ret_value);
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
		u64_add_relaxed(&c->parted, d.weight); /* relaxed: a sum */
	if (what >= UNPIN_LAST &&
	    ((weigh_unpin(c, &c->slot[counter_slot()], d.weight) &
	      OVER_HEAVY) ||
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
	return cache_unpin(c, pin->entry, cache_pin_version(pin)) ?
		0 : misused_pin(c);
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

static inline int unpin_in(struct seg_cache *c, struct cache_slot *slot,
			   struct seg_pin *pin)
{
	struct cache_entry *e = pin->entry;
	uint64_t weight = entry_weight(e);
	uint32_t over;
	bool last;

	if (pin->record ||
	    !entry_unpin_plain(e, cache_pin_version(pin), &last))
		return unpin_slowly(c, pin);
	over = last ? weigh_unpin(c, slot, weight) : 0;
	return over ? follow_unpin(c, e, cache_pin_version(pin), over) : 0;
}

/* What is left to do of an unpin, by what the pin's slot has said. */
static int unpin_by(enum pin_slot_had had, struct seg_cache *c,
		    struct seg_pin *pin)
{
	if (had == PIN_STANDS_IN_WORD)
		return unpin_in(c, &c->slot[counter_slot()], pin);
	return had == PIN_STOOD_HERE ? 0 : misused_pin(c);
}

/* It stood in another thread's slot. */
static APART int unpin_elsewhere(struct seg_cache *c, struct seg_pin *pin)
{
	return unpin_by(pin_slot_end(pin_slot(cache_pin_slot(pin)), pin->entry,
				     cache_pin_version(pin)), c, pin);
}

/* By a thread that has no place. */
static APART int unpin_in_shared(struct seg_cache *c, struct seg_pin *pin)
{
	return cache_pin_slot(pin) ? unpin_elsewhere(c, pin) :
		unpin_in(c, &c->slot[counter_slot()], pin);
}

/* Its slot was emptied, but its entry is not open any more. */
static APART int unpin_closed(struct seg_cache *c, struct seg_pin *pin)
{
	return unpin_by(pin_slot_settle(pin_slot(cache_pin_slot(pin))), c, pin);
}

static inline int unpin_in_slot(struct seg_cache *c, struct seg_pin *pin,
				uint32_t slot, uint32_t place)
{
	uint64_t version = cache_pin_version(pin);
	struct cache_entry *e = pin->entry;
	struct pin_slot *s = pin_slot(slot);

	if (__builtin_expect(!pin_slot_is_at(slot, place) ||
			     !pin_slot_is_of(s, e, version), 0))
		return unpin_elsewhere(c, pin);
	return __builtin_expect(pin_slot_leave(s, e, version), 1) ? 0 :
	       unpin_closed(c, pin);
}

int seg_unpin(struct seg_pin *pin)
{
	uint32_t place = counter_place();
	struct seg_cache *c;
	uint32_t slot;

	if (!pin)
		return -EINVAL;
	c = pin->cache;
	if (!c)
		return 0;
	pin->cache = NULL;
	if (!place)
		return unpin_in_shared(c, pin);
	slot = cache_pin_slot(pin);
	if (slot)
		return unpin_in_slot(c, pin, slot, place);
	return unpin_in(c, cache_slot_at(c, place), pin);
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

/* A pin of the word beside that in the slot: 1; 0: no such pin stands there, or
 * not any more; or -ENOMEM: the word takes none. */
static int pin_beside(const struct seg_pin *pin, uint32_t slot)
{
	uint64_t version = cache_pin_version(pin);
	uint64_t word = version << ENTRY_VERSION_SHIFT | ENTRY_LIVE;
	struct cache_entry *e = pin->entry;
	uint64_t now;

	while (pin_slot_has(slot, e, version)) {
		if (entry_pin(e, &word)) {
			cache_weigh_pin(pin->cache, weight_off(e, word));
			return 1;
		}
		now = entry_look(e);
		/* It was moved before that, if who removed it had a barrier. */
		if (!entry_lives_on(word, now))
			return pin_slot_has(slot, e, version) ? -ENOMEM : 0;
		if (now & ENTRY_FULL)
			return -ENOMEM;
	}
	return 0;
}

/* Into the word, where a pin ends that has a tag.  False: it takes none. */
static bool leave_slot(struct seg_pin *pin)
{
	uint32_t slot = cache_pin_slot(pin);
	uint64_t version = cache_pin_version(pin);
	enum pin_slot_had had;
	int beside;

	if (!slot)
		return true;
	beside = pin_beside(pin, slot);
	if (beside < 0)
		return false;
	had = pin_slot_end(pin_slot(slot), pin->entry, version);
	if (beside && had != PIN_STOOD_HERE)
		cache_unpin(pin->cache, pin->entry, version);
	pin->version = version;
	return true;
}

int seg_pin_tag(struct seg_pin *pin, uint64_t tag)
{
	struct seg_pin_info info = { .tag = tag };
	struct cache_entry *e;
	uint64_t record;

	if (!pin || !pin->cache || !tag)
		return -EINVAL;
	if (!leave_slot(pin))
		return -ENOMEM;
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
	rcu_begin();
}

void seg_read_end(void)
{
	rcu_end();
}
