/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * A slice that one thread's stash owns is released by another thread.
 *
 * The owner releases by plain stores: in a section it looks at the generation
 * and, if that is out, makes it even.  So the other thread can't just change
 * it.  It claims the slice by a compare-exchange of its generation, which is
 * odd and stays so; from then on every look by anybody says "double release".
 * Only the owner, if it was in the middle of its own release, may not see that,
 * and store over it.  So the claimer has a barrier put into the owner's code
 * and looks whether the owner has left its section; once it has, the generation
 * says who won: still claimed, the claimer; anything else, the owner, and then
 * the segment was released twice at the same moment, which is reported.
 *
 * The barrier is for many claims at a time; until then they stand in the
 * claimer's stash.  Most are brought to the slice's owner, which needs none:
 * see inbox.h.  What can't be settled yet (the owner was stopped in its
 * section) stays there, or becomes a stray: a mark in the generation that says
 * that nobody has it in hand, and a bit of the slice's; whoever gathers takes
 * those up.  The owner may still store over the mark, so the bit says that
 * there is a claim to answer for: who clears it does, and finds the mark, or
 * reports that it was lost.
 *
 * Guarantees: (K1) Of an owner's release and a claim one wins: the owner's look
 * is before its store, in one section; if the look was before the claim, the
 * section ends with the store before the claimer looks.  (K2) A claim is in one
 * hand: it is made, and taken up from a stray, by a compare-exchange.  (K3) A
 * claimed slice is parked as far as its region knows, so that can't retire.
 * Claiming is wait-free, settling lock-free but for the barrier.
 */
#ifndef SEG_CLAIM_H
#define SEG_CLAIM_H

#include "load.h"

/* The thread's, in a section: the next place for a claim in its stash; NULL:
 * there is none. */
static inline struct claim *claim_place(struct stash *st)
{
	uint32_t at;

	if (!stash_is_open(st))
		return NULL;
	at = stash_claims(st);
	return at < STASH_CLAIMS ? &st->claim[at] : NULL;
}

/* So many stand there. */
static inline void claims_set(struct stash *st, uint32_t count)
{
	/* release -> stash.c, add(): what stands there */
	u32_store_release(&st->claim_count, count);
	compiler_barrier();	/* a fork finds it so */
}

/* It was made there. */
static inline void claim_stands(struct stash *st)
{
	seg_assert(stash_claims(st) < STASH_CLAIMS);
	claims_set(st, stash_claims(st) + 1);
}

/* Who asks for figures may look at what stands there: see stash.c, add(). */
static inline void claim_copy(struct claim *to, const struct claim *from)
{
	/* relaxed, both: as there */
	ptr_store_relaxed(&to->region, ptr_load_relaxed(&from->region));
	to->slice = from->slice;
	to->owner = from->owner;
	to->generation = from->generation;
}

/* False: it is not out any more with that generation. */
bool claim_make(struct claim *claim, struct region *r, uint32_t slice,
		uint64_t generation);

/*
 * Of up to STASH_BATCH claims that were made before a barrier, `ordered` being
 * what sections_barrier() said: what was won goes to its regions; what was lost
 * is reported; how many are open yet, at the front.  *ret_lost: the misuse
 * callback was called.
 */
uint32_t claims_settle(struct allocator *a, struct claim *claims,
		       uint32_t count, bool ordered, bool *ret_lost);

/* The same, and leaves what is open as strays; how many were not. */
uint32_t claims_settle_all(struct allocator *a, struct claim *claims,
			   uint32_t count, bool ordered);

/* The same in steps, where nothing more need be ordered: whether it was won;
 * what was goes to its regions; what was not is reported. */
bool claim_is_won(const struct claim *c);
void claims_give(struct claim *won, uint32_t count);
void claims_report_lost(struct allocator *a, const struct claim *lost,
			uint32_t count);

/* Takes up strays; true: some are settled. */
bool claims_settle_strays(struct allocator *a);

#endif
