/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* See cache_entry.h. */
#include "cache_entry.h"

#include <stddef.h>

#ifndef SEG_EXPLORE
_Static_assert(sizeof(struct cache_entry) == CACHE_LINE / 2 &&
	       sizeof(struct cache_record) == CACHE_LINE,
	       "a hit reads one line of the entry, its record has another");
#endif

/* What the word becomes when one pin goes. */
static uint64_t less_a_pin(uint64_t old, enum entry_unpinned *ret_what)
{
	bool on_list = old & ENTRY_RETURNING;
	uint64_t new = old - ENTRY_PIN;

	*ret_what = UNPIN_STAYS;
	if (entry_pins(new))
		return new;
	if (entry_state(old) == ENTRY_HIDDEN) {
		*ret_what = on_list ? UNPIN_DIED : UNPIN_DIED_RETURNS;
		return (new & ~ENTRY_STATE) | ENTRY_RETURNING;
	}
	*ret_what = UNPIN_LAST;
	if (!(old & ENTRY_PARKED))
		return new;
	*ret_what = UNPIN_RETURNS;
	return (new & ~ENTRY_PARKED) | ENTRY_RETURNING;
}

struct departed entry_departs(const struct cache_entry *e, uint32_t cause)
{
	return (struct departed){
		.key = entry_key(e),
		/* relaxed: acquired with the word */
		.value = ptr_load_relaxed(&e->value),
		.weight = entry_weight(e),
		.cause = cause,
	};
}

/* By who holds the last pin, while it does: what nobody changes then. */
static struct departed departing(const struct cache_entry *e, uint64_t word)
{
	bool dies = entry_state(word) == ENTRY_HIDDEN;

	return entry_departs(e, dies ? record_cause(entry_record(e)) : 0);
}

enum entry_unpinned entry_unpin(struct cache_entry *e, uint64_t version,
				struct departed *ret_departed)
{
	uint64_t old = entry_look(e);
	enum entry_unpinned what;
	uint64_t new;

	do {
		if (entry_version(old) != version || !entry_pins(old))
			return UNPIN_STALE;
		new = less_a_pin(old, &what);
		if (what >= UNPIN_LAST)
			*ret_departed = departing(e, old);
		/* acq_rel: release -> entry_kill(), or the last unpin (E3);
		 * acquire <- the unpins before; retries as entry_pin() */
	} while (!u64_cas_weak_acq_rel(&e->word, &old, new));
	return what;
}

bool entry_hold(struct cache_entry *e, uint64_t *ret_word)
{
	uint64_t old = u64_load_relaxed(&e->word); /* relaxed: compared */

	do {
		if (entry_state(old) != ENTRY_HIDDEN ||
		    (old & (ENTRY_LOADING | ENTRY_FULL)))
			return false;
		/* acquire <- entry_loaded(), entry_unpin(); retries as
		 * entry_pin() */
	} while (!u64_cas_weak_acquire(&e->word, &old, old + ENTRY_PIN));
	*ret_word = old + ENTRY_PIN;
	return true;
}

static uint64_t hidden(uint64_t old)
{
	uint64_t new = old & ~(ENTRY_STATE | ENTRY_PARKED | ENTRY_SHUT);

	return entry_pins(old) ? new | ENTRY_HIDDEN : new;
}

bool entry_hide(struct cache_entry *e, uint64_t *ret_before)
{
	uint64_t old = u64_load_relaxed(&e->word); /* relaxed: compared */

	do {
		if (old & ENTRY_OPEN)
			return false;
		/* acq_rel: acquire as entry_kill(); release -> entry_unpin():
		 * the cause that was written before; retries as entry_pin() */
	} while (!u64_cas_weak_acq_rel(&e->word, &old, hidden(old)));
	*ret_before = old;
	return true;
}

bool entry_close(struct cache_entry *e)
{
	uint64_t old = u64_load_relaxed(&e->word); /* relaxed: compared */

	do {
		if (!(old & ENTRY_OPEN))
			return false;
		/* relaxed: sections_barrier() orders it with who pins in a
		 * slot; retries as entry_pin() */
	} while (!u64_cas_weak_relaxed(&e->word, &old,
				       (old & ~ENTRY_OPEN) | ENTRY_SHUT));
	return true;
}

