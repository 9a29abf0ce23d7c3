/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * A region: one mapped range, cut into slices of one class, and the one word
 * that decides everything about them:
 *
 *   | 63..30 tag | 29 retired | 28..14 unused | 13..0 head |
 *
 * head is the first free slice (meaningless while unused is 0); the links to
 * the others live in an array beside the region, so that a free slice is never
 * touched.  Kept relative to the natural successor, a zero-filled array is the
 * initial list, and mapping a region writes nothing.  The list has no end
 * mark: unused counts it off.
 *
 * Slices that are unused, without backing and not charged stand on a second
 * list with a word of its own: see cold.h.
 *
 * | from              | to       | by              | why nobody else can     |
 * | active            | active   | region_take()   | tag: the list is as read|
 * | active            | active   | region_give()   | the generation's winner |
 * | active            | active   | cold_withdraw() | tag: the list is as read|
 * | active, all unused| retired  | region_retire() | the CAS has one winner  |
 * | retired           | unmapped | the keeper      | deferred by that winner |
 * All unused: as many as there are, less those on the cold list while that is
 * closed, so that none leaves it.
 *
 * Guarantees:
 * (R1) A slice has one owner.  A take succeeds only if the word did not change
 *      since the list was read; every change raises the tag.
 * (R2) A region retires only while all its slices are unused, and no take
 *      succeeds afterwards: unused and retired are the same word.  With cold
 *      slices: (C3) in cold.h.
 * (R3) What an owner did to a slice happens before the next owner's take, and
 *      before the unmapping: give releases, take and retire acquire, and all
 *      are read-modify-writes of one word, so the release sequence is unbroken.
 * (R4) Of any number of releases of one hand-out one wins: the slice's
 *      generation (odd = handed out, 64 bits, never wraps) is moved by a
 *      compare-exchange first.
 * take and give are lock-free (a retry means that another thread's change of
 * the word succeeded); retire is wait-free.
 *
 * Is the tag wide enough?  The hazard is a taker that stops between its look
 * and its exchange while exactly a multiple of 2^34 changes of this one word
 * happen, the last of which restores head and count.  At 3 ns a change, with
 * nothing else going on, 2^34 take 51 s, and it must stop at 1 value of 2^34.
 * And should it happen all the same, it is seen and not obeyed: the slice
 * taken then has an odd generation, and region_take() ends the process.
 */
#ifndef SEG_REGION_H
#define SEG_REGION_H

#include <stddef.h>

#include "atomic.h"
#include "counter.h"
#include "work_queue.h"

enum { REGION_MAX_SLICES = 16384, REGION_ALIGN = 1 << 21 };

struct class_pool;

struct region {
	/* written by whoever takes, gives, retires */
	_Alignas(CACHE_LINE) struct atomic_u64 word;
	/* written before publication, read by all; but for cold, which changes
	 * at the limit only */
	_Alignas(CACHE_LINE) char *base;
	size_t slice_bytes;
	uint32_t slices;
	uint32_t slot;			/* in the bands of its pool */
	struct class_pool *pool;
	struct atomic_u64 *generations;	/* per slice; odd: handed out */
	struct atomic_u16 *links;	/* per slice; relative to successor */
	uint64_t serial;		/* counts the allocator's regions */
	struct atomic_u64 cold;		/* see cold.h */
	size_t bytes;			/* slices * slice_bytes */
	size_t own_bytes;		/* of this struct and its arrays */
	bool born_small;		/* it never had a huge page */
	uint32_t away;			/* topology_away() when it was mapped */
	struct atomic_u32 small_pages;	/* it gets no more of them */
	struct atomic_u32 kept_error;	/* why it could not be discarded ... */
	struct atomic_u64 kept_since_ns;	/* ... and when; 0: it could */
	/* the keeper's alone */
	uint64_t idle_word;		/* the word when last looked at ... */
	uint64_t idle_since_ns;		/* ... and since when it is that */
	bool stuck;			/* munmap was refused */
	struct work unmap;
};

#ifdef SEG_EXPLORE
extern uint64_t explore_tag_one;
#define REGION_TAG_ONE explore_tag_one
#else
#define REGION_TAG_ONE ((uint64_t)1 << 30)
#endif
#define REGION_TAG_MASK (~(((uint64_t)1 << 30) - 1))
#define REGION_RETIRED ((uint64_t)1 << 29)
#define REGION_INDEX_MASK ((uint32_t)REGION_MAX_SLICES - 1)

