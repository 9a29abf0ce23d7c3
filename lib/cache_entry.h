/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * An entry of a cache and its one atomic word:
 *
 *   | 63..32 version | 31..8 pins | shut | open | moving | returning |
 *   | parked | loading | state 2 |
 *
 * State: dead, live (in the index), hidden (out of the index, but pinned).
 * Each row is one compare-exchange, so "not pinned" and "gone" can't come
 * apart, whoever tries what at the same time:
 *
 * | from               | to          | by               | operation         |
 * | dead               | live        | put, load; lock  | entry_begin()     |
 * | live p             | live p+1    | anybody          | entry_pin()       |
 * | hidden p>0         | hidden p+1  | drain; lock      | entry_hold()      |
 * | live, hidden p>1   | p-1         | who holds a pin  | entry_unpin()     |
 * | live 1             | live 0      | the last         | entry_unpin()     |
 * | live 1, parked     | live 0, ret.| the last         | entry_unpin()     |
 * | hidden 1           | dead, ret.  | the last         | entry_unpin()     |
 * | live 0, not open   | dead        | evict ...; lock  | entry_kill()      |
 * | live p>0, not open | hidden p    | remove ...; lock | entry_hide()      |
 * | live p>0           | parked      | evict; lock      | entry_park()      |
 * | live p>0, not shut | open        | who pins it      | entry_open()      |
 * | open               | shut, not o.| lock             | entry_close()     |
 * | live               | shut, not o.| lock             | entry_shut()      |
 * | shut               | not         | lock             | entry_unshut()    |
 * | live p             | live p+1    | lock             | entry_move_in()   |
 * | returning          | not         | drain; lock      | entry_returned()  |
 * | loading            | not         | the loader       | entry_loaded()    |
 * | live 1             | live 1, mov.| who moves it     | entry_move_begin()|
 * | live 1, moving     | live 2      | anybody          | entry_join()      |
 * | live 1, moving     | live 2, mov.| who moves it     | .._move_commit()  |
 * | live p>1, moving   | p+1         | anybody          | entry_join()      |
 * | p>1, moving        | p-1, not    | who moves it     | entry_move_end()  |
 *
 * Guarantees: (E1) of all that want to end an entry, one wins: the step to
 * dead.  It alone disposes of the value.  (E2) No pin begins on what is dead or
 * hidden, but for one of the lock holder's, beside others.  (E3) What was read
 * under a pin was read before the step to dead that follows its unpin (release
 * -> acquire on the word).
 * (E4) Who finds `returning` set does not recycle the entry: it is on the
 * returned list, or about to be, and whoever drains that list (under the lock)
 * recycles it, once.
 * (E6) Who moves what the value is made of has the only pin from
 * entry_move_begin() to entry_move_commit(), or the latter fails: who pins
 * meanwhile takes the bit away.  From then on the bit stays until the end of
 * the move, and tells who pins, which is beside two pins of the mover's.
 *
 * (E7) An open entry may have more pins than its word says (pin_slots.h), so
 * none of these steps ends it: who would end it shuts it first, so that nobody
 * opens it meanwhile, and moves those pins into the word (cache_close.h).
 *
 * A dead entry is used again at once, by the next put, as another key's, with
 * the next version.  So who looks at an entry without a pin reads the word,
 * then key and value, and believes them if the word still says the same version
 * and live: who uses an entry again changed the word first (entry_kill()), and
 * writes the rest by release stores.  (E5) A pin is an exchange of that word,
 * version and all, so it pins what was read before.
 * The version wraps after 2^32 uses of one entry: a look-up would have to stop
 * for as long, and to go on at the very one.
 *
 * What hits do not look at stands in a record of its own, so that entries lie
 * close together: two in a line, as the more of them stay near, the faster is a
 * hit.  An entry knows its record by where it lies, and the other way round
 * (struct cache_group).
 *
 * All lock-free; a retry is caused by another thread's step.
 */
#ifndef SEG_CACHE_ENTRY_H
#define SEG_CACHE_ENTRY_H

#include <stddef.h>

#include "atomic.h"
#include "counter.h"

enum cache_state { ENTRY_DEAD = 0, ENTRY_LIVE = 1, ENTRY_HIDDEN = 2 };

#define ENTRY_STATE UINT64_C(3)
#define ENTRY_LOADING UINT64_C(4)
#define ENTRY_PARKED UINT64_C(8)	/* the policy let go of it */
#define ENTRY_RETURNING UINT64_C(16)	/* see E4 */
#define ENTRY_MOVING UINT64_C(32)	/* see E6 */
#define ENTRY_OPEN UINT64_C(64)		/* see E7 */
#define ENTRY_SHUT UINT64_C(128)	/* not to be opened */
#define ENTRY_PIN UINT64_C(256)
#define ENTRY_PINS UINT64_C(0xffffff00)
/* From so many pins on there are no new ones, but for those that move in. */
#define ENTRY_FULL UINT64_C(0x80000000)
#define ENTRY_VERSION_SHIFT 32
#define ENTRY_VERSIONS (~UINT64_C(0) << ENTRY_VERSION_SHIFT)

