/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * The cold list of a region: slices that are unused, have no backing and are
 * not charged.  Its word is laid out as the region word is,
 *
 *   | 63..30 tag | 29 closed | 28..14 count | 13..0 head |
 *
 * and the links are the region's: a slice stands on one list at a time.
 *
 * | step                  | by              | slice is then                  |
 * | unused -> in hand     | cold_withdraw() | off the lists, charged         |
 * | in hand               | the caller      | discarded, then uncharged      |
 * | in hand -> cold       | cold_push()     | on the cold list               |
 * | in hand -> unused     | region_give()   | charged as before (a failure)  |
 * | cold -> handed out    | cold_pop()      | an owner's; charged before     |
 * Its generation stays even until it is handed out: so a wrong release of a
 * slice in hand is detected as that of any other free slice.
 *
 * Guarantees:
 * (C1) A slice is in one place: on one of the two lists, in one hand, or an
 *      owner's.  Each step off a list is a compare-exchange of its word, whose
 *      tag every change raises.
 * (C2) A slice on the cold list is neither backed nor charged, and nobody can
 *      own one that is not charged: discard, uncharge, push in this order;
 *      charge, pop in that one.  So charged <= limit covers all backing.
 * (C3) A region retires only while each of its slices is unused or cold, and
 *      no slice leaves either list afterwards.
 * (C4) A thread that stops anywhere holds back only what it has in hand, or
 *      the cold slices of the one region that it wanted to retire.
 * Withdraw, push and pop are lock-free (a retry means that another thread's
 * change of that word succeeded); close is lock-free, reopen wait-free.
 *
 * Why (C3): who retires closes the list while it holds as many slices as the
 * word that was seen lacks; from then on none is popped.  Then it exchanges
 * that word.  If that succeeds, no slice was taken, given or withdrawn since it
 * was seen, so those unused and those cold are all there are: none is out or
 * in hand, and so none can be pushed either.  A push that the closing counted
 * happened before it (release, acquire), and so did the withdrawing before
 * that push: the exchange can't overlook it.  If the exchange fails, the list
 * is opened again; what was pushed meanwhile stays.
 * The end of all use (R3) comes the same way: give, withdraw, push, close.
 */
#ifndef SEG_COLD_H
#define SEG_COLD_H

#include "region.h"

struct slice_set {
	uint64_t bits[REGION_MAX_SLICES / 64];
};

static inline bool slice_set_has(const struct slice_set *set, uint32_t slice)
{
	return set->bits[slice / 64] >> slice % 64 & 1;
}

static inline void slice_set_add(struct slice_set *set, uint32_t slice)
{
	set->bits[slice / 64] |= (uint64_t)1 << slice % 64;
}

/* The first member from a slice on; REGION_MAX_SLICES: none. */
uint32_t slice_set_next(const struct slice_set *set, uint32_t from);

/* The slices from that one on begin as cold; before publication. */
void cold_init(struct region *r, uint32_t from);

/*
 * Takes up to `want` slices in hand, those that were unused for longest, so
 * that what was never handed out goes first.  Their number; 0: none, or
 * retired.
 */
uint32_t cold_withdraw(struct region *r, uint32_t want,
		       struct slice_set *ret_set);

/* Puts slices in hand, at least one, on the cold list, first ones first. */
void cold_push(struct region *r, const struct slice_set *set, uint32_t count);

/* Whether there is one and the list open: worth a charge. */
bool cold_can_pop(const struct region *r);

/* Takes one that the caller has charged; false: none, or closed. */
bool cold_pop(struct region *r, uint32_t *ret_slice);

/* Closes the list while it holds so many; false: it does not, or is closed. */
bool cold_close(struct region *r, uint32_t count);
void cold_reopen(struct region *r);

#endif