bool entry_shut(struct cache_entry *e)
{
	uint64_t old = u64_load_relaxed(&e->word); /* relaxed: compared */

	/* relaxed: as entry_close() */
	while (!u64_cas_weak_relaxed(&e->word, &old,
				     (old & ~ENTRY_OPEN) | ENTRY_SHUT))
		;
	return old & ENTRY_OPEN;
}

void entry_unshut(struct cache_entry *e)
{
	uint64_t old = u64_load_relaxed(&e->word); /* relaxed: compared */

	/* release -> pin_slot_leave(): which pins were moved; retries as
	 * entry_pin() */
	while (!u64_cas_weak_release(&e->word, &old, old & ~ENTRY_SHUT))
		;
}

bool entry_park(struct cache_entry *e)
{
	uint64_t old = u64_load_relaxed(&e->word); /* relaxed: compared */

	do {
		if (!entry_pins(old))
			return false;
		/* relaxed: both sides of it run under the lock; retries as
		 * entry_pin() */
	} while (!u64_cas_weak_relaxed(&e->word, &old, old | ENTRY_PARKED));
	return true;
}

uint64_t entry_returned(struct cache_entry *e)
{
	uint64_t old = u64_load_relaxed(&e->word); /* relaxed: compared */

	/* acq_rel: acquire <- entry_unpin() (E3), if it died; release ->
	 * entry_unpin(), which may link it again; retries as entry_pin() */
	while (!u64_cas_weak_acq_rel(&e->word, &old, old & ~ENTRY_RETURNING))
		;
	return old & ~ENTRY_RETURNING;
}

uint64_t entry_loaded(struct cache_entry *e)
{
	uint64_t old = u64_load_relaxed(&e->word); /* relaxed: compared */

	/* release -> entry_pin(), entry_look(): the value; retries as
	 * entry_pin() */
	while (!u64_cas_weak_release(&e->word, &old, old & ~ENTRY_LOADING))
		;
	return old & ~ENTRY_LOADING;
}

/* ---- moves ---- */

bool entry_join(struct cache_entry *e, uint64_t *word)
{
	uint64_t old = entry_look(e), new;

	do {
		if (!entry_lives_on(*word, old) || (old & ENTRY_FULL))
			return false;
		new = old + ENTRY_PIN;
		if (entry_pins(old) <= 1)
			new &= ~ENTRY_MOVING;
		/* acquire <- entry_move_commit(), and as entry_pin(), as which
		 * it retries */
	} while (!u64_cas_weak_acquire(&e->word, &old, new));
	*word = new;
	return true;
}

/* Whether the only pin is there still. */
static bool is_alone(uint64_t word, uint64_t version)
{
	return entry_version(word) == version && entry_pins(word) == 1 &&
	       entry_state(word) == ENTRY_LIVE;
}

bool entry_move_begin(struct cache_entry *e, uint64_t version)
{
	uint64_t old = u64_load_relaxed(&e->word); /* relaxed: compared */

	do {
		if (!is_alone(old, version) || (old & ENTRY_LOADING))
			return false;
		/* acquire <- entry_unpin(): what was written under other pins;
		 * retries as entry_pin() */
	} while (!u64_cas_weak_acquire(&e->word, &old, old | ENTRY_MOVING));
	return true;
}

bool entry_move_commit(struct cache_entry *e, uint64_t version)
{
	uint64_t old = u64_load_relaxed(&e->word); /* relaxed: compared */

	do {
		if (!is_alone(old, version) || !(old & ENTRY_MOVING))
			return false;
		/* release -> entry_join(): where the value will be; retries as
		 * entry_pin() */
	} while (!u64_cas_weak_release(&e->word, &old, old + ENTRY_PIN));
	return true;
}

void entry_move_end(struct cache_entry *e)
{
	uint64_t old = u64_load_relaxed(&e->word); /* relaxed: compared */
	uint64_t new;

	do {
		new = (old - ENTRY_PIN) & ~ENTRY_MOVING;
		/* release -> entry_pin(), entry_join(): where the value is;
		 * retries as entry_pin() */
	} while (!u64_cas_weak_release(&e->word, &old, new));
}