struct cache_record;

/* All that a hit looks at. */
struct cache_entry {
	struct atomic_u64 key;
	struct atomic_u64 word;		/* written by pins */
	struct atomic_ptr value;	/* NULL: not loaded yet, or failed */
	struct atomic_u32 next;		/* see cache_index.h */
	struct atomic_u16 mark;		/* written by hits */
	struct atomic_u16 packed_weight;	/* see entry_weight() */
};

/* Under the cache's lock, but for what says otherwise. */
struct cache_record {
	/* in a queue, or on the hidden list */
	_Alignas(CACHE_LINE) struct cache_record *newer;
	struct cache_record *older;
	struct cache_record *ahead;	/* a hint: some steps newer once */
	struct cache_record *next;	/* returned, retired or free */
	struct atomic_u64 weight;	/* 0 until loaded */
	/* of a load, read under a pin: the thread; why it failed */
	uint64_t loader;
	int error;
	struct atomic_u32 loading;	/* 1: who waits for the load, sleeps */
	uint32_t stamp;
	struct atomic_u16 cause;	/* of a value to be released; 0: none */
	uint8_t queue;
	uint8_t listed;		/* 1: on the hidden list */
};

#ifndef CACHE_GROUP_BYTES
#define CACHE_GROUP_BYTES (2 << 20)	/* a huge page */
#endif
enum {
	CACHE_GROUP_ENTRIES = (CACHE_GROUP_BYTES - CACHE_LINE) /
			      (sizeof(struct cache_entry) +
			       sizeof(struct cache_record)) / 2 * 2,
	CACHE_GROUP_BITS = 15,	/* of a number, that say which in the group */
};

/* Entries and their records; it begins at a multiple of its bytes. */
struct cache_group {
	struct cache_entry entry[CACHE_GROUP_ENTRIES];
	struct cache_record record[CACHE_GROUP_ENTRIES];
	uint32_t first;		/* the number of its first entry */
};

_Static_assert(sizeof(struct cache_group) <= CACHE_GROUP_BYTES &&
	       CACHE_GROUP_ENTRIES <= 1 << CACHE_GROUP_BITS, "it fits");

static inline struct cache_group *cache_group_of(const void *inside)
{
	return (struct cache_group *)((uintptr_t)inside &
				      -(uintptr_t)CACHE_GROUP_BYTES);
}

static inline struct cache_record *entry_record(const struct cache_entry *e)
{
	struct cache_group *g = cache_group_of(e);

	return &g->record[e - g->entry];
}

static inline struct cache_entry *record_entry(const struct cache_record *r)
{
	struct cache_group *g = cache_group_of(r);

	return &g->entry[r - g->record];
}

/* See cache_index.h; under the lock. */
static inline uint32_t entry_number(const struct cache_entry *e)
{
	const struct cache_group *g = cache_group_of(e);

	return g->first + (uint32_t)(e - g->entry);
}

static inline enum cache_state entry_state(uint64_t word)
{
	return (enum cache_state)(word & ENTRY_STATE);
}

static inline uint64_t entry_pins(uint64_t word)
{
	return (word & ENTRY_PINS) / ENTRY_PIN;
}

static inline uint64_t entry_version(uint64_t word)
{
	return word >> ENTRY_VERSION_SHIFT;
}

/* By the lock holder, or under a pin. */
static inline uint64_t entry_key(const struct cache_entry *e)
{
	return u64_load_relaxed(&e->key); /* relaxed: it does not change */
}

/* Also by who unpins wrongly, who gets some cause. */
static inline uint16_t record_cause(const struct cache_record *r)
{
	return u16_load_relaxed(&r->cause); /* relaxed: as the key */
}

static inline void record_set_cause(struct cache_record *r, uint16_t cause)
{
	u16_store_relaxed(&r->cause, cause); /* relaxed: see entry_hide() */
}

static inline uint64_t record_weight(const struct cache_record *r)
{
	/* acquire <- entry_weigh(): the word has changed, for who visits an
	 * entry without a pin (E5) */
	return u64_load_acquire(&r->weight);
}

/* A weight of few digits, as those of pages are, stands in the entry as well:
 * digits << WEIGHT_SHIFT_BITS | shift.  0: only in the record. */
enum { WEIGHT_SHIFT_BITS = 5, WEIGHT_DIGITS = 1 << (16 - WEIGHT_SHIFT_BITS) };

