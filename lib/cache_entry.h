/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * An entry of a cache and its one atomic word:
 *
 *   | 63..32 version | 31..6 pins | returning | parked | loading | state 2 |
 *
 * State: dead, live (in the index), hidden (out of the index, but pinned).
 * Each row is one compare-exchange, so "not pinned" and "gone" can't come
 * apart, whoever tries what at the same time:
 *
 * | from               | to          | by               | operation         |
 * | dead               | live        | put, load; lock  | entry_begin()     |
 * | live p             | live p+1    | anybody          | entry_pin()       |
 * | live, hidden p>1   | p-1         | who holds a pin  | entry_unpin()     |
 * | live 1             | live 0      | the last         | entry_unpin()     |
 * | live 1, parked     | live 0, ret.| the last         | entry_unpin()     |
 * | hidden 1           | dead, ret.  | the last         | entry_unpin()     |
 * | live 0             | dead        | evict ...; lock  | entry_kill()      |
 * | live p>0           | hidden p    | remove ...; lock | entry_hide()      |
 * | live p>0           | parked      | evict; lock      | entry_park()      |
 * | returning          | not         | drain; lock      | entry_returned()  |
 * | loading            | not         | the loader       | entry_loaded()    |
 *
 * Guarantees: (E1) of all that want to end an entry, one wins: the step to
 * dead.  It alone disposes of the value.  (E2) No pin begins on what is dead or
 * hidden.  (E3) What was read under a pin was read before the step to dead
 * that follows its unpin (release -> acquire on the word).
 * (E4) Who finds `returning` set does not recycle the entry: it is on the
 * returned list, or about to be, and whoever drains that list (under the lock)
 * recycles it, once.
 *
 * A dead entry stays as it is until a grace period has passed: who found it in
 * the index may still look at it.  Only then is it used again, with the next
 * version, so that a stale pin is known.  The version wraps after 2^32 uses of
 * one entry; it serves only to tell misuse.
 *
 * All lock-free; a retry is caused by another thread's step.
 */
#ifndef SEG_CACHE_ENTRY_H
#define SEG_CACHE_ENTRY_H

#include "atomic.h"
#include "counter.h"

enum cache_state { ENTRY_DEAD = 0, ENTRY_LIVE = 1, ENTRY_HIDDEN = 2 };

#define ENTRY_STATE UINT64_C(3)
#define ENTRY_LOADING UINT64_C(4)
#define ENTRY_PARKED UINT64_C(8)	/* the policy let go of it */
#define ENTRY_RETURNING UINT64_C(16)	/* see E4 */
#define ENTRY_PIN UINT64_C(64)
#define ENTRY_PINS UINT64_C(0xffffffc0)
#define ENTRY_VERSION_SHIFT 32

struct cache_entry {
	/* read by look-ups; links and key change only when nobody can look */
	_Alignas(CACHE_LINE) struct atomic_ptr link[2];	/* see cache_index.h */
	uint64_t key;
	struct atomic_u64 word;		/* written by pins */
	struct atomic_ptr value;	/* NULL: not loaded yet, or failed */
	uint64_t weight;		/* 0 until loaded */
	struct atomic_u32 mark;		/* written by hits */
	struct atomic_u32 loading;	/* 1: who waits for the load, sleeps */
	uint32_t cause;			/* of a value to be released; 0: none */
	int error;			/* of a load that failed */
	/* under the cache's lock */
	struct cache_entry *newer, *older;	/* a queue, or the hidden */
	uint32_t stamp;
	uint32_t queue;
	struct cache_entry *next;	/* free, retired, or returned */
	uint64_t loader;		/* the thread; read by who waits */
	uint64_t listed;		/* 1: on the hidden list */
};

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

static inline uint64_t entry_look(const struct cache_entry *e)
{
	/* acquire <- entry_loaded(), entry_unpin() */
	return u64_load_acquire(&e->word);
}

/* A dead entry becomes live with so many pins, maybe ENTRY_LOADING; not yet
 * published. */
void entry_begin(struct cache_entry *e, uint64_t flags, uint64_t pins);

/* False: it is dead or hidden (or has 2^26 pins).  The word with the pin. */
static inline bool entry_pin(struct cache_entry *e, uint64_t *ret_word)
{
	/* acquire <- entry_hide(): who finds it ended finds what replaced it */
	uint64_t old = u64_load_acquire(&e->word);

	do {
		if (entry_state(old) != ENTRY_LIVE ||
		    (old & ENTRY_PINS) == ENTRY_PINS)
			return false;
		/* acquire <- entry_loaded(); retries when the word changed */
	} while (!u64_cas_weak_acquire(&e->word, &old, old + ENTRY_PIN));
	*ret_word = old + ENTRY_PIN;
	return true;
}

enum entry_unpinned {
	UNPIN_STALE,	/* nobody pins it, or it is another version */
	UNPIN_STAYS,	/* others pin it still */
	UNPIN_LAST,	/* nobody pins it now */
	UNPIN_RETURNS,	/* so, and to be put on the returned list */
	UNPIN_DIED,	/* it was hidden; on the returned list already */
	UNPIN_DIED_RETURNS	/* it was hidden; to be put there */
};

/*
 * In a read section, so that a caller who ended the entry can still look at it:
 * others may recycle it.
 */
enum entry_unpinned entry_unpin(struct cache_entry *e, uint64_t version);

/* The same where nothing more can come of it than UNPIN_STAYS and UNPIN_LAST;
 * false: not so, nothing happened.  Needs no read section. */
static inline bool entry_unpin_plain(struct cache_entry *e, uint64_t version,
				     bool *ret_last)
{
	const uint64_t mask = ~(ENTRY_PINS | ENTRY_LOADING | ENTRY_RETURNING);
	uint64_t plain = version << ENTRY_VERSION_SHIFT | ENTRY_LIVE;
	uint64_t old = u64_load_relaxed(&e->word); /* relaxed: compared */

	do {
		if ((old & mask) != plain || !(old & ENTRY_PINS))
			return false;
		/* release -> entry_kill() (E3); retries as entry_pin() */
	} while (!u64_cas_weak_release(&e->word, &old, old - ENTRY_PIN));
	*ret_last = (old & ENTRY_PINS) == ENTRY_PIN;
	return true;
}

/* The word before, or 0 (which no word of a live entry is): it is pinned. */
uint64_t entry_kill(struct cache_entry *e);

/* Kills it, or hides it if it is pinned; the word before. */
uint64_t entry_hide(struct cache_entry *e);

/* False: it is not pinned (any more). */
bool entry_park(struct cache_entry *e);

/* Off the returned list; the word that is left. */
uint64_t entry_returned(struct cache_entry *e);

/* The value is there, or the load has failed; the word that is left. */
uint64_t entry_loaded(struct cache_entry *e);

#endif