static inline uint32_t word_head(uint64_t word)
{
	return (uint32_t)word & REGION_INDEX_MASK;
}

static inline uint32_t word_unused(uint64_t word)
{
	return (uint32_t)(word >> 14) & 0x7fff;
}

static inline bool word_retired(uint64_t word)
{
	return word & REGION_RETIRED;
}

/* The count of the cold list's word, which looks the same; closed is where
 * retired is. */
#define COLD_CLOSED REGION_RETIRED

static inline uint32_t cold_word_count(uint64_t cold)
{
	return word_unused(cold);
}

/* The word that follows old: active, or open. */
static inline uint64_t word_next(uint64_t old, uint32_t head, uint32_t unused)
{
	return (((old & REGION_TAG_MASK) + REGION_TAG_ONE) & REGION_TAG_MASK) |
	       (uint64_t)unused << 14 | (head & REGION_INDEX_MASK);
}

static inline bool generation_is_out(uint64_t generation)
{
	return generation & 1;
}

static inline void *region_slice(const struct region *r, uint32_t slice)
{
	return r->base + (size_t)slice * r->slice_bytes;
}

/* How many slices are cold: neither backed nor charged. */
static inline uint32_t region_cold(const struct region *r)
{
	/* seq_cst: load after a change of the word, as bands_settle() says */
	return cold_word_count(u64_load_seq_cst(&r->cold));
}

/* What the budget is charged for it; exact while nobody decommits or takes
 * cold slices. */
static inline uint64_t region_charged(const struct region *r)
{
	return r->bytes - (uint64_t)region_cold(r) * r->slice_bytes;
}

/* Whether no slice was out or in hand when the word was that. */
static inline bool region_is_idle(const struct region *r, uint64_t word)
{
	return word_unused(word) + region_cold(r) == r->slices;
}

static inline uint32_t link_load(const struct region *r, uint32_t slice)
{
	/* relaxed: ordered by the word; a stale one fails the exchange */
	uint32_t step = u16_load_relaxed(&r->links[slice]);

	return (slice + 1 + step) & REGION_INDEX_MASK;
}

static inline void link_store(struct region *r, uint32_t slice, uint32_t next)
{
	uint32_t step = (next - slice - 1) & REGION_INDEX_MASK;

	/* relaxed: released by the exchange of the word that follows */
	u16_store_relaxed(&r->links[slice], (uint16_t)step);
}

/* The bytes of the struct with its arrays for that many slices. */
size_t region_own_bytes(uint32_t slices);

/*
 * Sets up zeroed memory of region_own_bytes() as a region of which the caller
 * holds the first `taken` slices; base and the like are the caller's to set.
 */
void region_init(struct region *r, uint32_t slices, uint32_t taken);

/* The word now: whether it is retired, how much is unused. */
uint64_t region_look(const struct region *r);

/* A change of the word: what it was and what it became. */
struct word_change {
	uint64_t old, new;
};

/*
 * Takes up to `want` slices in one step.  Their number; 0: none left or
 * retired, and then no change.  ret_fresh, if not NULL, says whether the last
 * of them was never handed out before.
 */
uint32_t region_take(struct region *r, uint32_t want, uint32_t *ret_slices,
		     bool *ret_fresh, struct word_change *ret_change);

/* Decides who may give the slice back: true for one caller per hand-out. */
bool region_disown(struct region *r, uint32_t slice);

/* As region_disown(), for the hand-out with that generation only. */
bool region_disown_exactly(struct region *r, uint32_t slice,
			   uint64_t generation);

/* Gives a disowned slice back. */
struct word_change region_give(struct region *r, uint32_t slice);

/* For who takes a slice off a list: it is the caller's alone from now on; true
 * if it never was anybody's. */
bool region_hand_out(struct region *r, uint32_t slice);

/* True for the one caller that retired it.  It stays with as many cold slices
 * as it has then. */
bool region_retire(struct region *r, uint64_t seen);

uint64_t region_generation(const struct region *r, uint32_t slice);

/* The equations and the list; only while no other thread is in a call. */
bool region_is_valid(const struct region *r);

#endif