static inline uint16_t weight_pack(uint64_t weight)
{
	unsigned shift = weight ? (unsigned)__builtin_ctzll(weight) : 0;

	if (shift >= 1 << WEIGHT_SHIFT_BITS || weight >> shift >= WEIGHT_DIGITS)
		return 0;
	return (uint16_t)(weight >> shift << WEIGHT_SHIFT_BITS | shift);
}

static inline uint64_t weight_unpack(uint16_t packed)
{
	return (uint64_t)(packed >> WEIGHT_SHIFT_BITS)
	       << (packed & ((1 << WEIGHT_SHIFT_BITS) - 1));
}

static inline uint64_t entry_weight(const struct cache_entry *e)
{
	/* acquire <- entry_weigh(): as record_weight() */
	uint16_t packed = u16_load_acquire(&e->packed_weight);

	return packed ? weight_unpack(packed) : record_weight(entry_record(e));
}

static inline void entry_weigh(struct cache_entry *e, uint64_t weight)
{
	/* release, both -> entry_weight() */
	u64_store_release(&entry_record(e)->weight, weight);
	u16_store_release(&e->packed_weight, weight_pack(weight));
}

static inline uint64_t entry_look(const struct cache_entry *e)
{
	/* acquire <- entry_begin(), entry_loaded(), entry_unpin(),
	 * entry_hide(): who finds it ended finds what replaced it */
	return u64_load_acquire(&e->word);
}

/* What a dead entry will be, before it begins. */
static inline void entry_fill(struct cache_entry *e, uint64_t key,
			      void *value, uint64_t weight)
{
	/* release, both -> cache_index_find(), seg_cache_peek(), visit(): who
	 * reads one of these sees that the word has changed (E5) */
	u64_store_release(&e->key, key);
	ptr_store_release(&e->value, value);
	entry_weigh(e, weight);
	/* relaxed, both: a hint; released by entry_begin() */
	u16_store_relaxed(&e->mark, 0);
	u32_store_relaxed(&entry_record(e)->loading, 0);
}

/* A filled entry becomes live with so many pins, maybe ENTRY_LOADING; not yet
 * in the index. */
static inline void entry_begin(struct cache_entry *e, uint64_t flags,
			       uint64_t pins)
{
	/* relaxed: a dead entry is the lock holder's */
	uint64_t version = entry_version(u64_load_relaxed(&e->word)) + 1;

	/* release -> cache_index_find(): key and value belong to it */
	u64_store_release(&e->word, version << ENTRY_VERSION_SHIFT |
					    pins * ENTRY_PIN | flags |
					    ENTRY_LIVE);
}

/* Whether the words tell of one life of the entry, which has not ended. */
static inline bool entry_lives_on(uint64_t before, uint64_t now)
{
	return (now & (ENTRY_VERSIONS | ENTRY_STATE)) ==
	       ((before & ENTRY_VERSIONS) | ENTRY_LIVE);
}

/* The same, and it is not being moved. */
static inline bool entry_rests(uint64_t before, uint64_t now)
{
	return (now & (ENTRY_VERSIONS | ENTRY_STATE | ENTRY_MOVING)) ==
	       ((before & ENTRY_VERSIONS) | ENTRY_LIVE);
}

/* Pins what was read with that word, which then is the one with the pin.
 * False: it is dead, hidden, moving or another entry by now, or full. */
static inline bool entry_pin(struct cache_entry *e, uint64_t *word)
{
	uint64_t old = *word;

	do {
		if (!entry_rests(*word, old) || (old & ENTRY_FULL))
			return false;
		/* acquire <- entry_loaded(), entry_begin(), entry_move_end();
		 * retries when the word changed */
	} while (!u64_cas_weak_acquire(&e->word, &old, old + ENTRY_PIN));
	*word = old + ENTRY_PIN;
	return true;
}

/* The same of an entry that nobody pins, nor loads, nor parked: so it mostly
 * is, and the word tells by one comparison.  False: not so, or a spurious
 * failure; nothing happened. */
static inline bool entry_pin_alone(struct cache_entry *e, uint64_t word)
{
	/* acquire <- as entry_pin() */
	return (uint32_t)word == ENTRY_LIVE &&
	       u64_cas_weak_acquire(&e->word, &word, word + ENTRY_PIN);
}

/* ---- open entries (E7) ---- */

/* By who pinned it, with that word; where no move is possible.  False: it was
 * not to be (yet), or a spurious failure. */
static inline bool entry_open(struct cache_entry *e, uint64_t word)
{
	/* relaxed: what entry_begin() released goes on being released */
	return !(word & (ENTRY_LOADING | ENTRY_OPEN | ENTRY_SHUT)) &&
	       u64_cas_weak_relaxed(&e->word, &word, word | ENTRY_OPEN);
}

/* Whether the words tell of one life of an entry that is open, all the time or
 * again. */
