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
 *      generation (odd = handed out, 62 bits, never wraps) is moved by a
 *      compare-exchange first; or, if it has an owner, as claim.h says.
 * (R5) The struct and its arrays stay as long as the pool, for one region after
 *      another of that many slices, and no generation comes twice: the first of
 *      a life is above all before (`floor`).  So who has no read section may
 *      look at a slice, and learns from its generation whether it was right:
 *      see region_find_out().
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
	_Alignas(CACHE_LINE) struct atomic_ptr base_address;	/* or NULL */
	size_t slice_bytes;
	uint16_t slice_bits;		/* of slice_bytes */
	uint16_t class_index;
	uint32_t magazine_at;		/* of a stash: bytes from the first */
	uint32_t slices;
	uint32_t slot;			/* in the bands of its pool */
	struct class_pool *pool;
	struct atomic_u64 *generations;	/* per slice; odd: handed out */
	struct atomic_u16 *links;	/* per slice; relative to successor */
	struct atomic_u16 *owners;	/* per slice; whose stash may release
					 * it, see stash.h; 0: anybody */
	struct atomic_u64 *stray_bits;	/* per slice; see claim.h */
	struct atomic_u64 serial;	/* counts the allocator's regions */
	uint64_t floor;			/* all generations of former lives */
	struct atomic_u64 cold;		/* see cold.h */
	size_t bytes;			/* slices * slice_bytes */
	size_t arrays_bytes;		/* from generations on */
	bool born_small;		/* it never had a huge page */
	uint32_t away;			/* topology_away() when it was mapped */
	uint32_t low;			/* with fewer unused slices it asks for
					 * the next region; 0: never */
	struct atomic_u32 asked_ahead;	/* it has: see ahead.c */
	struct atomic_u32 backed;	/* what was never handed out, too */
	struct atomic_u64 split;	/* 2 MiB each: has no huge page any
					 * more; see decommit.c */
	struct atomic_u32 small_pages;	/* it gets no more of them */
	struct atomic_u32 kept_error;	/* why it could not be discarded ... */
	struct atomic_u64 kept_since_ns;	/* ... and when; 0: it could */
	/* the keeper's alone */
	uint64_t idle_word;		/* the word when last looked at ... */
	uint64_t idle_since_ns;		/* ... and since when it is that */
	bool stuck;			/* munmap was refused */
	struct atomic_u32 strays;	/* see claim.h */
	struct region *next_idle;	/* see class_pool.h */
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

/* Somebody who is not its owner has released it, see claim.h; and nobody has
 * taken that claim up. */
#define GENERATION_CLAIMED ((uint64_t)1 << 63)	/* its sign */
#define GENERATION_STRAY ((uint64_t)1 << 62)

static inline bool generation_is_out(uint64_t generation)
{
	return (int64_t)generation >= 0 && (generation & 1);
}

/* What a wrong release may read, too: see region_find_out(). */
static inline char *region_base(const struct region *r)
{
	/* relaxed: who relies on it has a slice, or is in a read section */
	return ptr_load_relaxed(&r->base_address);
}

static inline void region_set_base(struct region *r, void *base)
{
	/* relaxed: published with the region */
	ptr_store_relaxed(&r->base_address, base);
}

/* The slice that begins there; anything from `slices` on: none.  What is left
 * over in the low bits makes it large. */
static inline uint64_t region_slice_of(const struct region *r,
				       const void *address)
{
	uint64_t offset = (uint64_t)((const char *)address - region_base(r));

	return offset >> r->slice_bits | offset << (64 - r->slice_bits);
}

static inline uint64_t region_serial(const struct region *r)
{
	return u64_load_relaxed(&r->serial); /* relaxed: as region_base() */
}

static inline void *region_slice(const struct region *r, uint32_t slice)
{
	return region_base(r) + (size_t)slice * r->slice_bytes;
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

/* The bytes of its arrays for that many slices. */
size_t region_arrays_bytes(uint32_t slices);

/*
 * Sets up a zeroed struct and zeroed arrays as a region of which the caller
 * holds the first `taken` slices; base and the like are the caller's to set.
 */
void region_init(struct region *r, void *arrays, uint32_t slices,
		 uint32_t taken);

/* All slices are unused, nobody can find it any more, and no reader has: ready
 * for region_begin() with the next mapping, once its arrays hold zeros. */
void region_end(struct region *r);
void region_zero_arrays(struct region *r);
void region_begin(struct region *r, uint32_t taken);

/* Before region_end(): how many claims of its slices nobody has answered for.
 * All are lost. */
uint32_t region_drop_strays(struct region *r);

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

/* As region_take(), but they are not handed out: the caller parks them. */
uint32_t region_take_unused(struct region *r, uint32_t want,
			    uint32_t *ret_slices,
			    struct word_change *ret_change);

/* Decides who may give the slice back: true for one caller per hand-out. */
bool region_disown(struct region *r, uint32_t slice);

/* As region_disown(), for the hand-out with that generation only. */
bool region_disown_exactly(struct region *r, uint32_t slice,
			   uint64_t generation);

/* Gives disowned or parked slices back: one, or at least one. */
struct word_change region_give(struct region *r, uint32_t slice);
struct word_change region_give_all(struct region *r, const uint32_t *slices,
				   uint32_t count);

/* For who takes a slice off a list: it is the caller's alone from now on; true
 * if it never was anybody's. */
bool region_hand_out(struct region *r, uint32_t slice);

/* True for the one caller that retired it.  It stays with as many cold slices
 * as it has then. */
bool region_retire(struct region *r, uint64_t seen);

uint64_t region_generation(const struct region *r, uint32_t slice);

/* How many slices are handed out; exact while nobody takes or gives. */
uint32_t region_count_out(const struct region *r);

/* The lists, and how many slices are neither on one nor out; only while no
 * other thread is in a call. */
bool region_check(const struct region *r, uint32_t *ret_parked);
/* The same where none is parked. */
bool region_is_valid(const struct region *r);

#endif