static inline bool entry_stays_open(uint64_t before, uint64_t now)
{
	return ((now ^ before) & (ENTRY_VERSIONS | ENTRY_OPEN)) == 0;
}

/* Under the lock, all three.  If it is open it is shut: it does not open before
 * it is unshut or ends.  False: it was not open. */
bool entry_close(struct cache_entry *e);
/* The same, and it is shut in any case. */
bool entry_shut(struct cache_entry *e);
void entry_unshut(struct cache_entry *e);

/* Under the lock, to a live entry: a pin that stands elsewhere, too.  Returns
 * the word with it. */
static inline uint64_t entry_move_in(struct cache_entry *e)
{
	/* relaxed: who ends it sees it under the lock; who unpins it, by the
	 * slot that it stood in */
	return u64_add_relaxed(&e->word, ENTRY_PIN) + ENTRY_PIN;
}

/* What came of an unpin.  The entry may be another's at once, but for who is to
 * put it on the returned list. */
enum entry_unpinned {
	UNPIN_STALE,	/* nobody pins it, or it is another version */
	UNPIN_STAYS,	/* others pin it still */
	UNPIN_LAST,	/* nobody pins it now */
	UNPIN_RETURNS,	/* so, and to be put on the returned list */
	UNPIN_DIED,	/* it was hidden; on the returned list already */
	UNPIN_DIED_RETURNS	/* it was hidden; to be put there */
};

/* What left. */
struct departed {
	uint64_t key;
	void *value;
	uint64_t weight;
	uint32_t cause;		/* enum seg_cause; 0: it stays */
};

/* Of an entry that ended, until it is used again. */
struct departed entry_departs(const struct cache_entry *e, uint32_t cause);

enum entry_unpinned entry_unpin(struct cache_entry *e, uint64_t version,
				struct departed *ret_departed);

/* The same where nothing more can come of it than UNPIN_STAYS and UNPIN_LAST;
 * false: not so, nothing happened.  What the word is need not be read first:
 * mostly this is the only pin, and if it is not, the exchange tells.  So the
 * line comes once where others pin it, too, and not first to be read. */
static inline bool entry_unpin_plain(struct cache_entry *e, uint64_t version,
				     bool *ret_last)
{
	const uint64_t mask = ~(ENTRY_PINS | ENTRY_LOADING | ENTRY_RETURNING |
				ENTRY_OPEN | ENTRY_SHUT);
	uint64_t plain = version << ENTRY_VERSION_SHIFT | ENTRY_LIVE;
	uint64_t old = plain | ENTRY_PIN;

	/* release -> entry_kill() (E3); retries as entry_pin() */
	while (!u64_cas_weak_release(&e->word, &old, old - ENTRY_PIN))
		if ((old & mask) != plain || !(old & ENTRY_PINS))
			return false;
	*ret_last = (old & ENTRY_PINS) == ENTRY_PIN;
	return true;
}

/* One more pin for a hidden entry, which is loaded; under the lock.  The word
 * with it; false: it is not so. */
bool entry_hold(struct cache_entry *e, uint64_t *ret_word);

/* The word before, or 0 (which no word of a live entry is): it is pinned, or
 * may be, since it is open. */
static inline uint64_t entry_kill(struct cache_entry *e)
{
	uint64_t old = u64_load_relaxed(&e->word); /* relaxed: compared */

	do {
		if (entry_state(old) != ENTRY_LIVE ||
		    (old & (ENTRY_PINS | ENTRY_OPEN)))
			return 0;
		/* acquire <- entry_unpin() (E3); retries as entry_pin() */
	} while (!u64_cas_weak_acquire(&e->word, &old, old & ~ENTRY_STATE));
	return old;
}

/* Kills it, or hides it if it is pinned.  False: it is open. */
bool entry_hide(struct cache_entry *e, uint64_t *ret_before);

/* False: it is not pinned (any more). */
bool entry_park(struct cache_entry *e);

/* Off the returned list; the word that is left. */
uint64_t entry_returned(struct cache_entry *e);

/* The value is there, or the load has failed; the word that is left. */
uint64_t entry_loaded(struct cache_entry *e);

/* ---- moves (E6): cache_migrate.c ---- */

/* As entry_pin(), also of one that is being moved.  If the word says MOVING
 * then, the value is to be moved, by all who see it. */
bool entry_join(struct cache_entry *e, uint64_t *word);

/* By who pins it.  False: others do, too, or it is not live any more. */
bool entry_move_begin(struct cache_entry *e, uint64_t version);

/* False: somebody pinned or removed it since; the move has ended. */
bool entry_move_commit(struct cache_entry *e, uint64_t version);

/* After a commit: the value has moved. */
void entry_move_end(struct cache_entry *e);

#endif
